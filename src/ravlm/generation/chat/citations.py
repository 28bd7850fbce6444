"""From a chat model's text to an answer: marks such as [2] become citations, and "not in the
knowledge base" becomes an abstention.

Text is parsed piece by piece, so a stream and a whole text give the same answer. In the finished
text [1] is the first of the answer's citations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.data.text import split_sentences
from ravlm.generation.base import ABSENT, Request, abstain
from ravlm.records import Answer

_NUMBERS = r"\d{1,3}(?:\s?[,，;；、–-]\s?\d{1,3}){0,15}"
_MARK = re.compile(rf"( ?)[\[【]({_NUMBERS})[\]】]")
_POSSIBLE_MARKS = re.compile(
    r"(?:\s{0,9}[\[【][\d\s,，;；、–-]{1,60}[\]】]){0,9}\s{0,9}(?:[\[【][\d\s,，;；、–-]{0,60})?"
    r"[.。!！?？]{0,3}\s{0,9}$"
)
"""The end of a partial text that may turn out to be marks."""
_ABSENT_PHRASES = {False: "not in the knowledge base", True: "知识库中没有"}
_THOUGHT_START = "<think>"
_THOUGHT_END = "</think>"
_MIN_OVERLAP = 0.5
"""Fraction of an answer's words that an entry must contain to be its source, if the answer has no
marks."""
_MAX_CITATIONS_BY_WORDS = 3


class CitationParser:
    """Parses the text of one request, piece by piece.

    >>> parser = CitationParser(request)
    >>> shown = parser.feed("A finch [1]")
    >>> rest, answer = parser.finish(certainty=0.9)
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._hits = request.evidence.hits
        self._citations: list[str] = []
        self._unknown_marks: list[str] = []
        self._text = ""
        """The text that was returned so far."""
        self._buffer = ""
        """Text that is held back: it may belong to a mark, or to the model's thoughts."""

    def feed(self, piece: str) -> str:
        """Add a piece of the model's text; return the text that can be shown now."""
        self._buffer += piece
        if not self._text and self._skip_thoughts():
            return ""
        tail = _POSSIBLE_MARKS.search(self._buffer)
        end = tail.start() if tail else len(self._buffer)
        ready, self._buffer = self._buffer[:end], self._buffer[end:]
        return self._append(self._renumber(ready, keep_marks=self._request.task != "caption"))

    def finish(
        self, certainty: float | None = None, trace: Mapping[str, Any] | None = None
    ) -> tuple[str, Answer]:
        """Return the rest of the text, and the answer with `trace` added to its own.

        `certainty` is the model's mean token probability, 0 to 1; None if unknown."""
        trace = trace or {}
        buffer = "" if self._skip_thoughts() else self._buffer.rstrip()
        ending = self._append(self._renumber(buffer, self._keeps_final_marks(buffer)).rstrip())
        text = self._text
        if not text:
            answer = abstain(self._request, "the generator wrote nothing", **trace)
            return answer.text, answer
        if self._is_abstention(text):
            if self._request.chinese and _ABSENT_PHRASES[True] not in text:
                ending += f" {ABSENT[True]}"
                text += f" {ABSENT[True]}"
            reason = "the generator found no answer in the evidence"
            return ending, replace(abstain(self._request, reason, **trace), text=text)
        return ending, self._answer(text, certainty, trace)

    def _answer(self, text: str, certainty: float | None, trace: Mapping[str, Any]) -> Answer:
        citations, method = self._citations, "marks"
        if not citations:
            citations, method = self._citations_by_words(text), "words"
        about: dict[str, Any] = {"cited by": method} if citations else {}
        if self._unknown_marks:
            about["unknown marks"] = ", ".join(self._unknown_marks)
        return Answer(
            text,
            self._hits,
            tuple(citations),
            self._confidence(citations, certainty),
            False,
            {**self._request.evidence.trace, **trace, **about},
        )

    def _keeps_final_marks(self, buffer: str) -> bool:
        """Whether the marks at the end stay: not in a caption or a short answer."""
        if self._request.task == "ask":
            return len(split_sentences(f"{self._text}{_MARK.sub('', buffer)}")) > 1
        return self._request.task in ("tell", "chat")

    def _skip_thoughts(self) -> bool:
        """Drop thoughts from the buffer; return whether the model is still thinking."""
        while (start := self._buffer.lstrip()).startswith(_THOUGHT_START):
            _, end, after = start.partition(_THOUGHT_END)
            if not end:
                return True
            self._buffer = after
        return bool(start) and _THOUGHT_START.startswith(start)

    def _append(self, text: str) -> str:
        text = text if self._text else text.lstrip()
        self._text += text
        return text

    def _renumber(self, text: str, keep_marks: bool) -> str:
        """Replace the entry numbers of marks by positions in the citations.

        Marks of no entry are removed."""
        if not self._hits:
            return text

        def replace_mark(mark: re.Match[str]) -> str:
            numbers = [n for n in _parse_numbers(mark[2]) if 1 <= n <= len(self._hits)]
            if not numbers:
                self._unknown_marks.append(f"[{mark[2]}]")
                return ""
            positions = dict.fromkeys(self._cite(number) for number in numbers)
            return mark[1] + "".join(f"[{n}]" for n in positions) if keep_marks else ""

        return _MARK.sub(replace_mark, text)

    def _cite(self, number: int) -> int:
        """Cite the entry of that number; return its position in the citations, from 1."""
        entry_id = self._hits[number - 1].entry.id
        if entry_id not in self._citations:
            self._citations.append(entry_id)
        return self._citations.index(entry_id) + 1

    def _is_abstention(self, text: str) -> bool:
        """Whether a text says that the base has no answer, and gives no other answer."""
        if not _says_absent(text):
            return False
        other_sentences = [
            sentence for sentence in split_sentences(text) if not _says_absent(sentence)
        ]
        return not any(_MARK.search(sentence) for sentence in other_sentences)

    def _citations_by_words(self, text: str) -> list[str]:
        """Return the entries that contain most of an answer's words."""
        words = content_words(text)
        overlaps = [overlap(words, content_words("\n".join(hit.entry.texts))) for hit in self._hits]
        threshold = max(_MIN_OVERLAP, max(overlaps, default=0.0))
        rows = [row for row, value in enumerate(overlaps) if value >= threshold]
        rows.sort(key=lambda row: -overlaps[row])
        entry_ids = dict.fromkeys(self._hits[row].entry.id for row in rows)
        return list(entry_ids)[:_MAX_CITATIONS_BY_WORDS]

    def _confidence(self, citations: list[str], certainty: float | None) -> float:
        """Return the product of three probabilities: the evidence is about the request, the cited
        entries are the right ones, the model's tokens are right."""
        evidence = self._request.evidence
        if not self._hits:
            return round(certainty or 0.0, 4)
        weights = evidence.weights or (1 / len(self._hits),) * len(self._hits)
        cited_weight = sum(
            weight
            for hit, weight in zip(self._hits, weights, strict=True)
            if hit.entry.id in citations
        )
        token_probability = 1.0 if certainty is None else certainty
        return round(min(1.0, evidence.support * cited_weight * token_probability), 4)


def _says_absent(text: str) -> bool:
    return any(phrase in text.lower() for phrase in _ABSENT_PHRASES.values())


def _parse_numbers(numbers: str) -> list[int]:
    """Return the numbers of a mark: "1, 3" or "1-3"."""
    parsed: list[int] = []
    for part in re.split(r"\s?[,，;；、]\s?", numbers):
        bounds = [int(number) for number in re.split(r"\s?[–-]\s?", part)]
        first, last = bounds[0], bounds[-1]
        is_range = first <= last <= first + 50
        parsed += range(first, last + 1) if is_range else bounds
    return parsed
