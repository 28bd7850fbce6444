"""Binary codes: one bit per dimension, compared again by int8 vectors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from ravlm.knowledge.index.faiss_index import (
    RefinedIndex,
    add_in_chunks,
    import_faiss,
    trained_rows,
    training_sample,
)


class BinaryIndex(RefinedIndex):
    """Faiss RaBitQ (Gao and Long, 2024), refined by rows of one byte per dimension.

    A code holds the signs of the centered vector, and two numbers that correct the inner product
    with it. The query is not reduced to bits: texts that search for images lie far from the images'
    center, where the signs of most dimensions are the same for all of them.

    A search reads the codes, dim / 8 + 8 bytes per vector, and of the rows only those of its
    candidates, which stay on disk otherwise. Nothing is trained but the center, so the index is
    built in the time of a scan.
    """

    kind: ClassVar[str] = "binary"
    defaults: ClassVar[Mapping[str, int]] = {"candidates": 160}

    @classmethod
    def supports(cls, dim: int) -> bool:
        return dim % 8 == 0

    @classmethod
    def build(cls, vectors: np.ndarray) -> BinaryIndex:
        faiss = import_faiss()

        rows = add_in_chunks(trained_rows(vectors), vectors)
        codes = faiss.IndexRaBitQFastScan(vectors.shape[1], faiss.METRIC_INNER_PRODUCT)
        codes.train(training_sample(vectors))
        return cls(rows, add_in_chunks(codes, vectors))

    @classmethod
    def candidates(cls) -> list[dict[str, int]]:
        return [{"candidates": count} for count in (40, 80, 160, 320, 640)]
