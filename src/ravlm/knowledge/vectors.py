"""The vector index: what of the store is held for searching, derived from it and never the truth.

A modality is a row of blocks: one read from a snapshot, memory-mapped, that covers the base up to some change, and one
in memory for what is newer. Both hold half-precision vectors and are scanned exactly; removed rows are masked. Knows no
SQL and no encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ravlm.data.batches import batched
from ravlm.errors import BrokenData
from ravlm.knowledge.schema import NAMES
from ravlm.records import MODALITIES, Modality

SAMPLE = 512
"""Rows that stand for a modality where the cosines of chance are wanted."""
LOAD = 8192
"""Rows that are read from the store at a time."""


class Ranking(NamedTuple):
    """Candidates, best first: numbers of parts, numbers of their entries, scores."""

    parts: np.ndarray
    entries: np.ndarray
    scores: np.ndarray


class Kept(NamedTuple):
    """Which entries may be found: numbers, ascending; `allowed` None lets all pass."""

    allowed: np.ndarray | None = None
    excluded: np.ndarray | None = None


NOTHING = Ranking(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
EVERYTHING = Kept()


class Block:
    """Rows of one modality: a Faiss index over half-precision vectors, part and entry numbers, and which are alive."""

    def __init__(self, index: Any, parts: np.ndarray, entries: np.ndarray) -> None:
        self.index, self.parts, self.entries = index, parts, entries
        self.alive = np.ones(len(parts), bool)

    @classmethod
    def empty(cls, dim: int) -> Block:
        """A block without rows that can grow."""
        import faiss

        index = faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        return cls(index, np.zeros(0, np.int64), np.zeros(0, np.int64))

    def extend(self, parts: np.ndarray, entries: np.ndarray, vectors: np.ndarray) -> None:
        """Append rows; part numbers are higher than all that are here."""
        self.index.add(np.ascontiguousarray(vectors, np.float32))
        self.parts = np.concatenate([self.parts, parts])
        self.entries = np.concatenate([self.entries, entries])
        self.alive = np.concatenate([self.alive, np.ones(len(parts), bool)])

    def drop(self, parts: np.ndarray) -> None:
        """Mask the rows of these parts, as far as they are here."""
        at = np.searchsorted(self.parts, parts)
        at = at[at < len(self.parts)]
        self.alive[at[np.isin(self.parts[at], parts)]] = False

    def search(self, queries: np.ndarray, n: int, kept: Kept) -> list[Ranking]:
        """The n best rows for each query (q, dim)."""
        import faiss

        mask = self.alive
        if kept.allowed is not None:
            mask = mask & np.isin(self.entries, kept.allowed)
        if kept.excluded is not None:
            mask = mask & ~np.isin(self.entries, kept.excluded)
        n = min(n, int(mask.sum()))
        if not n:
            return [NOTHING] * len(queries)
        bits = np.packbits(mask, bitorder="little")  # lives until the search is over: Faiss keeps a bare pointer
        selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        limit = faiss.SearchParameters()
        limit.sel = selector
        queries = np.ascontiguousarray(queries, np.float32)
        scores, rows = self.index.search(queries, n, params=None if mask.all() else limit)
        return [Ranking(self.parts[r], self.entries[r], s) for r, s in zip(rows, scores, strict=True)]

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of rows by position, float32 (n, dim)."""
        return self.index.reconstruct_batch(np.ascontiguousarray(rows, np.int64))


class VectorIndex:
    """All parts of one modality. `canaries` (n, dim): vectors of that modality that no base is without."""

    def __init__(self, dim: int, canaries: np.ndarray) -> None:
        self.dim, self.canaries = dim, canaries
        self.blocks = [Block.empty(dim)]
        self._sample: np.ndarray | None = None

    def __len__(self) -> int:
        return sum(int(block.alive.sum()) for block in self.blocks)

    def extend(self, parts: np.ndarray, entries: np.ndarray, vectors: np.ndarray) -> None:
        """Append rows to the block in memory."""
        self.blocks[-1].extend(parts, entries, vectors)
        self._sample = None

    def drop(self, parts: np.ndarray) -> None:
        """Mask removed parts."""
        for block in self.blocks:
            block.drop(parts)
        self._sample = None

    def search(self, queries: np.ndarray, n: int, kept: Kept = EVERYTHING) -> list[Ranking]:
        """The n best parts (fewer where there are no more) for each query (q, dim): cosines, best first."""
        found = [block.search(queries, n, kept) for block in self.blocks if len(block.parts)]
        return [merged(of_one, n) for of_one in zip(*found, strict=True)] if found else [NOTHING] * len(queries)

    def parts(self) -> np.ndarray:
        """Numbers of all parts that are alive, ascending."""
        return np.concatenate([block.parts[block.alive] for block in self.blocks])

    def vectors(self, parts: np.ndarray) -> np.ndarray:
        """Vectors of parts, float32 (n, dim), in the order asked; zeros for a part that isn't here."""
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

    def _rows(self, parts: np.ndarray) -> Iterator[tuple[Block, np.ndarray, np.ndarray]]:
        """For each block that holds some of `parts`: which of them (n,) bool, and in which rows."""
        for block in self.blocks:
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


class Index:
    """The vector indexes of a base, and the change that they cover."""

    def __init__(self, dim: int, canaries: Mapping[Modality, np.ndarray]) -> None:
        self.dim, self.change, self.last_part = dim, 0, 0
        self.of = {modality: VectorIndex(dim, canaries[modality]) for modality in MODALITIES}

    def update(self, rows: Iterable[tuple[int, int, int, bytes, int]], removed: list[int], change: int) -> None:
        """Take over new parts (number, entry, modality code, vector, checksum), then mask removed ones."""
        for some in batched(rows, LOAD):
            numbers, entries, codes, blobs, _ = zip(*some, strict=True)
            if any(len(blob) != 2 * self.dim for blob in blobs):
                raise BrokenData("A vector of the base has another length than the rest: run `ravlm verify` on it.")
            vectors = np.frombuffer(b"".join(blobs), "<f2").reshape(-1, self.dim)
            parts, owners, kinds = (np.array(column, np.int64) for column in (numbers, entries, codes))
            for code, modality in NAMES.items():
                if (here := kinds == code).any():
                    self.of[modality].extend(parts[here], owners[here], vectors[here].astype(np.float32))
            self.last_part = int(parts[-1])
        if removed:
            for index in self.of.values():
                index.drop(np.array(sorted(removed), np.int64))
        self.change = change


def merged(rankings: Sequence[Ranking], n: int | None = None) -> Ranking:
    """One ranking of several, best first; of equal scores the older part first."""
    parts, entries, scores = (np.concatenate(columns) for columns in zip(*rankings, strict=True))
    order = np.lexsort((parts, -scores))[:n]
    return Ranking(parts[order], entries[order], np.minimum(scores[order], 1.0))
