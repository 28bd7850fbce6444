"""Inverted file index (IVF): vectors grouped into cells by k-means, with product quantization."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ravlm.knowledge.index.faiss_index import (
    RefinedIndex,
    add_in_chunks,
    import_faiss,
    trained_rows,
    training_sample,
)
from ravlm.knowledge.index.kmeans import find_centroids

MIN_CELL_ROWS = 40
"""Minimum number of rows per cell."""
CODE_DIMS = (4, 3, 5, 2, 6, 8)
"""Dimensions that may share a 4-bit code, best first."""


class IvfIndex(RefinedIndex):
    """Faiss IVF-PQ with 4-bit codes, refined by rows of one byte per dimension.

    Settings: `cells`, the number of cells searched (nprobe), and `candidates`.
    """

    kind: ClassVar[str] = "ivf"
    defaults: ClassVar[Mapping[str, int]] = {"cells": 32, "candidates": 80}

    @classmethod
    def supports(cls, dim: int) -> bool:
        return code_dims(dim) > 0

    @classmethod
    def build(cls, vectors: np.ndarray) -> IvfIndex:
        faiss = import_faiss()

        rows = add_in_chunks(trained_rows(vectors), vectors)
        dim = vectors.shape[1]
        num_cells = cell_count(len(vectors))
        factory = f"IVF{num_cells},PQ{dim // code_dims(dim)}x4fs"
        coarse = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
        coarse.quantizer.add(find_centroids(vectors, num_cells))
        coarse.train(training_sample(vectors))  # only the codes: the centroids are there already
        return cls(rows, add_in_chunks(coarse, vectors))

    @classmethod
    def candidates(cls) -> list[dict[str, int]]:
        cells = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
        return [{"cells": c, "candidates": r} for r in (40, 80, 160, 320) for c in cells]

    @property
    def ann_bytes(self) -> float:
        return float(self.coarse.code_size + 8)  # a code and a row number

    def coarse_parameters(self) -> Any:
        faiss = import_faiss()

        return faiss.SearchParametersIVF(nprobe=self.settings["cells"])


def cell_count(num_rows: int) -> int:
    """Return the number of cells: a power of two near 4 * sqrt(rows).

    It is smaller where a cell would have fewer than `MIN_CELL_ROWS` rows to be learned from.
    """
    count = 2 ** round(math.log2(4 * math.sqrt(num_rows)))
    while count > 1 and count * MIN_CELL_ROWS > max(num_rows, MIN_CELL_ROWS):
        count //= 2
    return count


def code_dims(dim: int) -> int:
    """Return how many dimensions share a 4-bit code; 0 if none of `CODE_DIMS` divides `dim`."""
    return next((size for size in CODE_DIMS if dim % size == 0), 0)
