"""A segmenter small enough to see through, and pictures drawn for it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ravlm.editing.rule_based.mask_refinement import reduced
from ravlm.editing.segmentation import Scene, Segmenter

COLOURS = {"sky": (110, 160, 230), "grass": (60, 140, 50), "person": (200, 60, 60)}


def landscape(width: int = 96, height: int = 72, seed: int = 0) -> Image.Image:
    """A speckled blue sky over speckled grass, before them a red person."""
    pixels = np.empty((height, width, 3), np.float32)
    pixels[: height // 2], pixels[height // 2 :] = COLOURS["sky"], COLOURS["grass"]
    pixels[height // 4 : height * 3 // 4, width // 3 : width // 2] = COLOURS["person"]
    noise = np.random.default_rng(seed).normal(0, 6, (height, width, 1))
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def truth(image: Image.Image, word: str) -> np.ndarray:
    """Where `landscape` drew `word`: the pixels nearest to its colour."""
    pixels = np.asarray(image.convert("RGB"), np.float32)
    far = np.stack([np.abs(pixels - colour).sum(axis=-1) for colour in COLOURS.values()], axis=-1)
    return (far.argmin(axis=-1) == list(COLOURS).index(word)) & (far.min(axis=-1) < 120)


class ByColour(Segmenter):
    """Finds what has the drawn colours; knows three words."""

    def look(self, image: Image.Image) -> Scene:
        return _Coloured(image)


class _Coloured(Scene):
    def __init__(self, image: Image.Image) -> None:
        self._image = reduced(image)

    def find(self, word: str) -> np.ndarray | None:
        if word not in COLOURS or truth(self._image, word).mean() < 0.02:
            return None
        return truth(self._image, word).astype(np.float32)

    def seen(self) -> tuple[str, ...]:
        return tuple(word for word in COLOURS if self.find(word) is not None)
