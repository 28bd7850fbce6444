"""Interface of the segmenters: a photo and a word to the region that the word names."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from PIL import Image


class Scene(ABC):
    """One analyzed photo."""

    @abstractmethod
    def find(self, word: str) -> np.ndarray | None:
        """Return the probability map of `word`, (h, w) of any size, 0 to 1; None if it is absent.

        The map follows the edges of the photo.
        """

    @abstractmethod
    def visible_words(self) -> tuple[str, ...]:
        """Return the words of the lexicon that this photo shows."""


class Segmenter(ABC):
    """Analyzes photos. `ravlm.editing.auto.load_segmenter` loads one by name."""

    @abstractmethod
    def analyze(self, image: Image.Image) -> Scene:
        """Analyze an RGB image."""
