"""Errors of an endpoint as sentences for people. No message shows the key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ravlm.errors import BrokenData, Busy, InvalidInput, NotFound, RavlmError

if TYPE_CHECKING:
    import httpx2

KEY_VARIABLE = "OPENAI_API_KEY"
"""The environment variable with the key."""
_MAX_QUOTE = 300
"""Characters of an endpoint's own text in an error."""


def is_temporary(status: int) -> bool:
    """Whether a request with this HTTP status may succeed later."""
    return status in (408, 429) or status >= 500


class EndpointErrors:
    """Makes the errors of one endpoint."""

    def __init__(self, address: str, key: str) -> None:
        self._address = address
        self._key = key
        self._endpoint = f'The endpoint "{address}"'

    def unreachable(self, error: Exception) -> NotFound:
        reason = self._quote(str(error)) or "no reply"
        return NotFound(
            f"{self._endpoint} can't be reached ({reason}). Check the address, and that the "
            "server is running."
        )

    def unusable(self, error: Exception) -> InvalidInput:
        return InvalidInput(
            f'Cannot send a request to "{self._address}": {self._quote(str(error))}.'
        )

    def timeout(self, seconds: float) -> Busy:
        return Busy(
            f"{self._endpoint} did not answer within {seconds:g} seconds. Check that it is "
            "working, or allow more time (RetryPolicy)."
        )

    def too_long(self, max_bytes: int) -> BrokenData:
        return BrokenData(
            f"{self._endpoint} sent more than {max_bytes:,} bytes, which is not a chat reply. "
            "Check the address and the model."
        )

    def cut_off(self, amount: str) -> BrokenData:
        return BrokenData(f"{self._endpoint} cut its reply off after {amount}. Try again.")

    def failed_reply(self, reply: Mapping[str, Any]) -> Busy:
        reason = self._reason(json.dumps(reply).encode())
        return Busy(f"{self._endpoint} failed during the reply: {reason}. Try again.")

    def wrong_format(self, problem: str, reply: Any) -> BrokenData:
        text = reply if isinstance(reply, str) else json.dumps(reply, ensure_ascii=False)
        return BrokenData(
            f"{self._endpoint} does not answer in the OpenAI format: it sent {problem} "
            f'("{self._quote(text)}"). Check the address, which usually ends in /v1.'
        )

    def rejected(self, reply: httpx2.Response, body: bytes) -> RavlmError:
        """Return the error for an HTTP status other than 200."""
        status = reply.status_code
        reason = f"{status}: {self._reason(body)}"
        if status in (401, 403):
            problem = "rejected the key" if self._key else "requires a key"
            return InvalidInput(
                f"{self._endpoint} {problem} ({reason}). Set the environment variable "
                f"{KEY_VARIABLE} to a valid key."
            )
        if reply.has_redirect_location or 300 <= status < 400:
            location = self._quote(reply.headers.get("location", "unknown"))
            return InvalidInput(
                f'{self._endpoint} redirects to "{location}". Redirects are not followed, so that '
                "the key goes nowhere else; use the final address."
            )
        if status == 404:
            return NotFound(
                f"{self._endpoint} has no such model or page ({reason}). Check the address and "
                "the model's name."
            )
        if status == 429:
            return Busy(f"{self._endpoint} limits the rate ({reason}). Try later or less often.")
        if is_temporary(status):
            return Busy(f"{self._endpoint} failed ({reason}). Try later, or read its log.")
        hint = ""
        if b"image" in body:
            hint = (
                " If the model reads no images, use RemoteGenerator(address, reads_images=False)."
            )
        return InvalidInput(f"{self._endpoint} rejected the request ({reason}).{hint}")

    def _reason(self, body: bytes) -> str:
        """Return the endpoint's own explanation."""
        text = body.decode("utf-8", errors="replace")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        while isinstance(value, Mapping):
            keys = [key for key in ("error", "message", "detail") if value.get(key)]
            value = value[keys[0]] if keys else None
        return self._quote(value if isinstance(value, str) else text) or "no explanation"

    def _quote(self, text: str) -> str:
        """Return the endpoint's text on one short line, without the key."""
        if self._key:
            text = text.replace(self._key, "***")
        printable = (c if c.isprintable() else " " for c in text[: 4 * _MAX_QUOTE])
        text = " ".join("".join(printable).split())
        return (text if len(text) <= _MAX_QUOTE else f"{text[:_MAX_QUOTE]}...").rstrip(".")
