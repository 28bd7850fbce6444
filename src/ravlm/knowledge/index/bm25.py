"""BM25 over the words of parts: which part has which word, held in arrays and derived from the
store.

A row of segments as the vectors are: a snapshot's, memory-mapped, and in memory what is newer;
removed rows are masked. English words are stemmed here and words lose their accents, so the store
keeps them as they were written. Knows no SQL. Source of the formula: Robertson & Zaragoza, "The
Probabilistic Relevance Framework: BM25 and Beyond" (2009), with Lucene's idf, which is never
negative."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

import numpy as np

from ravlm.data.stems import stem
from ravlm.knowledge.candidates import NOTHING, Ranking, merged

BM25_K1, BM25_B = 1.2, 0.75
"""BM25's k1 and b."""
FREQUENT = 0.02
"""Share of the rows from which on a word is looked up only where it can still matter."""

_POSSESSIVE = re.compile("['’]s?$")


class TermHashes(dict[str, int]):
    """Words to their terms, 64-bit hashes of their stems; remembers those it has seen."""

    def __missing__(self, word: str) -> int:
        plain = "".join(
            c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c)
        )
        plain = _POSSESSIVE.sub("", plain)
        term = int.from_bytes(blake2b(stem(plain).encode(), digest_size=8).digest(), "little")
        self[word] = term
        return term


class Arrays(NamedTuple):
    """A block: `rows`, `counts` and `impacts` of term i are those from starts[i] to starts[i + 1],
    rows ascending."""

    terms: np.ndarray
    """uint64, ascending."""
    starts: np.ndarray
    rows: np.ndarray
    counts: np.ndarray
    impacts: np.ndarray
    """float32: what a row's score gains by the term, but for the term's idf."""
    tops: np.ndarray
    """float32: the greatest impact of each term."""
    parts: np.ndarray
    """Of each row, ascending; so are `entries`, their entries, and `lengths`, how many words it
    has."""
    entries: np.ndarray
    lengths: np.ndarray


def arranged(
    parts: np.ndarray, entries: np.ndarray, texts: Sequence[str], terms: TermHashes, before: Totals
) -> Arrays:
    """A block of new rows; `texts` are words separated by blanks, `before` what all other segments
    hold."""
    found = [[terms[word] for word in text.split()] for text in texts]
    lengths = np.fromiter(map(len, found), np.int32, len(found))
    flat = np.fromiter(chain.from_iterable(found), np.uint64, int(lengths.sum()))
    rows = np.repeat(np.arange(len(found), dtype=np.int32), lengths)
    order = np.lexsort((rows, flat))
    flat, rows = flat[order], rows[order]
    first = np.flatnonzero(
        np.r_[True, (flat[1:] != flat[:-1]) | (rows[1:] != rows[:-1])][: len(flat)]
    )
    counts = np.minimum(np.diff(np.r_[first, len(flat)]), 65535).astype(np.uint16)
    return _indexed(flat[first], rows[first], counts, (parts, entries, lengths), before)


def joined(one: Arrays, two: Arrays, before: Totals) -> Arrays:
    """Two neighbouring segments as one."""
    flat = np.concatenate([np.repeat(block.terms, np.diff(block.starts)) for block in (one, two)])
    rows = np.concatenate([one.rows, two.rows + np.int32(len(one.parts))])
    order = np.argsort(flat, kind="stable")
    of_rows = tuple(np.concatenate(both) for both in zip(one[-3:], two[-3:], strict=True))
    return _indexed(
        flat[order], rows[order], np.concatenate([one.counts, two.counts])[order], of_rows, before
    )


def _indexed(
    flat: np.ndarray,
    rows: np.ndarray,
    counts: np.ndarray,
    of_rows: tuple[np.ndarray, ...],
    before: Totals,
) -> Arrays:
    lengths = of_rows[2]
    totals = before.plus(lengths)
    norms = BM25_K1 * (
        1 - BM25_B + BM25_B * lengths / max(totals.words / max(totals.rows, 1), 1e-9)
    )
    impacts = (counts * (BM25_K1 + 1) / (counts + norms[rows])).astype(np.float32)
    first = np.flatnonzero(np.r_[True, flat[1:] != flat[:-1]][: len(flat)])
    starts = np.r_[first, len(flat)].astype(np.int64)
    tops = np.maximum.reduceat(impacts, first) if len(first) else np.zeros(0, np.float32)
    return Arrays(flat[first], starts, rows, counts, impacts, tops, *of_rows)


class Totals(NamedTuple):
    """Rows, and words in them."""

    rows: int = 0
    words: int = 0

    def plus(self, lengths: np.ndarray) -> Totals:
        """These and those."""
        return Totals(self.rows + len(lengths), self.words + int(lengths.sum()))


class KeywordSegment:
    """One block: its arrays, and which rows are alive."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays, self.alive = arrays, np.ones(len(arrays.parts), bool)

    def find(self, term: int) -> int:
        """The term's place among the block's; -1 where no row has it."""
        at = int(np.searchsorted(self.arrays.terms, np.uint64(term)))
        return (
            at if at < len(self.arrays.terms) and self.arrays.terms[at] == np.uint64(term) else -1
        )

    def having(self, term: int) -> int:
        """How many rows have it, dead ones included."""
        at = self.find(term)
        return 0 if at < 0 else int(self.arrays.starts[at + 1] - self.arrays.starts[at])

    def search(
        self, weights: Sequence[tuple[int, float]], n: int, passes: np.ndarray | None
    ) -> Ranking:
        """The n best rows; `weights` are terms with their idf.

        Rare words come first. Once the n best so far stand higher than all words still to come
        could lift a new row, only the rows found are looked up among those of the frequent words
        (MaxScore, Turtle & Flood 1995): the result is the same."""
        arrays = self.arrays
        scores = np.zeros(len(arrays.parts), np.float32)
        mask = self.alive if passes is None else self.alive & passes[arrays.entries]
        here = [(at, idf) for term, idf in weights if (at := self.find(term)) >= 0]
        here.sort(key=lambda item: int(arrays.starts[item[0] + 1] - arrays.starts[item[0]]))
        rest = sum(idf * float(arrays.tops[at]) for at, idf in here)
        found: np.ndarray | None = None
        for at, idf in here:
            place = slice(int(arrays.starts[at]), int(arrays.starts[at + 1]))
            rows = arrays.rows[place]
            if found is None and len(rows) > FREQUENT * len(scores):
                found = self._leaders(scores, mask, n, rest)
            rest -= idf * float(arrays.tops[at])
            if found is None:
                scores[rows] += idf * arrays.impacts[place]
                continue
            where = np.minimum(np.searchsorted(rows, found), len(rows) - 1)
            hit = rows[where] == found
            scores[found[hit]] += idf * arrays.impacts[place][where[hit]]
        if found is None:
            found = np.flatnonzero(scores)
            found = found[mask[found]]
        best = _highest(scores[found], n)
        order = found[best][np.lexsort((found[best], -scores[found[best]]))]
        return Ranking(arrays.parts[order], arrays.entries[order], scores[order])

    def _leaders(
        self, scores: np.ndarray, mask: np.ndarray, n: int, rest: float
    ) -> np.ndarray | None:
        """The rows that can still be among the n best, ascending; None where that may be any."""
        found = np.flatnonzero(scores)
        found = found[mask[found]]
        if len(found) < n:
            return None
        values = scores[found]
        least = float(np.partition(values, len(values) - n)[len(values) - n])
        return found[values + rest >= least] if least > rest else None


def _highest(values: np.ndarray, n: int) -> np.ndarray:
    """Positions of the n highest values, and of all that equal the last of them, in any order."""
    if len(values) <= n:
        return np.arange(len(values))
    return np.flatnonzero(values >= np.partition(values, len(values) - n)[len(values) - n])


class KeywordIndex:
    """All text parts of a base by their words. `change` and `last_part` say how far it has read the
    store."""

    def __init__(self, segments: Sequence[KeywordSegment] = (), change: int = 0, last_part: int = 0) -> None:
        self.segments, self.change, self.last_part = list(segments), change, last_part
        self.terms = TermHashes()

    def update(
        self, rows: Sequence[tuple[int, int, str]], removed: Sequence[int], change: int
    ) -> None:
        """Take over new rows (part, entry, words), then mask removed parts."""
        if rows:
            parts, entries, texts = zip(*rows, strict=True)
            owners, before = np.array(entries, np.int64), self.totals(self.segments)
            new = arranged(np.array(parts, np.int64), owners, texts, self.terms, before)
            segments = [*self.segments, KeywordSegment(new)]
            while len(segments) > 1 and len(segments[-2].alive) < 2 * len(segments[-1].alive):
                one, two = segments[-2:]
                both = KeywordSegment(joined(one.arrays, two.arrays, self.totals(segments[:-2])))
                both.alive = np.concatenate([one.alive, two.alive])
                segments[-2:] = [both]
            self.segments, self.last_part = segments, int(parts[-1])
        gone = np.array(sorted(removed), np.int64)
        for block in self.segments if len(gone) else ():
            at = np.searchsorted(block.arrays.parts, gone)
            at = at[at < len(block.alive)]
            block.alive[at[np.isin(block.arrays.parts[at], gone)]] = False
        self.change = change

    @staticmethod
    def totals(segments: Sequence[KeywordSegment]) -> Totals:
        """What the segments hold together."""
        lengths = [block.arrays.lengths for block in segments]
        return Totals(sum(map(len, lengths)), sum(int(some.sum()) for some in lengths))

    def search(self, words: Sequence[str], n: int, passes: np.ndarray | None = None) -> Ranking:
        """The n best parts that have one of `words`; scores are BM25, higher is better."""
        terms = list(dict.fromkeys(self.terms[word] for word in words))
        rows = sum(len(block.alive) for block in self.segments)
        weights = []
        for term in terms:
            having = sum(block.having(term) for block in self.segments)
            if having:
                weights.append((term, float(np.log1p((rows - having + 0.5) / (having + 0.5)))))
        found = [block.search(weights, n, passes) for block in self.segments] if weights else []
        return merged(found, n) if found else NOTHING
