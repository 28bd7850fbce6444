"""Index kinds that compare a query with every vector."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ravlm.knowledge.index.faiss_index import FaissIndex, add_in_chunks, new_rows, trained_rows


class FlatIndex(FaissIndex):
    """All vectors in half precision, two bytes per dimension."""

    kind: ClassVar[str] = "flat"
    tuned: ClassVar[bool] = False  # twice as large as "bytes" and no faster

    @classmethod
    def empty(cls, dim: int) -> FlatIndex:
        """Return an index without vectors; `add` fills it."""
        return cls(new_rows(dim, "QT_fp16"))

    @classmethod
    def build(cls, vectors: np.ndarray) -> FlatIndex:
        index = cls.empty(vectors.shape[1])
        add_in_chunks(index.rows, vectors)
        return index

    def add(self, vectors: np.ndarray) -> None:
        """Append vectors (n, dim). Only the segment in memory grows."""
        self.rows.add(np.ascontiguousarray(vectors, np.float32))


class BytesIndex(FaissIndex):
    """All vectors with one byte per dimension."""

    kind: ClassVar[str] = "bytes"

    @classmethod
    def build(cls, vectors: np.ndarray) -> BytesIndex:
        return cls(add_in_chunks(trained_rows(vectors), vectors))
