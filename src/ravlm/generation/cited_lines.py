"""Find the lines of a page that support a statement, where a citation names only the page."""

from __future__ import annotations

from collections.abc import Iterator

from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.data.page_text import PageText, region_text_index
from ravlm.data.text import split_sentences
from ravlm.records import Hit, Source

MIN_OVERLAP = 0.5
"""Smallest share of a statement's words that the cited line must have."""
_REQUEST_WEIGHT = 0.3
"""Weight of the words of the request: they tell lines apart that have the same short answer."""
_MAX_SENTENCES = 2


def source_of_statement(hit: Hit, statement: str, request: str = "") -> Source | None:
    """Return the lines among an entry's regions that have most words of a statement, with their
    box; None if they have less than half of them, or if the entry has no regions.

    Candidates are lines, sentences, and pairs of consecutive sentences.
    """
    words, request_words = content_words(statement), content_words(request)
    if not hit.entry.regions or not words:
        return None
    page = PageText.of(hit.entry.regions)
    best, best_score = (0, 0), 0.0
    for start, end in _spans(page.text):
        line_words = content_words(page.text[start:end])
        share = overlap(words, line_words)
        if share < MIN_OVERLAP:
            continue
        surplus = 0.001 * len(line_words)  # prefer the shorter of equal lines
        score = share + _REQUEST_WEIGHT * overlap(request_words, line_words) - surplus
        if score > best_score:
            best, best_score = (start, end), score
    if best_score == 0.0:
        return None
    return page.source(hit.entry.id, region_text_index(hit.entry), *best)


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield start and end of each sentence, and of each two consecutive ones of a line."""
    position = 0
    for line in text.split("\n"):
        sentences: list[tuple[int, int]] = []
        start = position
        for sentence in split_sentences(line):
            start = text.index(sentence, start)
            sentences.append((start, start + len(sentence)))
            start += len(sentence)
        for first in range(len(sentences)):
            for last in range(first, min(first + _MAX_SENTENCES, len(sentences))):
                yield sentences[first][0], sentences[last][1]
        position += len(line) + 1
