"""Put cosines of different modalities on one scale, and combine an image and a text in one query.

With most encoders a text is much closer to any text than to the image it describes, so cosines of
two modalities are not comparable. Comparable is how far a cosine lies above those of random parts,
and even that misleads if one modality has many more parts or a longer tail; so the modalities are
interleaved, the better calibrated score first. Pure functions over vectors and scores. `sample` is
always (n, dim): vectors drawn from one modality of a base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

PRIOR_COUNT = 8
PRIOR_STD = 0.1
"""Prior of the standard deviation: eight pseudo-observations, so that a base of three works too."""
MAX_CROSS_MODAL_SCORE = 0.99
"""Only a part of the query's own modality can be identical to the query."""

FULL_RELEVANCE = 5.0
"""Standard deviations above random parts that are a full bar: about where a changed copy of an
image is found, or a text by its own words."""


@dataclass(frozen=True)
class CosineStats:
    """Mean and standard deviation of a query's cosines with random parts of one modality."""

    mean: float
    std: float


def cosine_stats(query: np.ndarray, sample: np.ndarray) -> CosineStats:
    """Return the statistics of `query` (dim,) against `sample`; the prior for an empty sample."""
    return score_stats(sample @ query if len(sample) else np.zeros(0, np.float32))


def score_stats(scores: np.ndarray) -> CosineStats:
    """Return the statistics of cosines (n,) with random parts; the prior without any."""
    if not len(scores):
        return CosineStats(0.0, PRIOR_STD)
    mean = float(scores.mean())
    squares = float(((scores - mean) ** 2).sum()) + PRIOR_COUNT * PRIOR_STD**2
    return CosineStats(mean, float(np.sqrt(squares / (len(scores) + PRIOR_COUNT))))


def rescale(scores: np.ndarray, source: CosineStats, target: CosineStats) -> np.ndarray:
    """Map cosines to the scale of `target`: as many standard deviations above its mean as before.

    The result is at most MAX_CROSS_MODAL_SCORE.
    """
    mapped = target.mean + (scores - source.mean) * (target.std / source.std)
    return np.minimum(MAX_CROSS_MODAL_SCORE, mapped)


def relevance(cosine: float, stats: CosineStats) -> float:
    """Return how far a cosine is above those of random parts, 0 to 1.

    0 is no nearer than a random part, and 1 is `FULL_RELEVANCE` standard deviations or more above.
    """
    return min(1.0, max(0.0, (cosine - stats.mean) / (stats.std * FULL_RELEVANCE)))


def interleave(rankings: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Merge rankings (scores, best first) rank by rank.

    Returns positions in their concatenation, and scores. All first items come first, then all
    second ones, and so on; within a rank by score, then by the order of `rankings`. A score that
    would rise is lowered to the score before it.
    """
    scores = np.concatenate(rankings)
    rank = np.concatenate([np.arange(len(ranking)) for ranking in rankings])
    order = np.lexsort((-scores, rank))
    return order, np.minimum.accumulate(scores[order])


def combine_queries(queries: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Return one unit vector (dim,) for several query vectors (q, dim) of equal weight.

    Its cosine orders the base like the sum of the standardized cosines.
    """
    weighted = sum(query / cosine_stats(query, sample).std for query in queries)
    return np.asarray(weighted / np.linalg.norm(weighted), np.float32)
