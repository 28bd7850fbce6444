"""Stand-ins for models, small enough to see through."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ravlm.data.images import load_image
from ravlm.encoders.base import Encoder
from ravlm.records import ImageSource

COLORS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}


class FakeEncoder(Encoder):
    """Images: the mean colour of a 4 x 4 grid. Texts: hashed words, plus a flat picture of each
    colour word."""

    dim, image_size, languages = 64, 4, ("en", "zh")

    def __init__(self, name: str = "fake", seed: int = 0) -> None:
        self.name, self.seed = name, seed
        self.fingerprint = hashlib.sha256(f"fake {seed}".encode()).hexdigest()

    def encode_images(
        self, images: Sequence[ImageSource], batch_size: int = 32, role: str = "document"
    ) -> np.ndarray:
        grids = [
            np.asarray(load_image(i).resize((4, 4)), np.float32).reshape(48) / 255 for i in images
        ]
        return self._unit([np.concatenate([g - 0.5, np.zeros(16, np.float32)]) for g in grids])

    def encode_texts(
        self, texts: Sequence[str], batch_size: int = 64, role: str = "document"
    ) -> np.ndarray:
        return self._unit([self._text(t) for t in texts])

    def _text(self, text: str) -> np.ndarray:
        vector = np.full(64, 1e-3, np.float32)
        for word in text.lower().split():
            if word.strip(".,?!") in COLORS:
                vector[:48] += np.tile(
                    np.array(COLORS[word.strip(".,?!")], np.float32) / 255 - 0.5, 16
                )
            vector[
                48 + int(hashlib.sha256(f"{self.seed}{word}".encode()).hexdigest(), 16) % 16
            ] += 0.5
        return vector

    def _unit(self, rows: list[np.ndarray]) -> np.ndarray:
        array = np.roll(np.array(rows, np.float32).reshape(-1, 64), self.seed, axis=1)
        return array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-9)

    def passages(self, text: str) -> list[str]:
        words = text.split()
        return [" ".join(words[i : i + 40]) for i in range(0, len(words), 40)] or [text]

    def save(self, folder: str | Path) -> None:
        Path(folder).mkdir(parents=True)
        (Path(folder) / "config.json").write_text(
            json.dumps({"architecture": "fake", "seed": self.seed})
        )
