"""From a chat model's text to an answer: marks such as [2] become citations, and "not in the
knowledge base" becomes an abstention.

Text is parsed piece by piece, so a stream and a whole text give the same answer. In the finished
text [1] is the first of the answer's citations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.data.page_text import certain_texts
from ravlm.data.text import split_sentences
from ravlm.generation.base import ABSENT, Request, abstain
from ravlm.generation.chat.refusals import opens_with_refusal, says_absent
from ravlm.generation.chat.reply import (
    THOUGHT_END,
    THOUGHT_ENDS,
    THOUGHT_START,
    THOUGHT_STARTS,
    ReplyEnd,
    missing_answer_text,
    partial_mark_length,
)
from ravlm.generation.citation_marks import remove_citations
from ravlm.generation.cited_lines import source_of_statement
from ravlm.records import Answer, Source

_SPACE = r"[^\S\n]"
"""A citation does not continue on another line."""
_LABEL = (
    r"(?:entry|entries|evidence|sources?|doc(?:ument)?s?|条目|证据|来源|文档|资料)"
    rf"(?:{_SPACE}|[:：#]){{0,2}}"
)
_NUMBER = rf"(?:{_LABEL})?\^?\d{{1,3}}\^?"
_SEPARATOR = rf"{_SPACE}?(?:[,，;；、&和与]|and){_SPACE}?"
_RANGE = rf"{_SPACE}?[–-]{_SPACE}?"
_NEXT_NUMBERS = rf"(?:(?:{_SEPARATOR}|{_RANGE}){_NUMBER}){{0,15}}"
_NUMBERS = rf"{_NUMBER}{_NEXT_NUMBERS}"
_ROUND_NUMBERS = rf"{_LABEL}\d{{1,3}}{_NEXT_NUMBERS}"
_NAME = r"(?:†[^\[\]【】［］()（）\n]{0,30})?"
_MARK = re.compile(
    rf"( ?)(?:[\[【［]({_NUMBERS}){_NAME}[\]】］]|[(（]({_ROUND_NUMBERS})[)）])",
    re.IGNORECASE,
)
"""A citation as chat models write it: [1], [1, 2], 【1†source】, [^1], [Entry 1], (source 1) ... A
plain number in round brackets is none: so entries show their own marks."""
_POSSIBLE_MARKS = re.compile(
    r"(?:\s{0,9}(?:[\[【［][^\[\]【】［］\n]{1,60}[\]】］]|[(（][^()（）\n]{1,60}[)）])){0,9}\s{0,9}"
    r"(?:[\[【［][^\[\]【】［］\n]{0,60}|[(（][^()（）\n]{0,60})?"
    r"[.。!！?？]{0,3}\s{0,9}$"
)
"""The end of a partial text that may turn out to be marks."""
_ABSENT_PHRASE = {False: "not in the knowledge base", True: "知识库中没有"}
_COMPLETE = ReplyEnd()
_CUT_MARK = "…"
"""Ends a text that was cut off."""
_MIN_OVERLAP = 0.5
"""Fraction of an answer's words that an entry must contain to be its source, if the answer has no
marks."""
_MAX_CITATIONS_BY_WORDS = 3


class CitationParser:
    """Parses the text of one request, piece by piece.

    Thoughts are dropped: everything before a mark that ends them, even if the start is missing
    because the prompt had it. With `opens_thought` the text begins with thoughts, and nothing is
    shown before they end; otherwise a missing start is only noticed at the end, and what was
    returned before is not part of the answer.

    >>> parser = CitationParser(request)
    >>> shown = parser.feed("A finch [1]")
    >>> rest, answer = parser.finish(certainty=0.9)
    """

    def __init__(self, request: Request, opens_thought: bool = False) -> None:
        self._request = request
        self._opens_thought = opens_thought
        self._has_thoughts = opens_thought
        self.lacked_start = False
        """Whether thoughts ended that had no start."""
        self._separator = ""
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
        if self._is_thinking():
            return ""
        tail = _POSSIBLE_MARKS.search(self._buffer)
        end = len(self._buffer) - partial_mark_length(self._buffer, THOUGHT_ENDS)
        end = min(end, tail.start()) if tail else end
        ready, self._buffer = self._buffer[:end], self._buffer[end:]
        return self._append(self._renumber(ready, keep_marks=self._request.task != "caption"))

    def finish(
        self,
        certainty: float | None = None,
        trace: Mapping[str, Any] | None = None,
        end: ReplyEnd = _COMPLETE,
    ) -> tuple[str, Answer]:
        """Return the rest of the text, and the answer with `trace` added to its own.

        `certainty` is the model's mean token probability, 0 to 1; None if unknown. A text that was
        cut off gets an ellipsis; a reply without an answer becomes a sentence that says why."""
        trace = dict(trace or {})
        if end.finish_reason != "stop":
            trace["finish_reason"] = end.finish_reason
        if not end.is_cut and not THOUGHT_START.match(self._buffer.lstrip()):
            self._opens_thought = False  # the model answered at once
        buffer = "" if self._is_thinking() else self._buffer.rstrip()
        ending = self._append(self._renumber(buffer, self._keeps_final_marks(buffer)).rstrip())
        text = self._text
        if not text:
            answer = self._missing_answer(end, trace)
            return self._separator + answer.text, answer
        if self._is_abstention(text):
            chinese = self._request.chinese
            if _ABSENT_PHRASE[chinese] not in text.lower():
                ending += f" {ABSENT[chinese]}"
                text += f" {ABSENT[chinese]}"
            reason = "the generator found no answer in the evidence"
            return ending, replace(abstain(self._request, reason, **trace), text=text)
        if end.is_cut:
            ending += _CUT_MARK
            text += _CUT_MARK
        return ending, self._answer(text, certainty, trace)

    def _missing_answer(self, end: ReplyEnd, trace: Mapping[str, Any]) -> Answer:
        """Return the answer for a reply without text: why there is none, or an abstention."""
        has_thoughts = self._has_thoughts or end.has_reasoning
        text = missing_answer_text(end, has_thoughts, self._request.chinese)
        if not text:
            return abstain(self._request, "the generator wrote nothing", **trace)
        about = {"no answer": "refused" if end.refusal else end.finish_reason}
        evidence = self._request.evidence
        return Answer(text, evidence.hits, trace={**evidence.trace, **trace, **about})

    def _answer(self, text: str, certainty: float | None, trace: Mapping[str, Any]) -> Answer:
        citations, method = self._citations, "marks"
        if not citations:
            citations, method = self._citations_by_words(text), "words"
        about: dict[str, Any] = {"cited by": method} if citations else {}
        if self._unknown_marks:
            about["unknown marks"] = ", ".join(self._unknown_marks)
        return Answer(
            text,
            evidence=self._hits,
            citations=tuple(citations),
            sources=self._sources(text, citations),
            confidence=self._confidence(citations, certainty),
            trace={**self._request.evidence.trace, **trace, **about},
        )

    def _sources(self, text: str, citations: Sequence[str]) -> tuple[Source, ...]:
        """Return what each citation points to: the lines of a page with the words of the sentences
        that cite it, else the part that matched."""
        by_id = {hit.entry.id: hit for hit in reversed(self._hits)}
        sentences = split_sentences(text)
        sources = []
        for position, entry_id in enumerate(citations, 1):
            hit = by_id[entry_id]
            citing = [sentence for sentence in sentences if f"[{position}]" in sentence]
            statement = remove_citations(" ".join(citing) or text)
            lines = source_of_statement(hit, statement, self._request.text)
            sources.append(lines or Source(entry_id, hit.part))
        return tuple(sources)

    def _keeps_final_marks(self, buffer: str) -> bool:
        """Whether the marks at the end stay: not in a caption or a short answer."""
        if self._request.task == "ask":
            return len(split_sentences(f"{self._text}{_MARK.sub('', buffer)}")) > 1
        return self._request.task in ("tell", "chat")

    def _is_thinking(self) -> bool:
        """Drop finished thoughts; return whether the rest of the buffer is or may be a thought."""
        while end := THOUGHT_END.search(self._buffer):
            start = THOUGHT_START.match(self._buffer.lstrip())
            if self._text or not (start or self._opens_thought):
                self.lacked_start = True
            self._buffer = self._buffer[end.end() :]
            self._forget_thoughts()
        start_of_text = self._buffer.lstrip()
        if self._opens_thought:
            return True
        if self._text or not start_of_text:
            return False
        is_thought = THOUGHT_START.match(start_of_text) is not None
        self._has_thoughts = self._has_thoughts or is_thought
        return is_thought or any(mark.startswith(start_of_text) for mark in THOUGHT_STARTS)

    def _forget_thoughts(self) -> None:
        """Take back what was read so far: it was a thought."""
        self._separator = "\n\n" if self._text or self._separator else ""
        self._opens_thought = False
        self._has_thoughts = True
        self._text = ""
        self._citations = []
        self._unknown_marks = []

    def _append(self, text: str) -> str:
        text = text if self._text else text.lstrip()
        self._text += text
        if not text:
            return ""
        separator, self._separator = self._separator, ""
        return separator + text

    def _renumber(self, text: str, keep_marks: bool) -> str:
        """Replace the entry numbers of marks by positions in the citations.

        Marks of no entry are removed."""
        if not self._hits:
            return text

        def replace_mark(mark: re.Match[str]) -> str:
            if self._is_quoted(mark):
                return mark[0]
            numbers = _parse_numbers(mark[2] or mark[3])
            numbers = [n for n in numbers if 1 <= n <= len(self._hits)]
            if not numbers:
                self._unknown_marks.append(mark[0].strip())
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

    def _is_quoted(self, mark: re.Match[str]) -> bool:
        """Whether a mark with a word, such as "(source 1)", is copied from an entry."""
        literal = mark[0].strip().lower()
        if not re.search(r"[^\W\d_]", literal):
            return False
        return any(
            literal in text.lower() for hit in self._hits for text in certain_texts(hit.entry)
        )

    def _is_abstention(self, text: str) -> bool:
        """Whether a text says that the base has no answer, and gives no other answer."""
        has_phrase = any(phrase in text.lower() for phrase in _ABSENT_PHRASE.values())
        if not has_phrase and not (self._hits and opens_with_refusal(text)):
            return False
        others = [sentence for sentence in split_sentences(text) if not says_absent(sentence)]
        if any(_MARK.search(sentence) for sentence in others):
            return False
        return has_phrase or not self._citations_by_words(" ".join(others))

    def _citations_by_words(self, text: str) -> list[str]:
        """Return the entries that contain most of an answer's words."""
        words = content_words(text)
        overlaps = [
            overlap(words, content_words("\n".join(certain_texts(hit.entry)))) for hit in self._hits
        ]
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


def _parse_numbers(numbers: str) -> list[int]:
    """Return the numbers of a mark: "1, 3", "1-3" or "Entry 1 and entry 3"."""
    parsed: list[int] = []
    plain = re.sub(rf"{_LABEL}|\^", "", numbers, flags=re.IGNORECASE)
    for part in re.split(_SEPARATOR, plain):
        bounds = [int(number) for number in re.split(r"\s?[–-]\s?", part)]
        first, last = bounds[0], bounds[-1]
        is_range = first <= last <= first + 50
        parsed += range(first, last + 1) if is_range else bounds
    return parsed
