"""A generator's own query: it moves an image's vector towards the entries it writes best from.

`ravlm train retriever` learns one matrix, which is stored next to the generator's weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ravlm.errors import BrokenData

FILE = "query.safetensors"


@dataclass(frozen=True)
class QueryAdapter:
    """A matrix (dim, dim) for the image vectors of one encoder."""

    matrix: np.ndarray
    fingerprint: str
    """Fingerprint of the encoder."""

    def __call__(self, vectors: np.ndarray, fingerprint: str) -> np.ndarray:
        """Map unit vectors (n, dim) to unit vectors (n, dim).

        Vectors of another encoder, by its fingerprint, are returned unchanged.
        """
        if fingerprint != self.fingerprint:
            return vectors
        mapped = vectors @ self.matrix
        norms = np.linalg.norm(mapped, axis=1, keepdims=True).clip(1e-12)
        return np.asarray(mapped / norms, np.float32)

    def save(self, folder: str | Path) -> None:
        """Write the adapter into a generator's folder."""
        from safetensors.numpy import save_file

        metadata = {"fingerprint": self.fingerprint}
        matrix = self.matrix.astype(np.float16)
        save_file({"matrix": matrix}, Path(folder) / FILE, metadata=metadata)

    @classmethod
    def load(cls, folder: str | Path) -> QueryAdapter | None:
        """Load the adapter of a generator's folder; None if it has none.

        Raises BrokenData for a damaged file.
        """
        from safetensors import SafetensorError, safe_open

        path = Path(folder) / FILE
        if not path.is_file():
            return None
        try:
            with safe_open(path, "numpy") as file:
                matrix = file.get_tensor("matrix").astype(np.float32)
                metadata = file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise BrokenData(
                f'Cannot read "{path}": {error}. Train the retriever again, or delete the file.'
            ) from None
        is_square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
        if not is_square or "fingerprint" not in metadata:
            raise BrokenData(
                f'"{path}" is not a query matrix of an encoder. '
                "Train the retriever again, or delete the file."
            )
        return cls(matrix, metadata["fingerprint"])
