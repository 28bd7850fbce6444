"""The thousand classes of the starter's image network, as words."""

from __future__ import annotations

import json
from functools import cached_property

import numpy as np

from ravlm.checkpoint import read_weights
from ravlm.files import STARTER

_CLASSES = STARTER / "classes.txt"
_EVERYDAY_WORDS = STARTER / "everyday_words.json"
"""Name of a class -> what people would call it: "chiffonier" is a dresser, a piece of furniture."""


class ImageClasses:
    """Names and weights of the classes.

    >>> ImageClasses().names[285]
    'Egyptian cat'
    """

    @cached_property
    def synonyms(self) -> list[list[str]]:
        """All names of each class, the most common first."""
        lines = _CLASSES.read_text(encoding="utf-8").splitlines()
        return [[name.strip() for name in line.split(",")] for line in lines]

    @cached_property
    def names(self) -> list[str]:
        """The first name of each class."""
        return [names[0] for names in self.synonyms]

    @cached_property
    def classifier(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight (1280, 1000) and bias (1000,)."""
        weights = read_weights(STARTER)
        weight, bias = weights["classifier.weight"], weights["classifier.bias"]
        return weight.astype(np.float32), bias.astype(np.float32)

    def probabilities(self, pooled: np.ndarray) -> np.ndarray:
        """Return the probability of each class (n, 1000) from pooled features (n, 1280)."""
        weight, bias = self.classifier
        logits = pooled @ weight + bias
        logits -= logits.max(axis=1, keepdims=True)
        exponentials = np.exp(logits)
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def most_likely(self, pooled: np.ndarray, k: int = 3) -> list[list[tuple[str, float]]]:
        """Return the k likeliest classes of each image with their probabilities, best first."""
        probabilities = self.probabilities(pooled)
        order = np.argsort(-probabilities, axis=1)[:, :k]
        return [
            [(self.names[number], float(row[number])) for number in best]
            for row, best in zip(probabilities, order, strict=True)
        ]

    def everyday_word(self, pooled: np.ndarray) -> tuple[str, float]:
        """Return the word with the highest probability for one image's pooled features (1280,): the
        sum over all classes that the word names. General words win where the kind is unsure."""
        probabilities = self.probabilities(pooled[None])[0]
        totals: dict[str, float] = {}
        for words, probability in zip(self._words, probabilities.tolist(), strict=True):
            for word in words:
                totals[word] = totals.get(word, 0.0) + probability
        best = max(totals, key=lambda word: totals[word])
        return best, min(1.0, totals[best])

    @cached_property
    def _words(self) -> list[list[str]]:
        """The words of each class: its name, the noun in it, and everyday words for it."""
        everyday = json.loads(_EVERYDAY_WORDS.read_text(encoding="utf-8"))
        names = [name.lower() for name in self.names]
        return [
            list(dict.fromkeys([name, name.split()[-1], *everyday.get(name, ())])) for name in names
        ]
