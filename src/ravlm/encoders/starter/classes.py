"""The thousand classes of the starter's image network, as words."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ravlm.checkpoint import read_weights
from ravlm.files import STARTER

_CLASSES = STARTER / "classes.txt"


class ImageClasses:
    """Names and weights of the classes.

    >>> ImageClasses().names[285]
    'Egyptian cat'
    """

    @cached_property
    def names(self) -> list[str]:
        """The first name of each class."""
        lines = _CLASSES.read_text(encoding="utf-8").splitlines()
        return [line.split(",")[0].strip() for line in lines]

    @cached_property
    def _classifier(self) -> tuple[np.ndarray, np.ndarray]:
        weights = read_weights(STARTER)
        return weights["classifier.weight"].astype(np.float32), weights["classifier.bias"]

    def probabilities(self, pooled: np.ndarray) -> np.ndarray:
        """Return the probability of each class (n, 1000) from pooled features (n, 1280)."""
        weight, bias = self._classifier
        logits = pooled @ weight + bias.astype(np.float32)
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
