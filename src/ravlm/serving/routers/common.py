"""What routes share: how a request reaches the engine, streams as server-sent events, and the
errors a page shows.

Knows the engine and the wire, no verb.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import StreamingResponse

from ravlm.errors import RavlmError
from ravlm.records import Answer
from ravlm.serving.errors import error_body, status_of, to_json
from ravlm.serving.schemas import ErrorFound

DONE = "[DONE]"
_EVENT = {
    "type": "object",
    "properties": {"data": {"type": "string", "description": "JSON, and [DONE] at the end"}},
    "required": ["data"],
}
Event = dict[str, Any]


def add(
    routes: APIRouter, method: str, path: str, do: Callable[..., Any], model: Any, **more: Any
) -> None:
    """Add a route: `model` is what the OpenAPI page shows of its answer, and `also` what else it
    may answer; `streamed`: where the client wants it, as server-sent events."""
    answer: dict[str, Any] = {"model": model} if isinstance(model, type) else dict(model)
    if more.pop("streamed", False):
        answer["content"] = {"text/event-stream": {"schema": _EVENT}}
    shown = {200: answer, **errors(*more.pop("also", ()))}
    routes.add_api_route(path, do, methods=[method], response_model=None, responses=shown, **more)


def base_of(request: Request) -> str:
    """The server's address as its client wrote it, with a slash at its end."""
    return str(request.base_url)


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI page: what else a route may answer."""
    always = (400, 401, 403, 413, 429, 503, 504)
    return {
        status: {"model": ErrorFound, "description": _WHY[status]}
        for status in sorted({*always, *statuses})
    }


_WHY = {
    400: "What was sent is not allowed",
    401: "The token is missing or wrong",
    403: "Another site, or another name of this machine",
    404: "There is no such thing",
    413: "The body is too large",
    429: "Too many requests wait",
    500: "The server failed",
    501: "Not installed here",
    503: "The server is starting or stopping",
    504: "It took too long",
}


async def event_stream(
    stream: AsyncIterator[str | Answer],
    on_piece: Callable[[str], Iterable[Event]],
    on_answer: Callable[[Answer], Iterable[Event]],
) -> StreamingResponse:
    """Server-sent events: those of each piece as it comes, those of the answer, and [DONE].

    An error on the way is an event of its own, and the end.
    """
    first = await anext(stream)  # before a response begins, so that a refusal has its status

    async def lines() -> AsyncIterator[str]:
        try:
            for event in _events(first, on_piece, on_answer):
                yield event
            async for item in stream:
                for event in _events(item, on_piece, on_answer):
                    yield event
        except RavlmError as error:
            yield _line(to_json(error_body(status_of(error), " ".join(str(error).split()))))
        yield _line(DONE)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


def _events(
    item: str | Answer,
    on_piece: Callable[[str], Iterable[Event]],
    on_answer: Callable[[Answer], Iterable[Event]],
) -> Iterable[str]:
    events = on_piece(item) if isinstance(item, str) else on_answer(item)
    return (_line(to_json(event)) for event in events)


def _line(data: str) -> str:
    return f"data: {data}\n\n"
