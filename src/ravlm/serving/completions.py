"""Answers as chat completions of the OpenAI API: whole or in chunks, with citations.

Citations are in the fields that OpenAI clients show (`annotations`), as addresses in `citations`,
and the evidence is in `evidence`."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any
from urllib.parse import quote

from ravlm.data.facts import entity_name
from ravlm.generation.base import split_pieces
from ravlm.records import Answer, ImageUrl
from ravlm.regions import Box

MODEL = "ravlm"
_CITATION_MARK = re.compile(r"\[(\d{1,3})\]")


def count_tokens(text: str) -> int:
    """Return the number of words and Chinese characters: the unit of `usage` and `max_tokens`."""
    return len(split_pieces(text))


class ChatCompletion:
    """One chat completion, cut off after `max_tokens`.

    `address` is that of the server, with a slash at the end. Either call `complete` once, or
    `on_piece` for each piece and then `on_answer`."""

    def __init__(
        self,
        address: str,
        image_url: ImageUrl,
        prompt: Sequence[str],
        max_tokens: int,
        include_usage: bool = False,
    ) -> None:
        self._address = address
        self._image_url = image_url
        self._max_tokens = max_tokens
        self._include_usage = include_usage
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._num_prompt_tokens = sum(map(count_tokens, prompt))
        self._num_tokens = 0
        self._num_characters = 0
        self._role_sent = False

    def complete(self, answer: Answer) -> dict[str, Any]:
        """Return the whole completion."""
        text = self._limited(answer.text)
        message = {
            "role": "assistant",
            "content": text,
            "annotations": self._annotations(answer, len(text)),
        }
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": self._finish_reason(answer),
            "logprobs": None,
        }
        self._num_tokens = min(self._num_tokens, self._max_tokens)
        completion = self._envelope("chat.completion", [choice])
        return completion | self._extensions(answer) | {"usage": self._usage()}

    def on_piece(self, piece: str) -> Iterable[dict[str, Any]]:
        """Yield the chunk of a piece; before the first one, the role."""
        text = self._limited(piece)
        yield from self._role_chunk()
        if text:
            yield self._chunk({"content": text})

    def on_answer(self, answer: Answer) -> Iterable[dict[str, Any]]:
        """Yield the last chunks: citations and evidence, then `usage` if the client wants it."""
        yield from self._role_chunk()
        delta = {"annotations": self._annotations(answer, self._num_characters)}
        yield self._chunk(delta, self._finish_reason(answer)) | self._extensions(answer)
        self._num_tokens = min(self._num_tokens, self._max_tokens)
        if self._include_usage:
            yield self._envelope("chat.completion.chunk", []) | {"usage": self._usage()}

    def _limited(self, text: str) -> str:
        """Return the beginning of a text that the limit of tokens still allows, and count it."""
        tokens = split_pieces(text)
        remaining = max(0, self._max_tokens - self._num_tokens)
        limited_text = "".join(islice(tokens, remaining))
        self._num_tokens += len(tokens)
        self._num_characters += len(limited_text)
        return limited_text

    def _role_chunk(self) -> Iterable[dict[str, Any]]:
        if not self._role_sent:
            self._role_sent = True
            yield self._chunk({"role": "assistant", "content": ""})

    def _finish_reason(self, answer: Answer) -> str:
        """Return why the text ended: here, or already where it was generated."""
        if self._num_tokens > self._max_tokens:
            return "length"
        reason = answer.trace.get("finish_reason")
        return reason if reason in ("length", "content_filter") else "stop"

    def _annotations(self, answer: Answer, length: int) -> list[dict[str, Any]]:
        """Return the annotations that lie within the first `length` characters."""
        annotations = citation_annotations(answer, self._address)
        return [a for a in annotations if a["url_citation"]["end_index"] <= max(length, 1)]

    def _extensions(self, answer: Answer) -> dict[str, Any]:
        """Return ravlm's own fields."""
        fields = answer.to_dict(self._image_url)
        return {
            "citations": citation_urls(answer, self._address),
            "sources": fields["sources"],
            "evidence": fields["evidence"],
            "abstained": fields["abstained"],
            "confidence": fields["confidence"],
            "closed_book": bool(answer.trace.get("closed_book")),
        }

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}
        return self._envelope("chat.completion.chunk", [choice])

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": MODEL,
            "choices": choices,
        }

    def _usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self._num_prompt_tokens,
            "completion_tokens": self._num_tokens,
            "total_tokens": self._num_prompt_tokens + self._num_tokens,
        }


def citation_urls(answer: Answer, address: str) -> list[str]:
    """Return where the page shows each cited entry, in the order of the marks [1], [2].

    Where a box is cited, the page highlights it.
    """
    boxes = {source.entry_id: source.part.box for source in answer.sources}
    return [
        f"{address}#entry={quote(entry_id, safe='')}{_box_query(boxes.get(entry_id))}"
        for entry_id in answer.citations
    ]


def _box_query(box: Box | None) -> str:
    return "" if box is None else f"&box={','.join(f'{value:.4f}' for value in box)}"


def citation_annotations(answer: Answer, address: str) -> list[dict[str, Any]]:
    """Return the citations as annotations of the OpenAI API.

    A mark [1] points to the first cited entry. If the text has no marks, each citation covers the
    whole text."""
    urls = citation_urls(answer, address)
    titles = _titles(answer)
    marks = [(int(m[1]) - 1, m.start(), m.end()) for m in _CITATION_MARK.finditer(answer.text)]
    spans = [mark for mark in marks if 0 <= mark[0] < len(urls)]
    if not spans:
        spans = [(index, 0, len(answer.text)) for index in range(len(urls))]
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "url": urls[index],
                "title": titles[index],
                "start_index": start,
                "end_index": end,
            },
        }
        for index, start, end in spans
    ]


def _titles(answer: Answer) -> list[str]:
    """Return the name of each cited entry, or its id if it has no name."""
    entries = {hit.entry.id: hit.entry for hit in answer.evidence}
    return [
        (entity_name(entries[entry_id]) or entry_id) if entry_id in entries else entry_id
        for entry_id in answer.citations
    ]
