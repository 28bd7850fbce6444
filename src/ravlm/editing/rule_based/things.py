"""Things: objects that the thousand classes of the starter's image network know, such as cats.

Classes whose name is the word, or ends in it, vote at each place of the network's last grid. The
grid is coarse and limited to the classes: anything else is not found.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ravlm.data.text import is_chinese
from ravlm.editing.rule_based.stuff import log_softmax
from ravlm.encoders.starter.classes import ImageClasses
from ravlm.encoders.starter.gloss import Glosser, starter_glosser

CLASS_RANGES: dict[str, tuple[range, ...]] = {
    "animal": (range(398),),
    "dog": (range(151, 269),),
    "bird": (range(7, 25), range(80, 101), range(127, 147)),
    "fish": (range(7), range(389, 398)),
    "snake": (range(52, 69),),
    "insect": (range(300, 327),),
    "monkey": (range(365, 383),),
    "fruit": (range(948, 958),),
}
"""General words -> their classes, by number: ImageNet orders classes by taxonomy."""
MIN_IMAGE_PROBABILITY = 0.15
"""Probability that the classes must reach in the whole image."""
MIN_PLACE_PROBABILITY = 0.5
"""Probability that the classes must reach at the best place."""
_EVEN_PROBABILITY = 0.2
"""Class probability at which a place is as likely part of the thing as not."""
_MIN_SUFFIX_LENGTH = 4
"""Letters that a word needs to match the end of another word: boat in speedboat."""


class ThingDetector:
    """Locates named things in the last grid of the starter's image network."""

    @cached_property
    def _classes(self) -> ImageClasses:
        return ImageClasses()

    @cached_property
    def _glosser(self) -> Glosser:
        return starter_glosser({})

    def classes(self, word: str) -> list[int]:
        """Return the classes that an English or Chinese word names; empty if there are none."""
        word = (self._glosser.gloss(word) if is_chinese(word) else word).strip().lower()
        forms = {word, word.removesuffix("s"), word.removesuffix("es")} - {""}
        for form in forms & set(CLASS_RANGES):
            return _class_range(form)
        return [
            index
            for index, names in enumerate(self._classes.synonyms)
            if any(_matches(name.lower(), form) for name in names for form in forms)
        ]

    def find(self, grid: np.ndarray, word: str) -> np.ndarray | None:
        """Return the probability map of `word` (side, side), 0 to 1; None if it is absent.

        `grid` (1280, side, side) is the network's last grid.
        """
        classes = self.classes(word)
        if not classes:
            return None
        weight, bias = self._classes.classifier
        log_probs = log_softmax(grid.mean((1, 2)) @ weight + bias)  # (classes,)
        in_image = np.exp(log_probs)[classes].sum()
        places = self._place_probabilities(grid, classes)
        if in_image < MIN_IMAGE_PROBABILITY or places.max() < MIN_PLACE_PROBABILITY:
            return None
        return places / (places + _EVEN_PROBABILITY)

    def is_visible(self, grid: np.ndarray, word: str) -> bool:
        """Return whether some place of `grid` shows a word of `CLASS_RANGES`."""
        places = self._place_probabilities(grid, _class_range(word))
        return bool(places.max() >= MIN_PLACE_PROBABILITY)

    def _place_probabilities(self, grid: np.ndarray, classes: list[int]) -> np.ndarray:
        """Return the probability of `classes` at each place, (side, side)."""
        weight, bias = self._classes.classifier
        log_probs = log_softmax(np.moveaxis(grid, 0, -1) @ weight + bias)
        return np.exp(log_probs)[..., classes].sum(axis=-1)


def _class_range(word: str) -> list[int]:
    return [index for span in CLASS_RANGES[word] for index in span]


def _matches(name: str, word: str) -> bool:
    last_word = name.split()[-1]
    is_suffix = len(word) >= _MIN_SUFFIX_LENGTH and last_word.endswith(word)
    return name == word or last_word == word or name.endswith(f" {word}") or is_suffix
