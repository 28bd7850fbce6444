"""HTTP requests to an OpenAI-compatible endpoint: address, key, time and size limits, retries.

The key goes to the host of the address and nowhere else: redirects are not followed."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Generator as Stream
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ravlm.data.addresses import hide_password
from ravlm.errors import InvalidInput, RavlmError
from ravlm.generation.chat.openai_errors import KEY_VARIABLE, EndpointErrors, is_temporary

if TYPE_CHECKING:
    import httpx2

_OTHER_NAMES = {"max_tokens": "max_completion_tokens"}
"""Settings that newer models expect under another name."""
_OPTIONAL_SETTINGS = ("temperature", "seed")
"""Settings that some models reject; they are left out for these."""
_DEAD_STATUSES = (401, 502, 504)
"""Statuses that no request will survive: a wrong key, or a gateway without a server behind it."""
_MAX_ERROR_BYTES = 1 << 16


@dataclass(frozen=True)
class RetryPolicy:
    """How long to wait for an endpoint, in seconds, and how often to try."""

    connect_timeout: float = 10.0
    read_timeout: float = 120.0
    """Without a byte; for the first request the server may have to load the model."""
    total_timeout: float = 600.0
    """For one reply, including retries."""
    max_attempts: int = 4
    backoff: float = 1.0
    """Before the second attempt; doubled each time, plus up to half of it at random."""
    max_bytes: int = 8_000_000
    """Of one reply."""

    def wait(self, attempt: int) -> float:
        """Return the seconds to wait after the attempt of that number, from 1."""
        return self.backoff * 2 ** (attempt - 1) * random.uniform(1, 1.5)  # noqa: S311 - no secret


class HttpClient:
    """Sends requests to the routes below `url`.

    Methods raise NotFound (unreachable, or no such model), Busy (too slow, failing or rate
    limited), InvalidInput (key or request rejected) and BrokenData (cut off or too long)."""

    def __init__(self, url: httpx2.URL, policy: RetryPolicy) -> None:
        import httpx2

        self.url = url
        self.policy = policy
        key = _read_key()
        self.errors = EndpointErrors(str(url), key)
        self._rejected_settings: set[str] = set()
        headers = {"User-Agent": "ravlm", "Accept-Encoding": "identity"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._client = httpx2.Client(headers=headers, follow_redirects=False)

    def check_reachable(self) -> None:
        """Raise an error unless something answers at the address and accepts the key."""
        seconds = self.policy.connect_timeout
        reply = self._send("GET", "models", None, seconds)
        if isinstance(reply, RavlmError):
            raise reply
        with closing(reply):
            if reply.status_code in _DEAD_STATUSES:
                raise self.errors.rejected(reply, _read_start(reply))

    def deadline(self) -> float:
        """Return when a reply that is requested now must be complete."""
        return time.monotonic() + self.policy.total_timeout

    def stream(
        self, method: str, route: str, body: dict[str, Any] | None, deadline: float
    ) -> Stream[bytes, None, None]:
        """Yield the bytes of a reply as they arrive."""
        import httpx2

        received = 0
        with closing(self._request(method, route, body, deadline)) as reply:
            try:
                for chunk in reply.iter_raw():
                    received += len(chunk)
                    if received > self.policy.max_bytes:
                        raise self.errors.too_long(self.policy.max_bytes)
                    if time.monotonic() > deadline:
                        raise self.errors.timeout(self.policy.total_timeout)
                    yield chunk
            except httpx2.TimeoutException:
                raise self.errors.timeout(self.policy.read_timeout) from None
            except httpx2.TransportError:
                raise self.errors.cut_off(f"{received:,} bytes") from None

    def _request(
        self, method: str, route: str, body: dict[str, Any] | None, deadline: float
    ) -> httpx2.Response:
        """Return a reply with status 200; retry what is temporary."""
        attempt = 1
        while True:
            wait: float | None = None
            result = self._send(method, route, body)
            if isinstance(result, RavlmError):
                error = result
            elif result.status_code == 200:
                return result
            else:
                with closing(result):
                    text = _read_start(result)
                if self._learns(result.status_code, text, body):
                    continue
                error = self.errors.rejected(result, text)
                wait = _retry_after(result)
                if not is_temporary(result.status_code):
                    raise error
            wait = self.policy.wait(attempt) if wait is None else wait
            if attempt >= self.policy.max_attempts or time.monotonic() + wait > deadline:
                raise error
            attempt += 1
            time.sleep(wait)

    def _send(
        self,
        method: str,
        route: str,
        body: dict[str, Any] | None,
        read_timeout: float | None = None,
    ) -> httpx2.Response | RavlmError:
        """Return the reply, or the error if the endpoint could not be reached this time."""
        import httpx2

        read_timeout = self.policy.read_timeout if read_timeout is None else read_timeout
        timeout = httpx2.Timeout(read_timeout, connect=self.policy.connect_timeout)
        url = self.url.copy_with(path=f"{self.url.path}/{route}")
        content = None if body is None else json.dumps(self._adapt(body)).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        try:
            request = self._client.build_request(
                method, url, content=content, headers=headers, timeout=timeout
            )
            return self._client.send(request, stream=True)
        except (
            httpx2.ConnectTimeout,
            httpx2.NetworkError,
            httpx2.RemoteProtocolError,
            httpx2.ProxyError,
        ) as error:
            return self.errors.unreachable(error)
        except httpx2.TimeoutException:
            raise self.errors.timeout(read_timeout) from None
        except httpx2.TransportError as error:
            raise self.errors.unusable(error) from None

    def _adapt(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Rename or leave out the settings that this endpoint rejected before."""
        adapted = {}
        for name, value in body.items():
            if name not in self._rejected_settings:
                adapted[name] = value
            elif name in _OTHER_NAMES:
                adapted[_OTHER_NAMES[name]] = value
        return adapted

    def _learns(self, status: int, text: bytes, body: Mapping[str, Any] | None) -> bool:
        """Whether the error names a setting that can be renamed or left out from now on."""
        if status not in (400, 422) or body is None:
            return False
        message = text.decode("utf-8", errors="replace")
        settings = (*_OTHER_NAMES, *_OPTIONAL_SETTINGS)
        culprits = {name for name in settings if name in body and name in message}
        new = culprits - self._rejected_settings
        self._rejected_settings |= new
        return bool(new)


def parse_address(address: str) -> tuple[httpx2.URL, str]:
    """Return the URL below which the routes are, and the model's name or "".

    Raises InvalidInput for an address that is not one of an endpoint."""
    import httpx2

    base, _, model = address.partition("#")
    form = "write it as http://host:port/v1#model"
    try:
        url = httpx2.URL(base)
    except httpx2.InvalidURL as error:
        reason = "" if "@" in base else f" ({error})"  # it may quote a password
        raise InvalidInput(
            f'"{hide_password(base)}" is not a valid address{reason}; {form}.'
        ) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidInput(f'"{hide_password(base)}" is not the address of an endpoint; {form}.')
    if url.userinfo:
        raise InvalidInput(
            f"The address of {url.host} contains a password. Set the environment variable "
            f"{KEY_VARIABLE} instead."
        )
    path = url.path.rstrip("/").removesuffix("/chat/completions")
    return url.copy_with(path=path or "/v1"), model.strip()


def _read_key() -> str:
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInput(
            f"The environment variable {KEY_VARIABLE} contains characters that no key has; set it "
            "again."
        )
    return key


def _retry_after(reply: httpx2.Response) -> float | None:
    """Return the seconds that the endpoint asks to wait, given as a number or a date."""
    text = reply.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text) if text else None
        return None if date is None else max(0.0, (date - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _read_start(reply: httpx2.Response) -> bytes:
    """Return the beginning of an error's body."""
    import httpx2

    data = b""
    try:
        for chunk in reply.iter_raw():
            data += chunk
            if len(data) > _MAX_ERROR_BYTES:
                break
    except httpx2.TransportError:
        pass  # the status says enough
    return data[:_MAX_ERROR_BYTES]
