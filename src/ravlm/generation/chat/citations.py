"""From what a talking model writes to an answer: marks such as [2] become citations, and "not in
the knowledge base" an abstention.

Works on pieces as they come, so that a stream and a whole text give the same answer. In the
finished text [1] is the first of the answer's citations. Knows no model."""

from __future__ import annotations

import re
from dataclasses import replace

from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.data.text import split_sentences
from ravlm.generation.base import ABSENT, Request, abstain
from ravlm.records import Answer

_NUMBERS = r"\d{1,3}(?:\s?[,，;；、–-]\s?\d{1,3}){0,15}"
_MARK = re.compile(rf"( ?)[\[【]({_NUMBERS})[\]】]")
_TAIL = re.compile(
    r"(?:\s{0,9}[\[【][\d\s,，;；、–-]{1,60}[\]】]){0,9}\s{0,9}(?:[\[【][\d\s,，;；、–-]{0,60})?[.。!！?？]{0,3}\s{0,9}$"
)
"""What of the text so far may still turn out to be marks at its end."""
_SAYS_ABSENT = {False: "not in the knowledge base", True: "知识库中没有"}
_THOUGHT, _THOUGHT_ENDS = "<think>", "</think>"
_SAID = 0.5
"""The share of an answer's words in an entry that makes the entry its source, where the answer has
no marks."""
_MOST_BY_WORDS = 3


class CitationParser:
    """Takes the pieces of one request's text and makes the answer of them."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._hits = request.evidence.hits
        self._cited: list[str] = []
        self._unknown: list[str] = []
        self._said = ""
        self._held = ""
        """Not given out yet: it may belong to a mark, or to what the model thinks before it
        speaks."""

    def feed(self, piece: str) -> str:
        """What of the text can be shown now."""
        self._held += piece
        if not self._said and self._thinking():
            return ""
        tail = _TAIL.search(self._held)
        end = tail.start() if tail else len(self._held)
        ready, self._held = self._held[:end], self._held[end:]
        return self._say(self._numbered(ready, shown=self._request.task != "caption"))

    def finish(self, sure: float | None = None, **trace: object) -> tuple[str, Answer]:
        """The last of the text, and the answer. `sure`: how sure the model is of its words, 0 to
        1."""
        held = "" if self._thinking() else self._held.rstrip()
        several = len(split_sentences(f"{self._said}{_MARK.sub('', held)}")) > 1
        shown = self._request.task in ("tell", "chat") or (self._request.task == "ask" and several)
        last = self._say(self._numbered(held, shown).rstrip())
        text = self._said
        if not text:
            answer = abstain(self._request, "the generator said nothing", **trace)
            return answer.text, answer
        if self._says_absent(text):
            if self._request.chinese and _SAYS_ABSENT[True] not in text:
                last += f" {ABSENT[True]}"
                text += f" {ABSENT[True]}"
            answer = abstain(
                self._request, "the generator found no answer in the evidence", **trace
            )
            return last, replace(answer, text=text)
        cited, by = (self._cited, "marks") if self._cited else (self._by_words(text), "words")
        told = {"cited by": by} if cited else {}
        if self._unknown:
            told["marks of no entry"] = ", ".join(self._unknown)
        whole = {**self._request.evidence.trace, **trace, **told}
        confidence = self._confidence(cited, sure)
        return last, Answer(text, self._hits, tuple(cited), confidence, False, whole)

    def _thinking(self) -> bool:
        """Whether the model still thinks aloud; what it thought is dropped."""
        while (start := self._held.lstrip()).startswith(_THOUGHT):
            _, ended, after = start.partition(_THOUGHT_ENDS)
            if not ended:
                return True
            self._held = after
        return bool(start) and _THOUGHT.startswith(start)

    def _say(self, text: str) -> str:
        text = text if self._said else text.lstrip()
        self._said += text
        return text

    def _numbered(self, text: str, shown: bool) -> str:
        """The marks of a text by the places of what they name in the citations; those of no entry
        are left out."""
        if not self._hits:
            return text

        def place(mark: re.Match[str]) -> str:
            named = [hit for hit in _named(mark[2]) if 1 <= hit <= len(self._hits)]
            if not named:
                self._unknown.append(f"[{mark[2]}]")
                return ""
            places = []
            for number in named:
                identity = self._hits[number - 1].entry.id
                if identity not in self._cited:
                    self._cited.append(identity)
                places.append(self._cited.index(identity) + 1)
            return mark[1] + "".join(f"[{n}]" for n in dict.fromkeys(places)) if shown else ""

        return _MARK.sub(place, text)

    def _says_absent(self, text: str) -> bool:
        """Whether a text says that the answer is not there, and gives none beside."""
        if not any(phrase in text.lower() for phrase in _SAYS_ABSENT.values()):
            return False
        rest = [
            s
            for s in split_sentences(text)
            if not any(phrase in s.lower() for phrase in _SAYS_ABSENT.values())
        ]
        return not any(_MARK.search(sentence) for sentence in rest)

    def _by_words(self, text: str) -> list[str]:
        """The entries that have most of an answer's words."""
        said = content_words(text)
        shares = [overlap(said, content_words("\n".join(hit.entry.texts))) for hit in self._hits]
        best = max(shares, default=0.0)
        ranked = sorted(
            (i for i, share in enumerate(shares) if share >= max(_SAID, best)),
            key=lambda i: -shares[i],
        )
        return list(dict.fromkeys(self._hits[i].entry.id for i in ranked))[:_MOST_BY_WORDS]

    def _confidence(self, cited: list[str], sure: float | None) -> float:
        """How likely the answer is right: what it rests on is what was asked about, and the model
        is sure of it."""
        evidence = self._request.evidence
        if not self._hits:
            return round(sure or 0.0, 4)
        weights = evidence.weights or (1 / len(self._hits),) * len(self._hits)
        rests = sum(w for hit, w in zip(self._hits, weights, strict=True) if hit.entry.id in cited)
        return round(min(1.0, evidence.support * rests * (1.0 if sure is None else sure)), 4)


def _named(numbers: str) -> list[int]:
    """The numbers of a mark: 1, 3 or 1-3."""
    found: list[int] = []
    for part in re.split(r"\s?[,，;；、]\s?", numbers):
        first, *others = (int(number) for number in re.split(r"\s?[–-]\s?", part))
        last = others[-1] if others else first
        found += range(first, last + 1) if first <= last <= first + 50 else [first, *others]
    return found
