"""An encoder with similar vectors for texts that share words and for images that share colors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from ravlm.data.images import load_image
from ravlm.data.lexical_overlap import content_words
from ravlm.records import ImageSource
from tests.helpers.fakes import FakeEncoder

WORDS = 512


class WordEncoder(FakeEncoder):
    """Images: a 4 x 4 color grid. Texts: a bag of stems, far from every image."""

    dim = 48 + WORDS

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: str = "document"
    ) -> np.ndarray:
        grids = [
            np.asarray(load_image(i).resize((4, 4)), np.float32).reshape(48) / 255 for i in images
        ]
        rows = np.zeros((len(grids), self.dim), np.float32)
        rows[:, :48] = np.array(grids, np.float32).reshape(-1, 48) - 0.5
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: str = "document"
    ) -> np.ndarray:
        rows = np.full((len(texts), self.dim), 1e-3, np.float32)
        rows[:, :48] = 0
        for row, text in zip(rows, texts, strict=True):
            for word in content_words(text):
                row[48 + int(hashlib.sha256(word.encode()).hexdigest(), 16) % WORDS] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if len(rows) else rows
