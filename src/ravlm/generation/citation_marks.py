"""Citation marks inside entries: `[2]` in a text is no citation of the second entry.

Generators read texts whose marks are broken: "(2)" in place of "[2]". The length stays the same, so
positions in a text stay valid, and answers point to the entries as they are stored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ravlm.data.page_text import all_texts
from ravlm.generation.base import Request
from ravlm.records import Answer, Hit, Source

_ROUND = {"[": "(", "]": ")"}
_OPENING, _CLOSING = "[［【〔〖⟦❲", "]］】〕〗⟧❳"
_INVISIBLE = "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
_DIGITS = r"\d²³¹⁰-⁹₀-₉"
"""Digits of all scripts, superscripts and subscripts."""
_BRACKETED = re.compile(
    rf"([{re.escape(_OPENING)}])([{_DIGITS}\s{_INVISIBLE},，;；、.^*#–—-]{{1,64}})([{re.escape(_CLOSING)}])"
)
_CITATION = re.compile(r"\s*\[\d+\]")
_NUMBERED = re.compile(r"(\s*)\[(\d{1,3})\]")
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


def remove_citations(text: str) -> str:
    """Return a generated text without its citations.

    >>> remove_citations("It is 69 m long [1]. It sank [2].")
    'It is 69 m long. It sank.'
    """
    return _CITATION.sub("", text)


def renumber_marks(text: str, numbers: Sequence[int | None]) -> tuple[str, bool]:
    """Return a text whose marks [n] became [numbers[n - 1]], and whether it has any; marks without
    a number are removed.

    >>> renumber_marks("It is 69 m long [1]. It sank [2].", [3, None])
    ('It is 69 m long [3]. It sank.', True)
    """
    if not numbers:
        return text, False
    has_marks = False

    def renumber(mark: re.Match[str]) -> str:
        nonlocal has_marks
        n = int(mark[2])
        number = numbers[n - 1] if 1 <= n <= len(numbers) else None
        has_marks = has_marks or number is not None
        return "" if number is None else f"{mark[1]}[{number}]"

    return _NUMBERED.sub(renumber, text), has_marks


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
    pairs = zip(request.evidence.hits, original.evidence.hits, strict=True)
    originals = {id(new): old for new, old in pairs}
    hits_by_entry = {hit.entry.id: hit for hit in reversed(original.evidence.hits)}
    return replace(
        answer,
        evidence=tuple(originals.get(id(hit), hit) for hit in answer.evidence),
        sources=tuple(
            _original_source(source, hits_by_entry.get(source.entry_id))
            for source in answer.sources
        ),
    )


def _break_hit(hit: Hit) -> Hit:
    entry = hit.entry
    texts = tuple(map(break_marks, entry.texts))
    regions = tuple(replace(region, text=break_marks(region.text)) for region in entry.regions)
    passage = break_marks(hit.part.text)
    if texts == entry.texts and regions == entry.regions and passage == hit.part.text:
        return hit
    entry = replace(entry, texts=texts, regions=regions)
    return replace(hit, entry=entry, part=replace(hit.part, text=passage))


def _original_source(source: Source, hit: Hit | None) -> Source:
    """Return a source with its part as it is stored: the same characters, with their marks."""
    if hit is None:
        return source
    part = source.part
    texts = all_texts(hit.entry)[part.index : part.index + 1] if part.modality == "text" else ()
    for text in (hit.part.text, *texts):
        start = break_marks(text).find(part.text)
        if start >= 0:
            stored = replace(part, text=text[start : start + len(part.text)])
            return replace(source, part=stored)
    return source
