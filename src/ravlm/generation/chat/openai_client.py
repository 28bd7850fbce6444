"""An OpenAI-compatible endpoint over HTTP: its address and key, its models, and the words of a
reply as they come.

Knows no request and no evidence. The key goes to the host that was named and nowhere else:
redirects are not followed, and no message shows it. The format:
https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Generator as Stream
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn

from ravlm.errors import BrokenData, Busy, InvalidInput, NotFound, RavlmError
from ravlm.generation.chat.sse import read_events

if TYPE_CHECKING:
    import httpx2

KEY = "OPENAI_API_KEY"
"""The environment variable that holds the key."""
_OTHER_NAMES = {"max_tokens": "max_completion_tokens"}
"""Settings that newer models want under another name."""
_OPTIONAL = ("temperature", "seed")
"""Settings that some models refuse; for these they are left out."""
_MOST_TOLD = 300
"""Characters of an endpoint's own words in an error."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long an endpoint is waited for, in seconds, and how often it is asked."""

    connect: float = 10.0
    quiet: float = 120.0
    """Without a byte; the first request may have to load the model."""
    whole: float = 600.0
    """For one reply, asking again included."""
    tries: int = 4
    backoff: float = 1.0
    """Before the second try; doubled each time, with up to half of it more at random."""
    most_bytes: int = 8_000_000
    """Of one reply."""


class Endpoint:
    """`address`: `https://host/v1`, with the model's name behind a `#` where several are served.

    Methods raise NotFound (nobody there, no such model), Busy (too slow, failing, or too much asked
    of it), InvalidInput (the key or the request refused), BrokenData (cut off, too long, or in
    another format)."""

    def __init__(self, address: str, patience: RetryPolicy | None = None) -> None:
        import httpx2

        self.patience = patience or RetryPolicy()
        self._url, self._model = _read_address(address)
        self._key = _read_key()
        self._refuses: set[str] = set()
        timeout = httpx2.Timeout(self.patience.quiet, connect=self.patience.connect)
        headers = {"User-Agent": "ravlm", "Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._client = httpx2.Client(timeout=timeout, headers=headers, follow_redirects=False)

    @property
    def address(self) -> str:
        """Where it is, without the model's name."""
        return str(self._url)

    @property
    def model(self) -> str:
        """The model's name; asked for where the address has none. Raises InvalidInput unless there
        is one only."""
        if not self._model:
            names = self.models()
            if len(names) != 1:
                some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
                raise InvalidInput(
                    f'The endpoint "{self.address}" serves {len(names)} models ({some or "none"}); name one behind '
                    f"the address: {self.address}#{names[0] if names else 'MODEL'}."
                )
            self._model = names[0]
        return self._model

    def models(self) -> list[str]:
        """The names of the models that are served."""
        deadline = time.monotonic() + self.patience.whole
        reply = self._json(b"".join(self._bytes("GET", "models", None, deadline)))
        data = reply.get("data") if isinstance(reply, Mapping) else None
        if not isinstance(data, list) or not all(
            isinstance(m, Mapping) and isinstance(m.get("id"), str) for m in data
        ):
            self._nonsense("models without their ids", reply)
        return [model["id"] for model in data]

    def words(
        self, messages: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
    ) -> Iterator[str]:
        """Pieces of the reply to a talk, as they come."""
        deadline = time.monotonic() + self.patience.whole
        body = {"model": self.model, "messages": list(messages), "stream": True, **settings}
        chunks = self._bytes("POST", "chat/completions", body, deadline)
        with closing(chunks):
            start = b""
            for chunk in chunks:
                start += chunk
                if start.strip():
                    break
            if start.lstrip().startswith((b"{", b"[")):  # it does not stream
                yield self._text(self._json(start + b"".join(chunks)))
            else:
                yield from self._streamed(chain([start], chunks))

    def _streamed(self, chunks: Iterator[bytes]) -> Iterator[str]:
        said, ended = 0, False
        for data in read_events(chunks):
            if data == "[DONE]":
                return
            event = self._json(data.encode())
            if isinstance(event, Mapping) and event.get("choices") == []:  # what it cost
                continue
            choice = self._choice(event)
            delta = choice.get("delta")
            text = delta.get("content") if isinstance(delta, Mapping) else 0
            if not isinstance(text, str | None):
                self._nonsense("an event without a piece of text", event)
            if text:
                said += len(text)
                yield text
            ended = ended or choice.get("finish_reason") is not None
        if not ended:
            raise BrokenData(
                f'The endpoint "{self.address}" cut its reply off after {said:,} characters; ask again.'
            )

    def _text(self, reply: Any) -> str:
        message = self._choice(reply).get("message")
        text = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(text, str):
            self._nonsense("a reply without a message", reply)
        return text

    def _choice(self, reply: Any) -> Mapping[str, Any]:
        if isinstance(reply, Mapping) and reply.get("error"):
            raise Busy(
                f'The endpoint "{self.address}" broke off: {self._told(json.dumps(reply).encode())}; ask again.'
            )
        choices = reply.get("choices") if isinstance(reply, Mapping) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
            self._nonsense('no "choices"', reply)
        return choices[0]

    def _json(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            self._nonsense("no JSON", data.decode("utf-8", errors="replace"))

    def _nonsense(self, what: str, found: Any) -> NoReturn:
        told = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
        raise BrokenData(
            f'The endpoint "{self.address}" does not answer in the OpenAI format: it sends {what} '
            f'("{self._safe(told)}"); check the address, which mostly ends in /v1.'
        )

    # the way there and back

    def _bytes(
        self, method: str, route: str, body: dict[str, Any] | None, deadline: float
    ) -> Stream[bytes, None, None]:
        """What a reply brings, within the bounds."""
        import httpx2

        received = 0
        with closing(self._opened(method, route, body, deadline)) as reply:
            try:
                for chunk in reply.iter_raw():
                    received += len(chunk)
                    if received > self.patience.most_bytes:
                        raise BrokenData(
                            f'The endpoint "{self.address}" sends more than {self.patience.most_bytes:,} bytes, which '
                            "is no answer; check the address and the model."
                        )
                    if time.monotonic() > deadline:
                        raise self._slow(self.patience.whole)
                    yield chunk
            except httpx2.TimeoutException:
                raise self._slow(self.patience.quiet) from None
            except httpx2.TransportError:
                raise BrokenData(
                    f'The endpoint "{self.address}" cut its reply off after {received:,} bytes; ask again.'
                ) from None

    def _opened(
        self, method: str, route: str, body: dict[str, Any] | None, deadline: float
    ) -> httpx2.Response:
        """A reply that begins well; asked for again where that may help."""
        import httpx2

        url, tried = self._url.copy_with(path=f"{self._url.path}/{route}"), 0
        while True:
            wait = None
            try:
                content = None if body is None else json.dumps(self._accepted(body)).encode()
                headers = {} if body is None else {"Content-Type": "application/json"}
                request = self._client.build_request(method, url, content=content, headers=headers)
                reply = self._client.send(request, stream=True)
            except (
                httpx2.ConnectTimeout,
                httpx2.NetworkError,
                httpx2.RemoteProtocolError,
                httpx2.ProxyError,
            ) as fault:
                error: RavlmError = NotFound(
                    f'The endpoint "{self.address}" can\'t be reached ({self._safe(str(fault)) or "no reply"}); check '
                    "the address, and that it runs."
                )
            except httpx2.TimeoutException:
                raise self._slow(self.patience.quiet) from None
            except httpx2.TransportError as fault:
                raise InvalidInput(
                    f'"{self.address}" can\'t be asked: {self._safe(str(fault))}.'
                ) from None
            else:
                if reply.status_code == httpx2.codes.OK:
                    return reply
                with closing(reply):
                    told = _beginning(reply)
                    if self._learns(reply.status_code, told, body):
                        continue
                    error, wait = self._refusal(reply, told), _asked_wait(reply)
                if not _passing(reply.status_code):
                    raise error
            tried += 1
            if wait is None:
                wait = self.patience.backoff * 2 ** (tried - 1) * random.uniform(1, 1.5)  # noqa: S311 - no secret
            if tried >= self.patience.tries or time.monotonic() + wait > deadline:
                raise error
            time.sleep(wait)

    def _accepted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """`body` as this endpoint takes it, by what it refused before."""
        names = {
            name: _OTHER_NAMES.get(name, "") if name in self._refuses else name for name in body
        }
        return {names[name]: value for name, value in body.items() if names[name]}

    def _learns(self, status: int, told: bytes, body: Mapping[str, Any] | None) -> bool:
        """Whether a refusal names a setting that can be left out or has another name; it is from
        then on."""
        if status not in (400, 422) or body is None:
            return False
        text = told.decode("utf-8", errors="replace")
        new = {
            name for name in (*_OTHER_NAMES, *_OPTIONAL) if name in body and f"{name}" in text
        } - self._refuses
        self._refuses |= new
        return bool(new)

    def _refusal(self, reply: httpx2.Response, told: bytes) -> RavlmError:
        status, said = reply.status_code, self._told(told)
        where = f'The endpoint "{self.address}"'
        if status in (401, 403):
            what = "refuses the key" if self._key else "wants a key"
            return InvalidInput(
                f"{where} {what} ({status}: {said}); put a right one into the environment as {KEY}."
            )
        if reply.has_redirect_location or 300 <= status < 400:
            return InvalidInput(
                f"{where} sends on to another address, which is not followed, so that the key goes nowhere else; name "
                f'the right one ("{self._safe(reply.headers.get("location", "unknown"))}").'
            )
        if status == 404:
            return NotFound(
                f"{where} has no such model or page (404: {said}); check the address and the model's name."
            )
        if status == 429:
            return Busy(
                f"{where} lets no more through for now (429: {said}); ask later, or less often."
            )
        if _passing(status):
            return Busy(f"{where} fails ({status}: {said}); ask later, or look into its log.")
        hint = "; if the model reads no pictures, use RemoteGenerator(address, pictures=False)" * (
            b"image" in told
        )
        return InvalidInput(f"{where} refuses the request ({status}: {said}){hint}.")

    def _slow(self, seconds: float) -> Busy:
        return Busy(
            f'The endpoint "{self.address}" did not answer within {seconds:g} seconds; see whether it is still at '
            "work, or give it more time (Patience)."
        )

    def _told(self, data: bytes) -> str:
        """The endpoint's own words for what is wrong."""
        text = data.decode("utf-8", errors="replace")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        while isinstance(found, Mapping):
            found = next(
                (found[key] for key in ("error", "message", "detail") if found.get(key)), None
            )
        return self._safe(found if isinstance(found, str) else text) or "it says nothing"

    def _safe(self, text: str) -> str:
        """A text of the endpoint on one short line, and never with the key."""
        if self._key:
            text = text.replace(self._key, "***")
        text = " ".join(
            "".join(c if c.isprintable() else " " for c in text[: 4 * _MOST_TOLD]).split()
        )
        return (text if len(text) <= _MOST_TOLD else f"{text[:_MOST_TOLD]}...").rstrip(".")


def is_address(name: str) -> bool:
    """Whether `name` is written as an endpoint's address."""
    return name.startswith(("http://", "https://"))


def _read_address(address: str) -> tuple[httpx2.URL, str]:
    """The base of an endpoint's routes, and the model's name or an empty string."""
    import httpx2

    base, _, model = address.partition("#")
    try:
        url = httpx2.URL(base)
    except httpx2.InvalidURL as error:
        raise InvalidInput(
            f'"{base}" is no address ({error}); write it as http://host:port/v1#model.'
        ) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InvalidInput(
            f'"{base}" is no address of an endpoint; write it as http://host:port/v1#model.'
        )
    if url.userinfo:
        raise InvalidInput(
            f"The address of {url.host} has a password in it; put the key into the environment: {KEY}."
        )
    path = url.path.rstrip("/").removesuffix("/chat/completions")
    return url.copy_with(path=path or "/v1"), model.strip()


def _read_key() -> str:
    key = os.environ.get(KEY, "").strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInput(
            f"The environment variable {KEY} holds characters that no key has; set it again."
        )
    return key


def _passing(status: int) -> bool:
    """Whether asking again may help."""
    return status in (408, 429) or status >= 500


def _asked_wait(reply: httpx2.Response) -> float | None:
    """Seconds that the endpoint asks to wait for: a number, or a date."""
    text = reply.headers.get("retry-after", "").strip()
    try:
        if text.isdecimal():
            return float(text[:9])
        return (
            max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
            if text
            else None
        )
    except (ValueError, TypeError):
        return None


def _beginning(reply: httpx2.Response) -> bytes:
    """The first of what a refusal says."""
    import httpx2

    data = b""
    try:
        for chunk in reply.iter_raw():
            data += chunk
            if len(data) > 1 << 16:
                break
    except httpx2.TransportError:
        pass  # the status says enough
    return data[: 1 << 16]
