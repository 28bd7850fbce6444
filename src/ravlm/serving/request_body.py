"""Request bodies: read where a route takes one, within limits for one and for all; parsed as JSON
outside the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ravlm.serving.engine import Engine
from ravlm.serving.errors import HttpError, response_to
from ravlm.serving.middleware import MAX_LENGTH_DIGITS, header

_BODY_METHODS = ("POST", "PUT", "PATCH")
_BODY_PATHS = "/v1/"
_SMALL_BODY = 65_536
"""Bytes of a body that is parsed in the event loop: 1 ms at most."""
_JSON_MARKS = (b'"', b",", b":", b"[", b"{")


class BodyLimit:
    """Reads the whole request body before the request is processed, within limits of size and time
    and of all bodies together. A body that no route takes is not read."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self.app = app
        self.engine = engine
        self.limits = engine.limits
        self._num_bytes = 0
        """Of all bodies that are held now."""
        engine.metrics.gauge(
            "ravlm_body_bytes", "Bytes of the request bodies in memory.", lambda: self._num_bytes
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body = _Body()
        try:
            await self._respond(scope, receive, send, body)
        finally:
            self._num_bytes -= body.num_bytes

    async def _respond(self, scope: Scope, receive: Receive, send: Send, body: _Body) -> None:
        is_api = scope["path"].startswith(_BODY_PATHS)
        try:
            if is_api and not self.engine.ready:
                raise HttpError(503, self.engine.unready_reason, retry_after=1)
            if is_api and scope["method"] in _BODY_METHODS:
                await asyncio.wait_for(self._read(scope, receive, body), self.limits.body_seconds)
        except TimeoutError:
            seconds = self.limits.body_seconds
            timeout = HttpError(408, f"The body did not arrive within {seconds:g} seconds.")
            await response_to(timeout)(scope, receive, send)
        except HttpError as error:
            await response_to(error)(scope, receive, send)
        else:
            if not body.is_disconnected:
                await self.app(scope, body.replay(receive), send)

    async def _read(self, scope: Scope, receive: Receive, body: _Body) -> None:
        length = header(scope, b"content-length")
        if length.isdecimal() and (
            len(length) > MAX_LENGTH_DIGITS or int(length) > self.limits.body
        ):
            raise self._too_large()
        has_more = True
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                body.is_disconnected = True
                return
            chunk = message.get("body", b"")
            body.chunks.append(chunk)
            body.num_bytes += len(chunk)
            self._num_bytes += len(chunk)
            if body.num_bytes > self.limits.body:
                raise self._too_large()
            if self._num_bytes > self.limits.bodies:
                raise HttpError(
                    429, "Too many large requests at the same time. Retry in a second.", 1
                )
            has_more = message.get("more_body", False)

    def _too_large(self) -> HttpError:
        return HttpError(
            413,
            f"The body is larger than {self.limits.body:,} bytes; send fewer or smaller images.",
        )


class _Body:
    """A request body as it arrives."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.num_bytes = 0
        self.is_disconnected = False

    def replay(self, receive: Receive) -> Receive:
        """Return a `receive` that gives the whole body at once, then what comes after it."""
        content = b"".join(self.chunks)
        self.chunks.clear()
        messages: Iterator[Message] = iter(
            [{"type": "http.request", "body": content, "more_body": False}]
        )
        del content

        async def replay() -> Message:
            return next(messages, None) or await receive()

        return replay


def json_route(max_marks: int) -> type[APIRoute]:
    """Return a class of routes whose JSON body is parsed in a thread, if it has at most `max_marks`
    quotes, commas, colons and brackets."""

    class JsonRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_json(request: Request) -> Response:
                return await handle(_JsonRequest(request.scope, request.receive, max_marks))

            return handle_json

    return JsonRoute


class _JsonRequest(Request):
    """A request whose JSON is parsed within a limit."""

    def __init__(self, scope: Scope, receive: Receive, max_marks: int) -> None:
        super().__init__(scope, receive)
        self._max_marks = max_marks

    async def json(self) -> Any:
        """Return the parsed body. Raises HTTPException (400) if it has too many values, and
        JSONDecodeError."""
        body = await self.body()
        if len(body) <= _SMALL_BODY:
            return json.loads(body)
        if sum(map(body.count, _JSON_MARKS)) > self._max_marks:
            raise HTTPException(400, "The body has too many keys and values; send less at a time")
        return await asyncio.get_running_loop().run_in_executor(None, json.loads, body)
