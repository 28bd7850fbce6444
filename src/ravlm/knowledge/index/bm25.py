"""BM25 over the words of text parts: an inverted index in arrays, derived from the store.

Like the vectors it is a list of segments: one of a snapshot, memory-mapped, and newer ones in
memory; deleted rows are masked. The store keeps the words as `analyzer` splits them; `terms` stems
them here.

Source of the formula: Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and
Beyond" (2009), with Lucene's idf, which is never negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from ravlm.knowledge.candidates import EMPTY_RANKING, Ranking, merge_rankings
from ravlm.knowledge.index.terms import TermHashes

BM25_K1 = 1.2
"""Term frequency saturation."""
BM25_B = 0.75
"""Length normalization."""
FREQUENT_SHARE = 0.02
"""Share of rows above which a term is looked up only for rows that can still reach the top n."""


class Postings(NamedTuple):
    """Inverted lists of a segment: those of term i stand at starts[i]:starts[i + 1].

    A snapshot keeps each array in a file of the field's name.
    """

    terms: np.ndarray
    """uint64 (terms,), ascending."""
    starts: np.ndarray
    """int64 (terms + 1,): bounds of each term's postings."""
    rows: np.ndarray
    """int32 (postings,), ascending within a term."""
    counts: np.ndarray
    """uint16 (postings,): term frequencies."""
    impacts: np.ndarray
    """float32 (postings,): the BM25 score of the term in the row, without the idf."""
    tops: np.ndarray
    """float32 (terms,): the highest impact of each term."""
    parts: np.ndarray
    """int64 (rows,): part numbers, ascending."""
    entries: np.ndarray
    """int64 (rows,): entry numbers."""
    lengths: np.ndarray
    """int32 (rows,): number of words."""


class RowFields(NamedTuple):
    """The arrays of `Postings` with a value per row."""

    parts: np.ndarray
    entries: np.ndarray
    lengths: np.ndarray


class CorpusStats(NamedTuple):
    """Number of rows, and of words in them, from which the mean length follows."""

    rows: int = 0
    words: int = 0

    def plus(self, lengths: np.ndarray) -> CorpusStats:
        """Return the statistics with further rows of these lengths."""
        return CorpusStats(self.rows + len(lengths), self.words + int(lengths.sum()))


def build_postings(
    parts: np.ndarray,
    entries: np.ndarray,
    texts: Sequence[str],
    hashes: TermHashes,
    earlier: CorpusStats,
) -> Postings:
    """Invert new rows. `texts` are words separated by blanks; `earlier` counts all other rows."""
    term_lists = [hashes.index_terms(text.split()) for text in texts]
    lengths = np.fromiter(map(len, term_lists), np.int32, len(term_lists))
    terms = np.fromiter(chain.from_iterable(term_lists), np.uint64, int(lengths.sum()))
    rows = np.repeat(np.arange(len(term_lists), dtype=np.int32), lengths)
    order = np.lexsort((rows, terms))
    terms = terms[order]
    rows = rows[order]
    # One posting per run of equal (term, row); its length is the term frequency.
    changes = (terms[1:] != terms[:-1]) | (rows[1:] != rows[:-1])
    first = np.flatnonzero(np.r_[True, changes][: len(terms)])
    counts = np.minimum(np.diff(np.r_[first, len(terms)]), 65535).astype(np.uint16)
    fields = RowFields(parts, entries, lengths)
    return _with_impacts(terms[first], rows[first], counts, fields, earlier)


def merge_postings(one: Postings, two: Postings, earlier: CorpusStats) -> Postings:
    """Merge two adjacent segments into one."""
    terms = np.concatenate([np.repeat(p.terms, np.diff(p.starts)) for p in (one, two)])
    rows = np.concatenate([one.rows, two.rows + np.int32(len(one.parts))])
    counts = np.concatenate([one.counts, two.counts])
    order = np.argsort(terms, kind="stable")
    fields = RowFields(
        np.concatenate([one.parts, two.parts]),
        np.concatenate([one.entries, two.entries]),
        np.concatenate([one.lengths, two.lengths]),
    )
    return _with_impacts(terms[order], rows[order], counts[order], fields, earlier)


def _with_impacts(
    terms: np.ndarray,
    rows: np.ndarray,
    counts: np.ndarray,
    fields: RowFields,
    earlier: CorpusStats,
) -> Postings:
    """Compute starts and impacts of postings (term, row, count) sorted by term, then row."""
    stats = earlier.plus(fields.lengths)
    mean_length = max(stats.words / max(stats.rows, 1), 1e-9)
    norms = BM25_K1 * (1 - BM25_B + BM25_B * fields.lengths / mean_length)  # (rows,)
    impacts = (counts * (BM25_K1 + 1) / (counts + norms[rows])).astype(np.float32)
    first = np.flatnonzero(np.r_[True, terms[1:] != terms[:-1]][: len(terms)])
    starts = np.r_[first, len(terms)].astype(np.int64)
    tops = np.maximum.reduceat(impacts, first) if len(first) else np.zeros(0, np.float32)
    return Postings(terms[first], starts, rows, counts, impacts, tops, *fields)


class KeywordSegment:
    """Postings, and a mask of the rows that are not deleted."""

    def __init__(self, postings: Postings) -> None:
        self.postings = postings
        self.alive = np.ones(len(postings.parts), bool)

    def find(self, term: int) -> int:
        """Return the position of `term` in the dictionary; -1 if no row has it."""
        terms = self.postings.terms
        position = int(np.searchsorted(terms, np.uint64(term)))
        if position < len(terms) and terms[position] == np.uint64(term):
            return position
        return -1

    def has(self, term: int) -> bool:
        """Return whether a row has `term`; a deleted one counts."""
        return self.find(term) >= 0

    def document_frequency(self, term: int) -> int:
        """Return how many rows have `term`, deleted ones included."""
        position = self.find(term)
        return 0 if position < 0 else self._num_postings(position)

    def _num_postings(self, position: int) -> int:
        return int(self.postings.starts[position + 1] - self.postings.starts[position])

    def delete(self, parts: np.ndarray) -> None:
        """Mask the rows of these parts; parts of other segments are ignored."""
        rows = np.searchsorted(self.postings.parts, parts)
        rows = rows[rows < len(self.alive)]
        self.alive[rows[np.isin(self.postings.parts[rows], parts)]] = False

    def search(
        self, weights: Sequence[tuple[int, float]], n: int, entry_mask: np.ndarray | None
    ) -> Ranking:
        """Return the best n rows; `weights` are terms with their idf.

        Rare terms are scored first. Once the n best rows so far score higher than all remaining
        terms together could give a new row, frequent terms are looked up for the leading rows only
        (MaxScore, Turtle & Flood 1995). The result is the same.
        """
        postings = self.postings
        scores = np.zeros(len(postings.parts), np.float32)
        mask = self.alive if entry_mask is None else self.alive & entry_mask[postings.entries]
        terms = [(position, idf) for term, idf in weights if (position := self.find(term)) >= 0]
        terms.sort(key=lambda term: self._num_postings(term[0]))
        remaining = sum(idf * float(postings.tops[position]) for position, idf in terms)
        leaders: np.ndarray | None = None  # rows that can still reach the top n; None: any
        for position, idf in terms:
            span = slice(int(postings.starts[position]), int(postings.starts[position + 1]))
            rows = postings.rows[span]
            impacts = postings.impacts[span]
            if leaders is None and len(rows) > FREQUENT_SHARE * len(scores):
                leaders = self._leaders(scores, mask, n, remaining)
            remaining -= idf * float(postings.tops[position])
            if leaders is None:
                scores[rows] += idf * impacts
                continue
            nearest = np.minimum(np.searchsorted(rows, leaders), len(rows) - 1)
            has_term = rows[nearest] == leaders
            scores[leaders[has_term]] += idf * impacts[nearest[has_term]]
        if leaders is None:
            leaders = _scored_rows(scores, mask)
        best = leaders[_highest(scores[leaders], n)]
        best = best[np.lexsort((best, -scores[best]))]  # of equal scores the older part first
        return Ranking(postings.parts[best], postings.entries[best], scores[best])

    def _leaders(
        self, scores: np.ndarray, mask: np.ndarray, n: int, remaining: float
    ) -> np.ndarray | None:
        """Return the rows that can still be among the n best, ascending; None if any can be.

        `remaining` is the highest score that the terms to come can add to a row.
        """
        rows = _scored_rows(scores, mask)
        if len(rows) < n:
            return None
        values = scores[rows]
        nth_best = float(np.partition(values, len(values) - n)[len(values) - n])
        return rows[values + remaining >= nth_best] if nth_best > remaining else None


def _scored_rows(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(scores)
    return rows[mask[rows]]


def _highest(values: np.ndarray, n: int) -> np.ndarray:
    """Return positions of the n highest values and of all ties with the last, in any order."""
    if len(values) <= n:
        return np.arange(len(values))
    return np.flatnonzero(values >= np.partition(values, len(values) - n)[len(values) - n])


class KeywordIndex:
    """All text parts of a base by their words.

    `change` and `last_part` are the last change and the last part taken over from the store.
    """

    def __init__(
        self, segments: Sequence[KeywordSegment] = (), change: int = 0, last_part: int = 0
    ) -> None:
        self.segments = list(segments)
        self.change = change
        self.last_part = last_part
        self.hashes = TermHashes()

    def update(
        self, rows: Sequence[tuple[int, int, str]], removed: Sequence[int], change: int
    ) -> None:
        """Add new rows (part, entry, words), then mask the removed parts."""
        if rows:
            self._add(rows)
        if removed:
            parts = np.array(sorted(removed), np.int64)
            for segment in self.segments:
                segment.delete(parts)
        self.change = change

    def _add(self, rows: Sequence[tuple[int, int, str]]) -> None:
        """Append a segment, and merge segments until each is twice as large as the next."""
        parts, entries, texts = zip(*rows, strict=True)
        part_numbers = np.array(parts, np.int64)
        entry_numbers = np.array(entries, np.int64)
        earlier = corpus_stats(self.segments)
        postings = build_postings(part_numbers, entry_numbers, texts, self.hashes, earlier)
        segments = [*self.segments, KeywordSegment(postings)]
        while len(segments) > 1 and len(segments[-2].alive) < 2 * len(segments[-1].alive):
            one, two = segments[-2:]
            earlier = corpus_stats(segments[:-2])
            merged_segment = KeywordSegment(merge_postings(one.postings, two.postings, earlier))
            merged_segment.alive = np.concatenate([one.alive, two.alive])
            segments[-2:] = [merged_segment]
        self.segments = segments
        self.last_part = int(parts[-1])

    def search(self, words: Sequence[str], n: int, entry_mask: np.ndarray | None = None) -> Ranking:
        """Return the best n parts that have one of `words`, by BM25 (higher is better).

        The stems of one word in several languages count as one term, as frequent as all of them
        together: a stem may be rare only because few texts are in its language.
        """
        num_rows = sum(len(segment.alive) for segment in self.segments)
        weights: dict[int, float] = {}
        markers = self.hashes.markers.items()
        languages = [code for code, marker in markers if any(s.has(marker) for s in self.segments)]
        for terms in self.hashes.query_synonyms(words, languages):
            frequencies = [sum(s.document_frequency(term) for s in self.segments) for term in terms]
            total = min(sum(frequencies), num_rows)
            idf = float(np.log1p((num_rows - total + 0.5) / (total + 0.5)))
            for term, frequency in zip(terms, frequencies, strict=True):
                if frequency:
                    weights[term] = max(weights.get(term, 0.0), idf)
        if not weights:
            return EMPTY_RANKING
        scored_terms = list(weights.items())
        rankings = [segment.search(scored_terms, n, entry_mask) for segment in self.segments]
        return merge_rankings(rankings, n)


def corpus_stats(segments: Sequence[KeywordSegment]) -> CorpusStats:
    """Return the statistics of all rows of `segments`."""
    stats = CorpusStats()
    for segment in segments:
        stats = stats.plus(segment.postings.lengths)
    return stats
