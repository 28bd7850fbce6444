"""The passages of the evidence from which answers are read: texts of entries, the text of pages,
and print on photos."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ravlm.data.facts import is_name_key, parse_facts
from ravlm.data.lexical_overlap import content_words
from ravlm.data.page_text import PageText, region_text_index
from ravlm.data.text import is_chinese
from ravlm.generation.base import Request
from ravlm.records import Hit, Part, Source

MAX_CHARACTERS = 4000
"""A longer text is read only where it matched."""


@dataclass(frozen=True)
class Passage:
    """A text of the evidence."""

    part: Part
    hit: Hit
    weight: float
    """The hit's weight in the evidence."""
    page: PageText | None = None
    """The text of the entry's regions that contains the passage; None for a text of the entry."""
    offset: int = 0
    """Start of the passage in the page's text."""

    def is_certain(self, start: int, end: int) -> bool:
        """Return whether every word of the characters `start:end` was read with confidence."""
        if self.page is None:
            return True
        return self.page.is_certain(self.offset + start, self.offset + end)

    def source(self, start: int, end: int) -> Source:
        """Return what an answer from the characters `start:end` is based on."""
        entry_id = self.hit.entry.id
        if self.page is None:
            return Source(entry_id, self.part, start, end)
        start, end = self.offset + start, self.offset + end
        return self.page.source(entry_id, self.part.index, start, end)


def passages_of(request: Request, max_characters: int = MAX_CHARACTERS) -> list[Passage]:
    """Return the texts of the evidence: those in the question's language if there are any.

    Of a page with more than `max_characters`, the blocks around what matched are returned.

    Evidence that is not linked may be cards of other entities, whose keys fit the question. A card
    is left out if the question has no word of its name.
    """
    evidence = request.evidence
    words = content_words(request.text)
    passages = [
        passage
        for hit, weight in zip(evidence.hits, evidence.weights, strict=True)
        for passage in (*_texts(hit, weight), *_page(hit, weight, max_characters))
        if evidence.linked or not _is_other_card(passage.part.text, words)
    ]
    same_language = [p for p in passages if is_chinese(p.part.text) == request.chinese]
    return same_language or passages


def _texts(hit: Hit, weight: float) -> Iterator[Passage]:
    """Yield the texts of an entry; of a long text only the passage that matched."""
    for index, text in enumerate(hit.entry.texts):
        if len(text) <= MAX_CHARACTERS:
            yield Passage(Part("text", index, text), hit, weight)
        elif hit.part.modality == "text" and hit.part.index == index:
            yield Passage(hit.part, hit, weight)


def _page(hit: Hit, weight: float, max_characters: int) -> Iterator[Passage]:
    """Yield the text of an entry's regions; of a long one the blocks around what matched."""
    if not hit.entry.regions:
        return
    page = PageText.of(hit.entry.regions)
    index = region_text_index(hit.entry)
    start, end = 0, len(page.text)
    if end > max_characters:
        has_matched = hit.part.modality == "text" and hit.part.index == index
        matched = page.find(hit.part.text) if has_matched else (0, 0)
        start, end = page.window(sum(matched) // 2, max_characters)
    if start < end:
        yield Passage(Part("text", index, page.text[start:end]), hit, weight, page, start)


def _is_other_card(text: str, question_words: frozenset[str]) -> bool:
    """Return whether a line of a text names its entity and the question has no word of the name."""
    names = [fact.value for fact in parse_facts(text) if is_name_key(fact.key)]
    return bool(names) and not any(content_words(name) & question_words for name in names)
