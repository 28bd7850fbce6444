"""Map errors to HTTP responses: a status and one sentence, in the form that OpenAI clients read.

Errors of ravlm have a status of their own; any other exception is a server fault (500) and is
reported without details. No message shows where files are or what is in them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from ravlm.errors import (
    BrokenData,
    Busy,
    DamagedBase,
    DiskError,
    InvalidInput,
    Mismatch,
    MissingExtra,
    NotFound,
    RavlmError,
)


class HttpError(RavlmError):
    """A request is refused for a reason of HTTP: access, size, time or load.

    `retry_after` is the value of the Retry-After header, in seconds."""

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class NotFoundError(NotFound):
    """The entry, image or model in the path of a request does not exist (404)."""


_STATUS_BY_ERROR: tuple[tuple[type[RavlmError], int], ...] = (
    (NotFoundError, 404),
    (InvalidInput, 400),
    (DamagedBase, 503),
    (DiskError, 503),
    (BrokenData, 400),
    (NotFound, 400),  # something that the body names
    (MissingExtra, 501),
    (Busy, 503),
    (Mismatch, 503),
)
_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
SERVER_FAULT = "The server failed to process this request. See its log for the reason."
DAMAGED_BASE = (
    "The knowledge base is damaged. The server's log says what; `ravlm verify` checks it."
)
_DISK_FAULT = "The server's disk is full or fails; its log says which."
_QUOTED_PATH = re.compile(
    r"""(["'])(?:/|~/|[A-Za-z]:[\\/]|\\\\)(?:[^"'\n]*[\\/])?([^"'\\/\n]*)\1"""
)
"""An absolute path in quotation marks, and its last part."""
_FIRST_BYTES = re.compile(r"""\s?\(it begins with b(["']).*?\1\)""")
"""The first bytes of a file, as `load_image` quotes them."""


class JsonResponse(Response):
    """A JSON response. Characters that are not valid Unicode are replaced, since an error may quote
    what a client sent."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content).encode("utf-8", "replace")


def to_json(content: Any) -> str:
    """Return `content` as JSON on one line."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str)


def status_of(error: RavlmError) -> int:
    """Return the HTTP status of an error."""
    if isinstance(error, HttpError):
        return error.status
    statuses = (status for kind, status in _STATUS_BY_ERROR if isinstance(error, kind))
    return next(statuses, 500)


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    """Return the JSON body of an error, as OpenAI clients read it."""
    fallback = "invalid_request_error" if status < 500 else "server_error"
    error_type = _ERROR_TYPES.get(status, fallback)
    return {"error": {"message": message, "type": error_type, "param": param, "code": None}}


def error_response(
    status: int, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> JsonResponse:
    """Return the response with a status and a message."""
    return JsonResponse(error_body(status, message, param), status, headers)


def response_to(error: RavlmError) -> JsonResponse:
    """Return the response to an error of ravlm."""
    status = status_of(error)
    if isinstance(error, HttpError):
        retry_after = error.retry_after
    else:
        retry_after = 1 if status == 503 else None
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return error_response(status, public_message(error), None, headers)


def public_message(error: RavlmError) -> str:
    """Return the message of an error for clients: on one line, without what it says of files."""
    if isinstance(error, DamagedBase):
        return DAMAGED_BASE
    if isinstance(error, DiskError):
        return _DISK_FAULT
    message = " ".join(str(error).split())
    is_about_request = isinstance(error, HttpError | InvalidInput | NotFoundError)
    return message if is_about_request else hide_files(message)


def hide_files(message: str) -> str:
    """Return a message with the names of files in place of their paths, and without their content.

    >>> hide_files('There is no image "/srv/kb/pictures/ab.png"; check the path.')
    'There is no image "ab.png"; check the path.'
    """
    return _FIRST_BYTES.sub("", _QUOTED_PATH.sub(r"\1\2\1", message))


def describe_validation_errors(errors: list[dict[str, Any]]) -> tuple[str, str | None]:
    """Return one sentence for the errors that pydantic found, and the field it is about.

    If a field allows several forms, pydantic reports an error for each. The relevant one is not a
    type error and has the deepest location. Values are not quoted."""
    relevant = max(
        errors, key=lambda error: (not error["type"].endswith("_type"), len(error["loc"]))
    )
    if relevant.get("type") == "json_invalid":
        reason = relevant.get("ctx", {}).get("error", "it ends too early")
        return f"The body is not valid JSON: {reason}.", None
    parts = relevant["loc"][1:]
    field = ".".join(
        str(part) for part in parts if isinstance(part, int) or _FIELD_NAME.fullmatch(part)
    )
    reason = str(relevant["msg"]).rstrip(".")
    return f"{field or 'The body'}: {reason}; see /docs for what is allowed.", field or None


_FIELD_NAME = re.compile("(?!str$|int$|bool$|list$|dict$|none$)[a-z_]+")
"""A field name. Pydantic also puts the names of forms into a location ("list[...]")."""
