"""What every request passes before it is answered: who asks, from where, how large, how long; and
what is noted of it.

Three plain ASGI layers, the outermost first: Notes, Door, Body. Knows paths that need no token, and
no verb."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ravlm.serving.engine import Engine
from ravlm.serving.errors import HttpError, refusal_of
from ravlm.serving.logs import log
from ravlm.serving.settings import Settings, is_loopback

OPEN = ("/", "/health", "/ready", "/docs", "/openapi.json")
"""Paths that need no token: the page itself, which asks for it, and what says nothing of the
base."""
OPEN_FOLDER = "/page/"
_SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
]


def header(scope: Scope, name: bytes) -> str:
    """A request's header; empty where it is not there."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


class AccessLog:
    """Counts and logs each request, and gives every response the headers that keep browsers
    careful."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self.app, self.metrics = app, engine.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_SECURITY]
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            spent = time.perf_counter() - began
            of_page = scope["path"].startswith(OPEN_FOLDER) and status < 400
            route = "/page" if of_page else getattr(scope.get("route"), "path", None) or "none"
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.metrics.requests.add(method, route, str(status))
            self.metrics.seconds.observe(spent, route)
            size = header(scope, b"content-length")
            log(
                "request", method=method, route=route, status=status, seconds=round(spent, 4),
                body=int(size) if size.isdecimal() and len(size) < 16 else None,
            )  # fmt: skip


_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


class Auth:
    """Lets in who has the token, and no web site that was not named.

    Without a token everybody on this machine may come in, and then a page of another site in the
    same browser must not: it is known by its `Origin`, and where it rebinds a name of its own to
    this machine, by its `Host`."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self._origins, self._host = app, settings.origins, settings.host
        self._token = settings.token.encode() if settings.token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope)
            except HttpError as error:
                await refusal_of(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        host, origin = header(scope, b"host"), header(scope, b"origin")
        if origin and origin not in self._origins and urlsplit(origin).netloc != host:
            raise HttpError(
                403,
                "A page of another site may not call this server; start it with --allow-origin for it.",
            )
        if self._token is None:
            name = (
                (urlsplit(f"//{host}").hostname or "") if "]" in host or host.count(":") < 2 else ""
            )
            if not (is_loopback(name) or name == self._host):
                raise HttpError(
                    403, "Without a token this server is asked as localhost or 127.0.0.1 only."
                )
        elif not _is_open(scope["path"]) and scope["method"] != "OPTIONS":
            kind, _, given = header(scope, b"authorization").partition(" ")
            right = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._token)
            if not (right and kind.lower() == "bearer"):
                raise HttpError(
                    401, "A token is needed; send it as the header Authorization: Bearer TOKEN."
                )


def _is_open(path: str) -> bool:
    return path in OPEN or path.startswith(OPEN_FOLDER)


class BodyLimit:
    """Reads the body of a request before anything else is done: all of it, in time, and not too
    much."""

    def __init__(self, app: ASGIApp, engine: Engine) -> None:
        self.app, self.engine, self.limits = app, engine, engine.limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._read(scope, receive), self.limits.body_seconds)
            if not self.engine.ready and scope["path"].startswith("/v1/"):
                reason = (
                    "The server is stopping." if self.engine.stopping else self.engine.cold_reason
                )
                raise HttpError(503, reason, retry_after=1)
        except TimeoutError:
            late = HttpError(
                408, f"The body did not come within {self.limits.body_seconds:g} seconds."
            )
            await refusal_of(late)(scope, receive, send)
            return
        except HttpError as error:
            await refusal_of(error)(scope, receive, send)
            return
        if body is None:
            return
        messages: Iterable[Message] = iter(
            [{"type": "http.request", "body": body, "more_body": False}]
        )

        async def replayed() -> Message:
            return next(messages, None) or await receive()  # type: ignore[call-overload]

        await self.app(scope, replayed, send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body; None where the client went away."""
        most = self.limits.body
        announced = header(scope, b"content-length")
        if announced.isdecimal() and (len(announced) > 15 or int(announced) > most):
            raise HttpError(
                413, f"The body is larger than {most:,} bytes; send fewer or smaller pictures."
            )
        pieces, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            size += len(piece)
            if size > most:
                raise HttpError(
                    413, f"The body is larger than {most:,} bytes; send fewer or smaller pictures."
                )
            pieces.append(piece)
            if not message.get("more_body", False):
                return b"".join(pieces)
