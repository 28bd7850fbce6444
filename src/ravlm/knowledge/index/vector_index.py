"""The vector index: what of the store is held for searching, derived from it and never the truth.

A modality is a row of segments: one read from a snapshot, memory-mapped, that covers the base up to
some change, and one in memory for what is newer, which is scanned exactly. Removed rows are masked.
A filter that keeps few rows, and a query that a shortcut can't answer in full, are answered by a
scan. Knows no SQL and no encoder."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ravlm.data.parallel import batched
from ravlm.errors import BrokenData
from ravlm.knowledge.candidates import NOTHING, Ranking, merged
from ravlm.knowledge.index import faiss_index
from ravlm.knowledge.index.faiss_index import FaissIndex
from ravlm.knowledge.records import MODALITY_BY_CODE
from ravlm.records import MODALITIES, Modality

SAMPLE = 512
"""Rows that stand for a modality where the cosines of chance are wanted."""
ROWS_PER_READ = 8192
"""Rows that are read from the store at a time."""
SCANNED, MAX_ANN_DEPTH, FEW = 0.2, 0.02, 512
"""Share of a block's rows that must be kept for its shortcut to be asked, share that it may be
asked for, and number of kept rows up to which they are taken out and compared."""


class Segment:
    """Rows of one modality: an index of their vectors, part and entry numbers, ascending, and which
    are alive."""

    def __init__(self, made: FaissIndex, parts: np.ndarray, entries: np.ndarray) -> None:
        self.made, self.parts, self.entries = made, parts, entries
        self.alive, self.dead = np.ones(len(parts), bool), 0

    @classmethod
    def empty(cls, dim: int) -> Segment:
        """A block without rows that can grow."""
        return cls(
            FaissIndex("flat", faiss_index.empty_rows(dim)),
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
        )

    def extend(self, parts: np.ndarray, entries: np.ndarray, vectors: np.ndarray) -> None:
        """Append rows to a block of kind flat; part numbers are higher than all that are here."""
        self.made.rows.add(np.ascontiguousarray(vectors, np.float32))
        self.parts = np.concatenate([self.parts, parts])
        self.entries = np.concatenate([self.entries, entries])
        self.alive = np.concatenate([self.alive, np.ones(len(parts), bool)])

    def drop(self, parts: np.ndarray) -> None:
        """Mask the rows of these parts, as far as they are here."""
        at = np.searchsorted(self.parts, parts)
        at = at[at < len(self.parts)]
        self.alive[at[np.isin(self.parts[at], parts)]] = False
        self.dead = len(self.alive) - int(self.alive.sum())

    def search(self, queries: np.ndarray, n: int, passes: np.ndarray | None) -> Ranking:
        """The n best rows for each query (q, dim), as arrays (q, n); `passes` says of each entry's
        number whether it may be found."""
        mask = self.alive if self.dead else None
        if passes is not None:
            mask = passes[self.entries] if mask is None else passes[self.entries] & mask
        kept = len(self.parts) if mask is None else int(mask.sum())
        n = min(n, kept)
        if not n:
            return Ranking(*(np.zeros((len(queries), 0), array.dtype) for array in NOTHING))
        queries = np.ascontiguousarray(queries, np.float32)
        asked = n if mask is None else math.ceil(1.2 * n * len(self.parts) / kept) + 8
        if (
            self.made.shortcut is None
            or kept < SCANNED * len(self.parts)
            or asked > MAX_ANN_DEPTH * len(self.parts)
        ):
            scores, rows = self._scan(queries, n, mask, kept)
        else:
            scores, rows = self._shortcut(queries, n, asked, mask, kept)
        return Ranking(self.parts[rows], self.entries[rows], np.minimum(scores, 1.0))

    def _scan(
        self, queries: np.ndarray, n: int, mask: np.ndarray | None, kept: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compare all rows that are kept: scores and rows (q, n), best first."""
        import faiss

        if mask is None:
            return self.made.rows.search(queries, n)
        if kept <= FEW:
            rows = np.flatnonzero(mask)
            scores = queries @ self.vectors(rows).T
            order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
            return np.take_along_axis(scores, order, axis=1), rows[order]
        bits = np.packbits(
            mask, bitorder="little"
        )  # lives until the search is over: Faiss keeps a bare pointer
        limit = faiss.SearchParameters()
        limit.sel = selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        scores, rows = self.made.rows.search(queries, n, params=limit)
        del selector
        return scores, rows

    def _shortcut(
        self, queries: np.ndarray, n: int, asked: int, mask: np.ndarray | None, kept: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The best `asked` rows by the shortcut, less those that are masked; where that leaves too
        few, a scan."""
        scores, rows = self.made.shortcut.search(
            queries, asked, params=faiss_index.parameters(self.made, asked)
        )
        good = rows >= 0
        if mask is None:
            if good.all():
                return scores, rows
        else:
            good &= mask[rows]
        first = np.argsort(~good, axis=1, kind="stable")[:, :n]
        scores, rows = (
            np.take_along_axis(scores, first, axis=1),
            np.take_along_axis(rows, first, axis=1),
        )
        short = np.flatnonzero(good.sum(axis=1) < n)
        if len(short):
            scores[short], rows[short] = self._scan(queries[short], n, mask, kept)
        return scores, rows

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of rows by position, float32 (n, dim)."""
        return self.made.rows.reconstruct_batch(np.ascontiguousarray(rows, np.int64))


class VectorIndex:
    """All parts of one modality. `canaries` (n, dim): vectors of that modality that no base is
    without."""

    def __init__(self, dim: int, canaries: np.ndarray) -> None:
        self.dim, self.canaries = dim, canaries
        self.segments = [Segment.empty(dim)]
        self._sample: np.ndarray | None = None
        self._one_each: bool | None = None

    def __len__(self) -> int:
        return sum(len(block.parts) - block.dead for block in self.segments)

    @property
    def one_part_per_entry(self) -> bool:
        """Whether no entry has two parts here."""
        if self._one_each is None:
            entries = np.concatenate([block.entries[block.alive] for block in self.segments])
            self._one_each = bool((entries[1:] != entries[:-1]).all())
        return self._one_each

    def extend(self, parts: np.ndarray, entries: np.ndarray, vectors: np.ndarray) -> None:
        """Append rows to the block in memory."""
        self.segments[-1].extend(parts, entries, vectors)
        self._sample = self._one_each = None

    def drop(self, parts: np.ndarray) -> None:
        """Mask removed parts."""
        for block in self.segments:
            block.drop(parts)
        self._sample = self._one_each = None

    def search(
        self, queries: np.ndarray, n: int, passes: np.ndarray | None = None
    ) -> list[Ranking]:
        """The n best parts (fewer where there are no more) for each query (q, dim): cosines, best
        first.

        `passes`, bool by the entry's number: which may be found.
        """
        found = [block.search(queries, n, passes) for block in self.segments if len(block.parts)]
        if len(found) == 1 and not (found[0].scores[:, 1:] == found[0].scores[:, :-1]).any():
            return list(map(Ranking, *found[0]))
        each = [map(Ranking, *arrays) for arrays in found]
        return (
            [merged(of_one, n) for of_one in zip(*each, strict=True)]
            if each
            else [NOTHING] * len(queries)
        )

    def parts(self) -> np.ndarray:
        """Numbers of all parts that are alive, ascending."""
        return np.concatenate([block.parts[block.alive] for block in self.segments])

    def vectors(self, parts: np.ndarray) -> np.ndarray:
        """Vectors of parts, float32 (n, dim), in the order asked; zeros for a part that isn't
        here."""
        found = np.zeros((len(parts), self.dim), np.float32)
        for block, here, rows in self._rows(parts):
            found[here] = block.vectors(rows)
        return found

    def entries(self, parts: np.ndarray) -> np.ndarray:
        """The entry's number of each part; 0 for a part that isn't here."""
        found = np.zeros(len(parts), np.int64)
        for block, here, rows in self._rows(parts):
            found[here] = block.entries[rows]
        return found

    def _rows(self, parts: np.ndarray) -> Iterator[tuple[Segment, np.ndarray, np.ndarray]]:
        """For each block that holds some of `parts`: which of them (n,) bool, and in which rows."""
        for block in self.segments:
            rows = np.searchsorted(block.parts, parts)
            here = rows < len(block.parts)
            here[here] = block.parts[rows[here]] == parts[here]
            if here.any():
                yield block, here, rows[here]

    def sample(self) -> np.ndarray:
        """The canaries, and up to SAMPLE vectors evenly spaced over the parts, float32 (n, dim)."""
        if self._sample is None:
            parts = self.parts()
            some = parts[np.linspace(0, len(parts) - 1, min(SAMPLE, len(parts))).astype(np.int64)]
            self._sample = np.concatenate([self.canaries, self.vectors(some)])
        return self._sample


class VectorIndexes:
    """The vector indexes of a base, and the change that they cover; `snapshot` is the folder they
    were read from."""

    def __init__(self, dim: int, canaries: Mapping[Modality, np.ndarray]) -> None:
        self.dim, self.change, self.last_part = dim, 0, 0
        self.snapshot: Path | None = None
        self.by_modality = {modality: VectorIndex(dim, canaries[modality]) for modality in MODALITIES}

    def update(
        self, rows: Iterable[tuple[int, int, int, bytes, int, int]], removed: list[int], change: int
    ) -> None:
        """Take over new parts, as the store tells them, then mask removed ones."""
        for some in batched(rows, ROWS_PER_READ):
            numbers, entries, codes, blobs, _, _ = zip(*some, strict=True)
            if any(len(blob) != 2 * self.dim for blob in blobs):
                raise BrokenData(
                    "A vector of the base has another length than the rest: run `ravlm verify` on it."
                )
            vectors = np.frombuffer(b"".join(blobs), "<f2").reshape(-1, self.dim)
            parts, owners, kinds = (
                np.array(column, np.int64) for column in (numbers, entries, codes)
            )
            for code, modality in MODALITY_BY_CODE.items():
                if (here := kinds == code).any():
                    self.by_modality[modality].extend(
                        parts[here], owners[here], vectors[here].astype(np.float32)
                    )
            self.last_part = int(parts[-1])
        if removed:
            for index in self.by_modality.values():
                index.drop(np.array(sorted(removed), np.int64))
        self.change = change
