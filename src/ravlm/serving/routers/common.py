"""What the routers share: adding routes, image URLs, server-sent events, documented errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, TypeAlias
from urllib.parse import quote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import StreamingResponse

from ravlm.errors import RavlmError
from ravlm.records import Answer, Entry, ImageUrl
from ravlm.serving.engine import Engine
from ravlm.serving.errors import error_body, public_message, status_of, to_json
from ravlm.serving.request_body import json_route
from ravlm.serving.response_schemas import ErrorResponse

END_OF_STREAM = "[DONE]"
_EVENT_SCHEMA = {
    "type": "object",
    "properties": {"data": {"type": "string", "description": "JSON; [DONE] at the end"}},
    "required": ["data"],
}
_ERROR_DESCRIPTIONS = {
    400: "The request is not valid",
    401: "The token is missing or wrong",
    403: "The request comes from another site or for another host name",
    404: "Not found",
    413: "The body is too large",
    429: "Too many requests",
    500: "The server failed",
    501: "A package is not installed on the server",
    503: "The server is starting or stopping",
    504: "The request took too long",
}
_COMMON_ERRORS = (400, 401, 403, 413, 429, 503, 504)
Event: TypeAlias = dict[str, Any]


def api_router(tag: str, engine: Engine) -> APIRouter:
    """Return a router whose JSON bodies are parsed within the engine's limits."""
    return APIRouter(tags=[tag], route_class=json_route(engine.limits.json_marks))


def add_route(
    router: APIRouter,
    method: str,
    path: str,
    endpoint: Callable[..., Any],
    response: type | dict[str, Any],
    *,
    also: Iterable[int] = (),
    streamed: bool = False,
    **options: Any,
) -> None:
    """Add a route and document it.

    `response` is the model of the response (or its OpenAPI description), `also` lists error
    statuses beyond the common ones, `streamed` documents server-sent events. `options` go to
    FastAPI."""
    description: dict[str, Any] = (
        {"model": response} if isinstance(response, type) else dict(response)
    )
    if streamed:
        description["content"] = {"text/event-stream": {"schema": _EVENT_SCHEMA}}
    responses = {200: description, **_error_responses(also)}
    router.add_api_route(
        path, endpoint, methods=[method], response_model=None, responses=responses, **options
    )


def _error_responses(also: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    statuses = sorted({*_COMMON_ERRORS, *also})
    return {
        status: {"model": ErrorResponse, "description": _ERROR_DESCRIPTIONS[status]}
        for status in statuses
    }


def base_address(request: Request) -> str:
    """Return the server's address as the client wrote it, with a slash at the end."""
    return str(request.base_url)


def image_urls(request: Request) -> ImageUrl:
    """Return the function that maps an entry to the URL of its image on this server."""
    address = base_address(request)

    def image_url(entry: Entry) -> str:
        return f"{address}v1/images/{quote(entry.id, safe='')}"

    return image_url


async def event_stream(
    items: AsyncIterator[str | Answer],
    on_piece: Callable[[str], Iterable[Event]],
    on_answer: Callable[[Answer], Iterable[Event]],
) -> StreamingResponse:
    """Return server-sent events: those of each piece, those of the answer, then [DONE].

    An error after the first item becomes an event, followed by [DONE]."""
    first_item = await anext(items)  # before the response starts, so an error sets its status

    def events_of(item: str | Answer) -> Iterable[str]:
        events = on_piece(item) if isinstance(item, str) else on_answer(item)
        return (_event_line(to_json(event)) for event in events)

    async def lines() -> AsyncIterator[str]:
        try:
            for line in events_of(first_item):
                yield line
            async for item in items:
                for line in events_of(item):
                    yield line
        except RavlmError as error:
            yield _event_line(to_json(error_body(status_of(error), public_message(error))))
        yield _event_line(END_OF_STREAM)

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines(), media_type="text/event-stream", headers=headers)


def _event_line(data: str) -> str:
    return f"data: {data}\n\n"
