"""Citation marks inside entries: `[2]` in a text is no citation of the second entry.

Generators read texts whose marks are broken: "(2)" in place of "[2]". The length stays the same, so
positions in a text stay valid, and answers point to the entries as they are stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ravlm.generation.base import Request
from ravlm.records import Answer, Entry, Hit, Part, Source

_ROUND = {"[": "(", "]": ")"}
_OPENING, _CLOSING = "[［【〔〖⟦❲", "]］】〕〗⟧❳"
_INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
_DIGITS = r"\d²³¹⁰-⁹₀-₉"
"""Digits of all scripts, superscripts and subscripts."""
_BRACKETED = re.compile(
    rf"([{re.escape(_OPENING)}])([{_DIGITS}\s{_INVISIBLE},，;；、.^*#–—-]{{1,64}})([{re.escape(_CLOSING)}])"
)
_SHORT_NUMBER = re.compile(rf"(?<![{_DIGITS}])[{_DIGITS}{_INVISIBLE}]{{1,3}}(?![{_DIGITS}])")
"""Marks have up to three digits: "[1999]" is a year."""


def break_marks(text: str) -> str:
    """Return a text whose numbers in brackets are in parentheses.

    >>> break_marks("Built in 1248 [2], see [1, 3] and a[i].")
    'Built in 1248 (2), see (1, 3) and a[i].'
    """

    def break_mark(mark: re.Match[str]) -> str:
        opening, inside, closing = mark.groups()
        if _SHORT_NUMBER.search(inside) is None:
            return mark[0]
        return f"{_ROUND.get(opening, '（')}{inside}{_ROUND.get(closing, '）')}"

    return _BRACKETED.sub(break_mark, text)


def without_marks(request: Request) -> Request:
    """Return a request whose evidence has no marks in its texts."""
    hits = tuple(map(_break_hit, request.evidence.hits))
    if all(new is old for new, old in zip(hits, request.evidence.hits, strict=True)):
        return request
    return replace(request, evidence=replace(request.evidence, hits=hits))


def restore_entries(answer: Answer, request: Request, original: Request) -> Answer:
    """Return the answer to `request` with the entries of `original` as evidence and sources."""
    if request is original:
        return answer
    originals = {
        id(new): old for new, old in zip(request.evidence.hits, original.evidence.hits, strict=True)
    }
    entries = {hit.entry.id: hit for hit in reversed(original.evidence.hits)}
    return replace(
        answer,
        evidence=tuple(originals.get(id(hit), hit) for hit in answer.evidence),
        sources=tuple(
            replace(source, part=_original_part(source, entries[source.entry_id]))
            if source.entry_id in entries
            else source
            for source in answer.sources
        ),
    )


def _break_hit(hit: Hit) -> Hit:
    texts = _break_all(hit.entry.texts)
    passage = break_marks(hit.part.text)
    if texts == hit.entry.texts and passage == hit.part.text:
        return hit
    return replace(hit, entry=replace(hit.entry, texts=texts), part=replace(hit.part, text=passage))


def _break_all(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(break_marks, texts))


def _original_part(source: Source, hit: Hit) -> Part:
    """Return the part of a source as it is stored: the same characters, with their marks."""
    part = source.part
    for text in (hit.part.text, *_texts_of(hit.entry, part)):
        start = break_marks(text).find(part.text)
        if start >= 0:
            return replace(part, text=text[start : start + len(part.text)])
    return part


def _texts_of(entry: Entry, part: Part) -> tuple[str, ...]:
    return entry.texts[part.index : part.index + 1] if part.modality == "text" else ()
