"""Finds what a word names in a photo, by the starter's networks, or says that it is not there.

The words of `stuff` by its linear model, sharpened by the photo's own colours; other things by the
classes of the image network (see `things`). Knows no instructions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property

import numpy as np
from PIL import Image

from ravlm.editing.rule_based.mask_refinement import WORKING, drawn, reduced, resized
from ravlm.editing.rule_based.oklab import to_oklab
from ravlm.editing.rule_based.stuff import PARTS, WORDS, StuffModel, log_shares
from ravlm.editing.rule_based.things import KINDS, ThingFinder

LEAST = 0.006
"""Share of the picture that a thing must fill to be there."""
SURE = 0.8
"""Share that a word must reach at some place to be there."""
_COLOUR_WEIGHT, _ROUNDS = 0.6, 2
_BINS = (12, 18, 18)
_TOO_FEW = 50
"""Pixels of a colour that say too little about what has that colour."""


class Scene(ABC):
    """One photo that is being looked at."""

    @abstractmethod
    def find(self, word: str) -> np.ndarray | None:
        """Where `word` is: shares from 0 to 1, (h, w) of any size, with the photo's edges; None:
        not there."""

    @abstractmethod
    def seen(self) -> tuple[str, ...]:
        """Words that this photo shows, as far as can be told without being asked for one."""


class Segmenter(ABC):
    """Photos to scenes. Implementations: `StarterSegmenter` here, models of Transformers in
    `segmenters`."""

    @abstractmethod
    def look(self, image: Image.Image) -> Scene:
        """Look at an RGB picture."""


class StarterSegmenter(Segmenter):
    """The networks of the starter, and nothing else; half a second a photo on a slow processor."""

    @cached_property
    def _stuff(self) -> StuffModel:
        return StuffModel.load()

    @cached_property
    def _things(self) -> ThingFinder:
        return ThingFinder()

    def look(self, image: Image.Image) -> Scene:
        places, grid = self._stuff.look(image)
        return _Looked(reduced(image, WORKING), self._stuff(places), grid, self._things)


class _Looked(Scene):
    def __init__(
        self, small: Image.Image, coarse: np.ndarray, grid: np.ndarray, things: ThingFinder
    ) -> None:
        self._small, self._coarse, self._grid, self._things = small, coarse, grid, things
        self._lab = to_oklab(np.asarray(small))

    @cached_property
    def _shares(self) -> np.ndarray:
        """Logarithms of the shares of `WORDS` at each pixel of the reduced copy."""
        return by_colour(resized(self._coarse, self._small.size), self._lab)

    def find(self, word: str) -> np.ndarray | None:
        if word in WORDS and word != "other":
            if not self._is_there(word):
                return None
            return drawn(margin(self._shares, word), self._lab)
        places = self._things.find(self._grid, word)
        if places is None:
            return None
        share = np.clip(resized(places, self._small.size), 0.02, 0.98)
        shares = by_colour(np.log(np.stack([share, 1 - share], axis=-1)), self._lab)
        return drawn(np.exp(shares[..., 0]), self._lab)

    def seen(self) -> tuple[str, ...]:
        return tuple(word for word in WORDS[:-1] if self._is_there(word))

    def _is_there(self, word: str) -> bool:
        if (margin(self._shares, word) > 0.5).mean() < LEAST or margin(
            self._coarse, word
        ).max() < SURE:
            return False
        return word not in KINDS or self._things.sees(
            self._grid, word
        )  # a cat has a dog's fur, but not its class


def margin(shares: np.ndarray, word: str) -> np.ndarray:
    """How far `word` and its parts outweigh the best other word, 0 to 1 (0.5: equal), from
    logarithms of shares."""
    mine = [WORDS.index(part) for part in PARTS.get(word, (word,))]
    rest = [place for place in range(len(WORDS)) if place not in mine]
    return np.asarray(
        1
        / (
            1
            + np.exp(
                shares[..., rest].max(axis=-1) - np.logaddexp.reduce(shares[..., mine], axis=-1)
            )
        )
    )


def by_colour(shares: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """`shares` (h, w, words), logarithms, sharpened by what has which colour in this very photo.

    Where a word is likely its colours are counted; each pixel then leans to the words that have its
    colour."""
    bins = np.array(_BINS)
    places = np.clip((lab - (0, -0.3, -0.3)) / (1, 0.6, 0.6) * bins, 0, bins - 1).astype(np.int64)
    colour = np.ravel_multi_index(tuple(np.moveaxis(places, -1, 0)), _BINS).ravel()
    first = shares.reshape(-1, shares.shape[-1])
    now = log_shares(first)
    size = int(np.prod(_BINS))
    common = np.bincount(colour, minlength=size)[colour] > _TOO_FEW
    for _ in range(_ROUNDS):
        weights = np.exp(now)
        counts = np.stack([np.bincount(colour, w, size) for w in weights.T], axis=-1)
        leaning = np.log(counts / np.maximum(counts.sum(axis=0), 1) + 1e-6)[colour]
        leaning = np.maximum(leaning - leaning.max(axis=1, keepdims=True), -4) * common[:, None]
        now = log_shares(first + _COLOUR_WEIGHT * leaning)
    return now.reshape(shares.shape)
