"""A segmenter small enough to see through, and images drawn for it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ravlm.editing.resize import downscale
from ravlm.editing.rule_based.mask_refinement import WORKING_SIDE
from ravlm.editing.rule_based.segmentation import Scene, Segmenter

SCENE_COLORS = {"sky": (110, 160, 230), "grass": (60, 140, 50), "person": (200, 60, 60)}


def landscape(width: int = 96, height: int = 72, seed: int = 0) -> Image.Image:
    """Draw a noisy blue sky above noisy grass, and a red person in front of them."""
    pixels = np.empty((height, width, 3), np.float32)
    pixels[: height // 2] = SCENE_COLORS["sky"]
    pixels[height // 2 :] = SCENE_COLORS["grass"]
    pixels[height // 4 : height * 3 // 4, width // 3 : width // 2] = SCENE_COLORS["person"]
    noise = np.random.default_rng(seed).normal(0, 6, (height, width, 1))
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def true_mask(image: Image.Image, word: str) -> np.ndarray:
    """Return where `landscape` drew `word`: the pixels nearest to its color."""
    pixels = np.asarray(image.convert("RGB"), np.float32)
    distances = np.stack(
        [np.abs(pixels - color).sum(axis=-1) for color in SCENE_COLORS.values()], axis=-1
    )
    is_nearest = distances.argmin(axis=-1) == list(SCENE_COLORS).index(word)
    return is_nearest & (distances.min(axis=-1) < 120)


def interior(mask: np.ndarray, margin: int = 14, axes: tuple[int, ...] = (0, 1)) -> np.ndarray:
    """Return the pixels of a mask that are at least `margin` away from its border."""
    inner = mask
    for axis in axes:
        inner = inner & np.roll(mask, margin, axis) & np.roll(mask, -margin, axis)
    return inner


def iou(one: np.ndarray, two: np.ndarray) -> float:
    """Return intersection over union of two masks."""
    return float((one & two).sum() / (one | two).sum())


class ColorSegmenter(Segmenter):
    """Finds the three words of `SCENE_COLORS` by color."""

    def analyze(self, image: Image.Image) -> Scene:
        return _ColorScene(image)


class _ColorScene(Scene):
    def __init__(self, image: Image.Image) -> None:
        self._image = downscale(image, WORKING_SIDE)

    def find(self, word: str) -> np.ndarray | None:
        if word not in SCENE_COLORS or true_mask(self._image, word).mean() < 0.02:
            return None
        return true_mask(self._image, word).astype(np.float32)

    def visible_words(self) -> tuple[str, ...]:
        return tuple(word for word in SCENE_COLORS if self.find(word) is not None)
