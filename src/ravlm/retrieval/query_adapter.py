"""A generator's own query: where to look, from a picture's vector, for the entries that it writes
best from.

One matrix, learnt by `ravlm train retriever` and kept beside the generator's weights. Knows no
search."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ravlm.errors import BrokenData

FILE = "query.safetensors"


@dataclass(frozen=True)
class QueryAdapter:
    """A matrix (dim, dim) for the vectors of one encoder, by its fingerprint."""

    matrix: np.ndarray
    fingerprint: str

    def __call__(self, vectors: np.ndarray, fingerprint: str) -> np.ndarray:
        """Unit vectors (n, dim) moved, to unit vectors (n, dim); those of another encoder as they
        are."""
        if fingerprint != self.fingerprint:
            return vectors
        moved = vectors @ self.matrix
        return np.asarray(
            moved / np.linalg.norm(moved, axis=1, keepdims=True).clip(1e-12), np.float32
        )

    def save(self, folder: str | Path) -> None:
        """Write it into a generator's folder."""
        from safetensors.numpy import save_file

        about = {"fingerprint": self.fingerprint}
        save_file({"matrix": self.matrix.astype(np.float16)}, Path(folder) / FILE, metadata=about)

    @classmethod
    def load(cls, folder: str | Path) -> QueryAdapter | None:
        """That of a generator's folder; None where it has none. Raises BrokenData for a damaged
        one."""
        from safetensors import SafetensorError, safe_open

        path = Path(folder) / FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, "numpy") as file:
                matrix, about = file.get_tensor("matrix").astype(np.float32), file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise BrokenData(
                f'"{path}" can\'t be read: {error}. Train the retriever again, or remove it.'
            ) from None
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or "fingerprint" not in about:
            raise BrokenData(
                f'"{path}" holds no query matrix of an encoder. Train the retriever again, or remove it.'
            )
        return cls(matrix, about["fingerprint"])
