"""Cosines of different origin on one scale: texts against pictures, a picture and words in one
query.

With most encoders a text is far closer to any text than to the picture that it describes, so
cosines of two modalities can't be compared as they are. What can be compared is how far a cosine
stands above those of chance, and even that misleads where one modality has many more parts, or
longer tails: so the modalities take turns, and the better standing one goes first. Pure functions
over vectors and scores; `sample` is always (n, dim), vectors drawn from one modality of a base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PRIOR_ITEMS, PRIOR_SPREAD = 8, 0.1
"""A spread is estimated as if eight more items with the spread 0.1 had been seen: a base of three
must do, too."""

ALMOST = 0.99
"""Only a part of the query's own modality can be the same thing as the query."""


@dataclass(frozen=True)
class Chance:
    """Mean and spread (standard deviation) of the cosines that a query has with a modality of the
    base."""

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


def rescale(scores: np.ndarray, here: Chance, there: Chance) -> np.ndarray:
    """Cosines that stand as far above the chance `there` as `scores` above `here`; at most
    ALMOST."""
    return np.minimum(ALMOST, there.mean + (scores - here.mean) * (there.spread / here.spread))


def take_turns(rankings: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rankings on one scale (scores, best first) as one: positions in their concatenation, and
    scores.

    First all that lead their ranking, then all second ones, and so on, each time by score, then in
    the order given. A score is lowered to that of the one before it where it would rise."""
    scores = np.concatenate(rankings)
    level = np.concatenate([np.arange(len(ranking)) for ranking in rankings])
    order = np.lexsort((-scores, level))
    return order, np.minimum.accumulate(scores[order])


def compose(queries: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """One vector (dim,) for several of one query, (q, dim): each weighed so that all count the same
    in `sample`.

    Its cosine orders the base as the sum of the standardised cosines would.
    """
    weighed = sum(query / chance(query, sample).spread for query in queries)
    return np.asarray(weighed / np.linalg.norm(weighed), np.float32)
