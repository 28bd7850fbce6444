"""Cosines of different origin on one scale: texts against pictures, a picture and words in one query.

With most encoders a text is far closer to any text than to the picture that it describes, so cosines of two
modalities can't be compared as they are. What can be compared is how far a cosine stands above those of chance. Pure
functions over vectors and scores; `sample` is always (n, dim), vectors drawn from one modality of a base.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PRIOR_ITEMS, PRIOR_SPREAD = 8, 0.1
"""A spread is estimated as if eight more items with the spread 0.1 had been seen: a base of three must do, too."""


@dataclass(frozen=True)
class Chance:
    """Mean and spread (standard deviation) of the cosines that a query has with a modality of the base."""

    mean: float
    spread: float


def chance(query: np.ndarray, sample: np.ndarray) -> Chance:
    """What `query` (dim,) gives against `sample`; without a sample, the prior alone."""
    if not len(sample):
        return Chance(0.0, PRIOR_SPREAD)
    cosines = sample @ query
    mean = float(cosines.mean())
    squares = float(((cosines - mean) ** 2).sum()) + PRIOR_ITEMS * PRIOR_SPREAD**2
    return Chance(mean, float(np.sqrt(squares / (len(cosines) + PRIOR_ITEMS))))


def rescale(scores: np.ndarray, own: Chance, other: Chance) -> np.ndarray:
    """`scores` that stand so far above `own` chance as the returned ones stand above `other`; at most 1."""
    return np.minimum(1.0, other.mean + (scores - own.mean) * (other.spread / own.spread))


def compose(queries: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """One vector (dim,) for several of one query, (q, dim): each weighed so that all count the same in `sample`.

    Its cosine orders the base as the sum of the standardised cosines would.
    """
    weighed = sum(query / chance(query, sample).spread for query in queries)
    return np.asarray(weighed / np.linalg.norm(weighed), np.float32)
