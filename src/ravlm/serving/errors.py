"""From an error to a response: a status and one sentence, in the form that OpenAI's clients read.

Knows the errors of ravlm; anything else is a fault of the server (500) and is told without details.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from ravlm.errors import (
    BrokenData,
    Busy,
    InvalidInput,
    Mismatch,
    MissingExtra,
    NotFound,
    RavlmError,
)


class HttpError(RavlmError):
    """A request that is refused for a reason of HTTP's."""

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.retry_after = status, retry_after


class NotFoundError(NotFound):
    """What the path of a request names is not there."""


_STATUS: tuple[tuple[type[RavlmError], int], ...] = (
    (NotFoundError, 404),
    (InvalidInput, 400),
    (BrokenData, 400),
    (NotFound, 400),  # something that a body names
    (MissingExtra, 501),
    (Busy, 503),
    (Mismatch, 503),
)
_KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    429: "rate_limit_error",
}  # fmt: skip
FAULT = "The server failed at this; its log says why."


class Json(Response):
    """A JSON response. What is not valid Unicode is replaced, whatever a client sent to be
    quoted."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content).encode("utf-8", "replace")


def to_json(content: Any) -> str:
    """JSON on one line."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)


def status_of(error: RavlmError) -> int:
    """The status that says what kind of error this is."""
    if isinstance(error, HttpError):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_body(status: int, sentence: str, param: str | None = None) -> dict[str, Any]:
    """The error as OpenAI's clients read it."""
    kind = _KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": sentence, "type": kind, "param": param, "code": None}}


def refusal(
    status: int, sentence: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> Json:
    """A response that refuses."""
    return Json(error_body(status, sentence, param), status, headers)


def refusal_of(error: RavlmError) -> Json:
    """The response to an error of ravlm."""
    status = status_of(error)
    after = error.retry_after if isinstance(error, HttpError) else 1 if status == 503 else None
    headers = {} if after is None else {"Retry-After": str(after)}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return refusal(status, " ".join(str(error).split()), None, headers)


def told(errors: list[dict[str, Any]]) -> tuple[str, str | None]:
    """What pydantic found wrong with a request, as one sentence, and the field it is about. Values
    aren't quoted.

    Where a field may be of several forms, the one that was meant is not of another type, and was
    followed deepest."""
    worst = max(errors, key=lambda error: (not error["type"].endswith("_type"), len(error["loc"])))
    if worst.get("type") == "json_invalid":
        return (
            f"The body is not valid JSON: {worst.get('ctx', {}).get('error', 'it ends too early')}.",
            None,
        )
    place = ".".join(
        str(part) for part in worst["loc"][1:] if isinstance(part, int) or _KEY.fullmatch(part)
    )
    return (
        f"{place or 'The body'}: {str(worst['msg']).rstrip('.')}; see /docs for what is allowed.",
        place or None,
    )


_KEY = re.compile("(?!str$|int$|bool$|list$|dict$|none$)[a-z_]+")
"""A field's name, where pydantic may also name a form: "constrained-str", "list[...]"."""
