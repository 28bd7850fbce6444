"""Segmenter that uses the starter's image network only.

Stuff (sky, grass ...) comes from a linear model, sharpened by the photo's own colors; things come
from the classes of the network (COCO-Stuff's terms; see `stuff` and `things`).
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from PIL import Image

from ravlm.editing.resize import downscale, resize_map
from ravlm.editing.rule_based.mask_refinement import WORKING_SIDE, refine_mask
from ravlm.editing.rule_based.oklab import to_oklab
from ravlm.editing.rule_based.segmentation import Scene, Segmenter
from ravlm.editing.rule_based.stuff import PARTS, WORDS, StuffModel, log_softmax
from ravlm.editing.rule_based.things import CLASS_RANGES, ThingDetector

MIN_AREA = 0.006
"""Share of the image that a word must cover to count as present."""
MIN_PEAK = 0.8
"""Probability that a word must reach somewhere to count as present."""
_COLOR_WEIGHT = 0.6
_COLOR_ROUNDS = 2
_COLOR_BINS = (12, 18, 18)
"""Histogram bins of L, a and b."""
_MIN_BIN_PIXELS = 50
"""A color with fewer pixels says too little about what has that color."""


class StarterSegmenter(Segmenter):
    """The starter's networks, and nothing else: half a second per photo on a slow processor."""

    @cached_property
    def _stuff(self) -> StuffModel:
        return StuffModel.load()

    @cached_property
    def _things(self) -> ThingDetector:
        return ThingDetector()

    def analyze(self, image: Image.Image) -> Scene:
        features, grid = self._stuff.extract(image)
        small = downscale(image, WORKING_SIDE)
        return _StarterScene(small, self._stuff(features), grid, self._things)


class _StarterScene(Scene):
    def __init__(
        self, small: Image.Image, log_probs: np.ndarray, grid: np.ndarray, things: ThingDetector
    ) -> None:
        """`log_probs` (GRID, GRID, words) are the stuff model's, `grid` the network's last grid."""
        self._small = small
        self._log_probs = log_probs
        self._grid = grid
        self._things = things
        self._lab = to_oklab(np.asarray(small))

    @cached_property
    def _pixel_log_probs(self) -> np.ndarray:
        """Log-probabilities of `WORDS` at each pixel of the downscaled copy."""
        return sharpen_by_color(resize_map(self._log_probs, self._small.size), self._lab)

    def find(self, word: str) -> np.ndarray | None:
        if word in WORDS and word != "other":
            if not self._is_visible(word):
                return None
            return refine_mask(word_probability(self._pixel_log_probs, word), self._lab)
        coarse = self._things.find(self._grid, word)
        if coarse is None:
            return None
        probability = np.clip(resize_map(coarse, self._small.size), 0.02, 0.98)
        log_probs = np.log(np.stack([probability, 1 - probability], axis=-1))
        sharpened = sharpen_by_color(log_probs, self._lab)
        return refine_mask(np.exp(sharpened[..., 0]), self._lab)

    def visible_words(self) -> tuple[str, ...]:
        return tuple(word for word in WORDS[:-1] if self._is_visible(word))

    def _is_visible(self, word: str) -> bool:
        area = (word_probability(self._pixel_log_probs, word) > 0.5).mean()
        peak = word_probability(self._log_probs, word).max()
        if area < MIN_AREA or peak < MIN_PEAK:
            return False
        # A cat has the fur of a dog, but not its class.
        return word not in CLASS_RANGES or self._things.is_visible(self._grid, word)


def word_probability(log_probs: np.ndarray, word: str) -> np.ndarray:
    """Return the probability of `word`, parts included, against the best other word.

    `log_probs` (..., words) are log-probabilities of `WORDS`; 0.5 means equal.
    """
    members = [WORDS.index(part) for part in PARTS.get(word, (word,))]
    competing = [index for index in range(len(WORDS)) if index not in members]
    best_other = log_probs[..., competing].max(axis=-1)
    log_prob = np.logaddexp.reduce(log_probs[..., members], axis=-1)
    return np.asarray(1 / (1 + np.exp(best_other - log_prob)))


def sharpen_by_color(log_probs: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """Sharpen log-probabilities (h, w, words) by the colors that each word has in this very photo.

    The colors of each word are counted where it is likely. Then each pixel leans towards the words
    that have its color. `lab` (h, w, 3) is the photo in OKLab.
    """
    bins = np.array(_COLOR_BINS)
    cells = np.clip((lab - (0, -0.3, -0.3)) / (1, 0.6, 0.6) * bins, 0, bins - 1).astype(np.int64)
    color = np.ravel_multi_index(tuple(np.moveaxis(cells, -1, 0)), _COLOR_BINS).ravel()  # (pixels,)
    prior = log_probs.reshape(-1, log_probs.shape[-1])  # (pixels, words)
    posterior = log_softmax(prior)
    num_colors = int(np.prod(_COLOR_BINS))
    frequent = np.bincount(color, minlength=num_colors)[color] > _MIN_BIN_PIXELS
    for _ in range(_COLOR_ROUNDS):
        weights = np.exp(posterior)
        counts = np.stack([np.bincount(color, w, num_colors) for w in weights.T], axis=-1)
        likelihood = np.log(counts / np.maximum(counts.sum(axis=0), 1) + 1e-6)[color]
        likelihood = np.maximum(likelihood - likelihood.max(axis=1, keepdims=True), -4)
        posterior = log_softmax(prior + _COLOR_WEIGHT * (likelihood * frequent[:, None]))
    return posterior.reshape(log_probs.shape)
