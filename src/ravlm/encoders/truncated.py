"""Matryoshka encoders, cut to shorter vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ravlm.encoders.base import Encoder, Role
from ravlm.encoders.token_vectors import unit_rows
from ravlm.errors import InvalidInput
from ravlm.records import ImageSource


def check_dimensions(encoder: Encoder, dimensions: int) -> None:
    """Raise InvalidInput unless the encoder was trained for vectors of this length."""
    lengths = sorted({*encoder.matryoshka_dims, encoder.dim})
    if dimensions in lengths and not isinstance(dimensions, bool):
        return
    reason = (
        "has other lengths"
        if encoder.matryoshka_dims
        else "was not trained for shorter vectors (Matryoshka)"
    )
    raise InvalidInput(
        f'dimensions is {dimensions}, but the encoder "{encoder.name}" {reason}; '
        f"allowed: {', '.join(map(str, lengths))}."
    )


def truncate(vectors: np.ndarray, dim: int) -> np.ndarray:
    """Return the first `dim` components of unit vectors (n, d), scaled to length 1 again."""
    return unit_rows(vectors[:, :dim].astype(np.float32))


class TruncatedEncoder(Encoder):
    """An encoder whose vectors are cut to their first `dim` components.

    The model must have been trained for that (Matryoshka representation learning, Kusupati et al.
    2022). Raises InvalidInput for a length that it was not trained for.
    """

    def __init__(self, encoder: Encoder, dim: int) -> None:
        check_dimensions(encoder, dim)
        self.full = encoder
        self.dim = dim
        self.name = encoder.name
        self.languages = encoder.languages
        self.glosses = encoder.glosses
        self.image_size = encoder.image_size
        self.matryoshka_dims = tuple(d for d in encoder.matryoshka_dims if d <= dim)
        self.asymmetric = encoder.asymmetric

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """Hash of the encoder's fingerprint and the length."""
        return hashlib.sha256(f"{self.full.fingerprint} {self.dim}".encode()).hexdigest()

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: Role = "document"
    ) -> np.ndarray:
        return truncate(self.full.encode_images(images, batch_size, role), self.dim)

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: Role = "document"
    ) -> np.ndarray:
        return truncate(self.full.encode_texts(texts, batch_size, role), self.dim)

    def passages(self, text: str) -> list[str]:
        return self.full.passages(text)

    def prepare(self, image: Image.Image) -> Image.Image:
        return self.full.prepare(image)

    def gloss(self, text: str) -> str:
        return self.full.gloss(text)

    def save(self, folder: str | Path) -> None:
        """Write the whole encoder: `DualEncoder.load(folder, dimensions=...)` cuts it again."""
        self.full.save(folder)
