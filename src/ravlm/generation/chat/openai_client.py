"""A client of OpenAI-compatible endpoints: their models, and chat replies as they arrive.

The format: https://platform.openai.com/docs/api-reference/chat"""

from __future__ import annotations

import json
from collections.abc import Generator as Stream
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple

from ravlm.errors import InvalidInput
from ravlm.generation.chat.openai_http import HttpClient, RetryPolicy, parse_address
from ravlm.generation.chat.reply import ReplyEnd, standard_reason
from ravlm.generation.chat.sse import read_events

_MAX_LISTED_MODELS = 8
_TEXT_PARTS = ("text", "output_text")
_REASONING_KEYS = ("reasoning_content", "reasoning")


class _Piece(NamedTuple):
    """What one event or message of a reply adds to it."""

    text: str = ""
    has_reasoning: bool = False
    refusal: str = ""
    finish_reason: str = ""


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

    def check_reachable(self) -> None:
        """Raise an error if nothing answers at the address, or if it serves no clear model."""
        self._client.check_reachable()
        _ = self.model

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
    ) -> Stream[str, None, ReplyEnd]:
        """Yield the reply to a conversation in pieces, as they arrive; return how it ended."""
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
                reply = self._parse_json(start + b"".join(chunks))
                piece = self._message_piece(reply)
                yield piece.text
                end = _extend(ReplyEnd(), piece, reply)
            else:
                end = yield from self._event_texts(chain([start], chunks))
        return replace(end, max_tokens=int(settings.get("max_tokens") or 0))

    def _event_texts(self, chunks: Iterator[bytes]) -> Stream[str, None, ReplyEnd]:
        """Yield the text of each event, and return how the reply ended.

        Raises BrokenData if the stream ends before the reply does."""
        num_characters = num_choices = 0
        is_finished = False
        end = ReplyEnd()
        event: Any = "[DONE]"
        for data in read_events(chunks):
            if data == "[DONE]":
                if not num_choices:
                    raise self._errors.wrong_format("no reply", event)
                return end
            event = self._parse_json(data.encode())
            choice = self._choice(event)
            piece = _Piece()
            if choice is not None:  # else token usage, or a sign of life
                num_choices += 1
                delta = choice.get("delta") or choice.get("message") or {}
                piece = self._piece(delta, choice, "an event without a piece of text", event)
            end = _extend(end, piece, event)
            if piece.text:
                num_characters += len(piece.text)
                yield piece.text
            is_finished = is_finished or bool(piece.finish_reason)
        if not is_finished:
            raise self._errors.cut_off(f"{num_characters:,} characters")
        return end

    def _message_piece(self, reply: Any) -> _Piece:
        choice = self._choice(reply)
        if choice is None:
            raise self._errors.wrong_format('no "choices"', reply)
        message = choice.get("message")
        if not isinstance(message, Mapping):
            raise self._errors.wrong_format("a reply without a message", reply)
        return self._piece(message, choice, "a reply without a message", reply)

    def _piece(self, message: Any, choice: Mapping[str, Any], problem: str, reply: Any) -> _Piece:
        """Return what a message, or the delta of an event, adds to the reply."""
        if not isinstance(message, Mapping):
            raise self._errors.wrong_format(problem, reply)
        content = message.get("content")
        has_reasoning = any(message.get(key) for key in _REASONING_KEYS)
        if isinstance(content, Sequence) and not isinstance(content, str):
            if not all(isinstance(part, str | Mapping) for part in content):
                raise self._errors.wrong_format(problem, reply)
            has_reasoning = has_reasoning or any(map(_is_thinking_part, content))
            content = "".join(map(_part_text, content))
        if not isinstance(content, str | None):
            raise self._errors.wrong_format(problem, reply)
        refusal, reason = message.get("refusal"), choice.get("finish_reason")
        return _Piece(
            text=content or "",
            has_reasoning=has_reasoning,
            refusal=refusal if isinstance(refusal, str) else "",
            finish_reason=reason if isinstance(reason, str) else "",
        )

    def _choice(self, reply: Any) -> Mapping[str, Any] | None:
        """Return the first choice of a reply or event; None if it has none."""
        if not isinstance(reply, Mapping):
            raise self._errors.wrong_format('no "choices"', reply)
        if reply.get("error"):
            raise self._errors.failed_reply(reply)
        choices = reply.get("choices")
        first = choices[0] if isinstance(choices, list) and choices else choices or None
        if not isinstance(first, Mapping | None):
            raise self._errors.wrong_format('no "choices"', reply)
        return first

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


def _part_text(part: str | Mapping[str, Any]) -> str:
    """Return the text of a part of a content list; thoughts and other parts have none."""
    if isinstance(part, str):
        return part
    text = part.get("text") if part.get("type", "text") in _TEXT_PARTS else ""
    return text if isinstance(text, str) else ""


def _is_thinking_part(part: str | Mapping[str, Any]) -> bool:
    return isinstance(part, Mapping) and part.get("type") in ("thinking", "reasoning")


def _extend(end: ReplyEnd, piece: _Piece, reply: Any) -> ReplyEnd:
    """Return how the reply ended, as far as it is known after one more piece."""
    usage = reply.get("usage") if isinstance(reply, Mapping) else None
    details = usage.get("completion_tokens_details") if isinstance(usage, Mapping) else None
    counted = isinstance(details, Mapping) and bool(details.get("reasoning_tokens"))
    return replace(
        end,
        finish_reason=standard_reason(piece.finish_reason or end.finish_reason),
        has_reasoning=end.has_reasoning or piece.has_reasoning or counted,
        refusal=end.refusal + piece.refusal,
    )
