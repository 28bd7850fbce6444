"""An index of parts with several vectors each, searched by MaxSim.

All tokens are grouped into cells by k-means, and each cell lists the rows that have a token in it.
A search visits the cells nearest to each token of the query and adds up a bound per row: the
similarity of the best visited cell that lists the row, else that of the last visited one. The rows
with the highest bounds are compared by MaxSim of their codes. Compare PLAID (Santhanam et al., CIKM
2022) and XTR (Lee et al., NeurIPS 2023), which complete missing similarities in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ravlm.encoders.token_vectors import TokenVectors
from ravlm.knowledge.index.faiss_index import CHUNK_ROWS, evenly_spaced, import_faiss
from ravlm.knowledge.index.kmeans import find_centroids
from ravlm.knowledge.index.token_codes import CODECS, CodedTokens

MIN_CELL_ROWS = 1000
"""Up to this many rows all codes are compared: cells would not save time."""
TRAINING_TOKENS = 64
"""Tokens per cell from which its centroid is learned."""
PROBES = 16
"""Cells visited for each token of a query."""
CANDIDATES = 256
"""Rows compared by their codes, at least."""
OVERFETCH = 4
"""Rows compared by their codes per requested row."""
MIN_EXACT_ROWS = 32
"""Rows beyond the requested ones whose vectors are compared, at least."""


class RowScores(NamedTuple):
    """The best rows of a search, best first; both arrays (n,)."""

    scores: np.ndarray
    """Float32: MaxSim with the codes."""
    rows: np.ndarray
    """int64"""


class TokenCells(NamedTuple):
    """The cells of all tokens, and the rows of each."""

    centroids: np.ndarray
    """Float32 (cells, dim), unit vectors."""
    rows: np.ndarray
    """int32: the rows of all cells, one cell after the other; each row once per cell."""
    starts: np.ndarray
    """int64 (cells + 1,): cell i lists rows[starts[i]:starts[i + 1]]."""

    @classmethod
    def build(cls, tokens: TokenVectors) -> TokenCells:
        """Group tokens into cells. They may be memory-mapped: they are read in chunks."""
        faiss = import_faiss()

        vectors = tokens.vectors
        num_cells = token_cell_count(len(vectors))
        sample = evenly_spaced(len(vectors), TRAINING_TOKENS * num_cells)
        centroids = find_centroids(np.asarray(vectors[sample], np.float32), num_cells)
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(centroids)
        pairs = []  # cell * rows + row, of each chunk once
        num_rows = len(tokens)
        for start in range(0, len(vectors), CHUNK_ROWS):
            chunk = np.ascontiguousarray(vectors[start : start + CHUNK_ROWS], np.float32)
            cells = index.search(chunk, 1)[1][:, 0].astype(np.int64)  # (m,)
            positions = np.arange(start, start + len(chunk))
            rows = np.searchsorted(tokens.starts, positions, side="right") - 1
            pairs.append(np.unique(cells * num_rows + rows))
        cell_of, row_of = np.divmod(np.unique(np.concatenate(pairs)), num_rows)
        starts = np.searchsorted(cell_of, np.arange(num_cells + 1)).astype(np.int64)
        return cls(centroids, row_of.astype(np.int32), starts)

    def bounds(self, query: np.ndarray, num_rows: int, probes: int) -> np.ndarray:
        """Return a bound of the MaxSim of a query (t, dim) with each row, float32 (num_rows,)."""
        faiss = import_faiss()

        probes = min(probes, len(self.centroids))
        scores, cells = faiss.knn(
            np.ascontiguousarray(query, np.float32),
            self.centroids,
            probes,
            metric=faiss.METRIC_INNER_PRODUCT,
        )  # (t, probes), best first
        total = np.full(num_rows, scores[:, -1].sum(), np.float32)
        gain = np.zeros(num_rows, np.float32)
        for of_token, visited in zip(scores - scores[:, -1:], cells, strict=True):
            lists = [self.rows[self.starts[c] : self.starts[c + 1]] for c in visited[::-1].tolist()]
            rows = np.concatenate(lists)
            gain[rows] = np.repeat(of_token[::-1], [len(of_cell) for of_cell in lists])  # best last
            total += gain
            gain[rows] = 0
        return total


class MaxSimIndex:
    """The codes of the tokens of all rows, with cells if there are many.

    Settings: `probes`, the cells visited per token of a query, and `candidates`, the rows whose
    codes are compared.
    """

    def __init__(
        self,
        tokens: CodedTokens,
        cells: TokenCells | None = None,
        settings: Mapping[str, int] | None = None,
    ) -> None:
        self.tokens = tokens
        self.cells = cells
        self.settings = dict(settings or {"probes": PROBES, "candidates": CANDIDATES})

    @classmethod
    def empty(cls, dim: int) -> MaxSimIndex:
        """Return an index without rows; `append` adds some."""
        return cls(CodedTokens.empty(next(iter(CODECS.values()))(dim)))

    @classmethod
    def build(
        cls, tokens: TokenVectors, kind: str, path: Path, cells: TokenCells | None = None
    ) -> MaxSimIndex:
        """Build an index of `kind`, with its codes in a new file at `path`.

        `tokens` may be memory-mapped and larger than memory: they are read in chunks. `cells` are
        those of another index of the same tokens.
        """
        vectors = tokens.vectors
        codec = CODECS[kind](vectors.shape[1])
        codes = np.zeros((0, codec.width), codec.dtype)
        if len(vectors):
            shape = (len(vectors), codec.width)
            codes = np.memmap(path, codec.dtype, "w+", shape=shape)
        for start in range(0, len(vectors), CHUNK_ROWS):
            codes[start : start + CHUNK_ROWS] = codec.encode(vectors[start : start + CHUNK_ROWS])
        if cells is None and len(tokens) > MIN_CELL_ROWS:
            cells = TokenCells.build(tokens)
        return cls(CodedTokens(codec, codes.view(np.ndarray), tokens.starts), cells)

    @property
    def kind(self) -> str:
        """Name of the codec."""
        return self.tokens.codec.kind

    @property
    def row_bytes(self) -> float:
        """Bytes of memory per row."""
        num_rows = max(1, len(self.tokens))
        arrays = [self.tokens.codes, self.tokens.starts, *(self.cells or ())]
        return sum(array.nbytes for array in arrays) / num_rows

    def __len__(self) -> int:
        return len(self.tokens)

    def append(self, tokens: TokenVectors) -> None:
        """Append rows. Only an index in memory grows."""
        self.tokens.append(tokens)

    def search(self, query: np.ndarray, n: int, mask: np.ndarray | None = None) -> RowScores:
        """Return the n best rows of those that `mask`, bool (rows,), keeps.

        `query` (t, dim) is what `weighted_query` returns.
        """
        num_rows = len(self)
        num_passing = num_rows if mask is None else int(mask.sum())
        num_candidates = max(self.settings["candidates"], OVERFETCH * n)
        if self.cells is None or num_passing <= num_candidates:
            rows = np.arange(num_rows) if mask is None else np.flatnonzero(mask)
        else:
            bounds = self.cells.bounds(query, num_rows, self.settings["probes"])
            if mask is not None:
                bounds[~mask] = -np.inf
            rows = np.sort(np.argpartition(-bounds, num_candidates)[:num_candidates])
        scores = self.tokens.scores(query, rows)
        order = np.argsort(-scores, kind="stable")[:n]
        return RowScores(scores[order], rows[order])

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write the index into `folder` and return the JSON record that `load` needs."""
        arrays = {"tokens": self.tokens.codes, "token-starts": self.tokens.starts}
        if self.cells is not None:
            arrays |= {f"cell-{field}": array for field, array in self.cells._asdict().items()}
        for field, array in arrays.items():
            np.save(folder / f"{name}-{field}.npy", array)
        return {"kind": self.kind, "settings": self.settings, "cells": self.cells is not None}

    @classmethod
    def load(cls, folder: Path, name: str, record: Mapping[str, Any], dim: int) -> MaxSimIndex:
        """Memory-map what `save` wrote.

        Raises OSError, ValueError or KeyError if the files are not an index of this kind.
        """

        def read(field: str) -> np.ndarray:
            return np.load(folder / f"{name}-{field}.npy", mmap_mode="r").view(np.ndarray)

        codec = CODECS[record["kind"]](dim)
        codes, starts = read("tokens"), read("token-starts")
        if codes.shape != (starts[-1], codec.width) or codes.dtype != codec.dtype:
            raise ValueError(f'The tokens of "{name}" do not match their number.')
        cells = None
        if record["cells"]:
            cells = TokenCells(*(read(f"cell-{field}") for field in TokenCells._fields))
        settings = {key: int(value) for key, value in record["settings"].items()}
        return cls(CodedTokens(codec, codes, starts), cells, settings)


def search_depth(n: int) -> int:
    """Return how many of the best codes hold the n best rows; their vectors are compared."""
    return n + max(n, MIN_EXACT_ROWS)


def token_cell_count(num_tokens: int) -> int:
    """Return the number of cells: a power of two near 2 * sqrt(tokens)."""
    return 2 ** max(0, round(math.log2(2 * math.sqrt(max(1, num_tokens)))))
