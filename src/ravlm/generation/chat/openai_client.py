"""A client of OpenAI-compatible endpoints: their models, and chat replies as they arrive.

The format: https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from typing import Any

from ravlm.errors import InvalidInput
from ravlm.generation.chat.openai_http import HttpClient, RetryPolicy, parse_address
from ravlm.generation.chat.sse import read_events

_MAX_LISTED_MODELS = 8


class Endpoint:
    """An endpoint at `https://host/v1`, or `https://host/v1#model` if it serves several models.

    Methods raise NotFound (unreachable, or no such model), Busy (too slow, failing or rate
    limited), InvalidInput (key or request rejected) and BrokenData (a reply that is cut off, too
    long or in another format)."""

    def __init__(self, address: str, retry_policy: RetryPolicy | None = None) -> None:
        url, self._model = parse_address(address)
        self._client = HttpClient(url, retry_policy or RetryPolicy())
        self._errors = self._client.errors

    @property
    def address(self) -> str:
        """The address without the model's name."""
        return str(self._client.url)

    @property
    def model(self) -> str:
        """The model's name; the endpoint is asked if the address has none.

        Raises InvalidInput unless the endpoint serves exactly one model."""
        if not self._model:
            names = self.models()
            if len(names) != 1:
                listed = ", ".join(names[:_MAX_LISTED_MODELS]) or "none"
                dots = ", ..." if len(names) > _MAX_LISTED_MODELS else ""
                example = names[0] if names else "MODEL"
                raise InvalidInput(
                    f'The endpoint "{self.address}" serves {len(names)} models ({listed}{dots}). '
                    f"Put one after the address: {self.address}#{example}"
                )
            self._model = names[0]
        return self._model

    def models(self) -> list[str]:
        """Return the names of the served models."""
        body = self._client.stream("GET", "models", None, self._client.deadline())
        reply = self._parse_json(b"".join(body))
        models = reply.get("data") if isinstance(reply, Mapping) else None
        if not isinstance(models, list) or not all(map(_has_id, models)):
            raise self._errors.wrong_format("models without their ids", reply)
        return [model["id"] for model in models]

    def stream_chat(
        self, messages: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
    ) -> Iterator[str]:
        """Yield the reply to a conversation in pieces, as they arrive."""
        deadline = self._client.deadline()
        body = {"model": self.model, "messages": list(messages), "stream": True, **settings}
        chunks = self._client.stream("POST", "chat/completions", body, deadline)
        with closing(chunks):
            start = b""
            for chunk in chunks:
                start += chunk
                if start.strip():
                    break
            if start.lstrip().startswith((b"{", b"[")):  # the endpoint does not stream
                yield self._message_text(self._parse_json(start + b"".join(chunks)))
            else:
                yield from self._event_texts(chain([start], chunks))

    def _event_texts(self, chunks: Iterator[bytes]) -> Iterator[str]:
        """Yield the text of each event.

        Raises BrokenData if the stream ends before the reply does."""
        num_characters = 0
        is_finished = False
        for data in read_events(chunks):
            if data == "[DONE]":
                return
            event = self._parse_json(data.encode())
            if isinstance(event, Mapping) and event.get("choices") == []:  # token usage
                continue
            choice = self._first_choice(event)
            delta = choice.get("delta")
            text = delta.get("content") if isinstance(delta, Mapping) else 0
            if not isinstance(text, str | None):
                raise self._errors.wrong_format("an event without a piece of text", event)
            if text:
                num_characters += len(text)
                yield text
            is_finished = is_finished or choice.get("finish_reason") is not None
        if not is_finished:
            raise self._errors.cut_off(f"{num_characters:,} characters")

    def _message_text(self, reply: Any) -> str:
        message = self._first_choice(reply).get("message")
        text = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(text, str):
            raise self._errors.wrong_format("a reply without a message", reply)
        return text

    def _first_choice(self, reply: Any) -> Mapping[str, Any]:
        if isinstance(reply, Mapping) and reply.get("error"):
            raise self._errors.failed_reply(reply)
        choices = reply.get("choices") if isinstance(reply, Mapping) else None
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
            raise self._errors.wrong_format('no "choices"', reply)
        return choices[0]

    def _parse_json(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            text = data.decode("utf-8", errors="replace")
            raise self._errors.wrong_format("no JSON", text) from None


def is_address(name: str) -> bool:
    """Whether `name` is written like an endpoint's address."""
    return name.startswith(("http://", "https://"))


def _has_id(model: Any) -> bool:
    return isinstance(model, Mapping) and isinstance(model.get("id"), str)
