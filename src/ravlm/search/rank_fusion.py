"""Choosing among candidates: rank fusion, diversity, one per group. Pure functions over ids and
scores.

Knows neither where candidates come from nor what they are.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T", bound=Hashable)


def fuse_ranks(rankings: Sequence[Sequence[T]], constant: float = 60.0) -> list[tuple[T, float]]:
    """Reciprocal rank fusion (Cormack et al., SIGIR 2009): items with sum of 1 / (constant + rank),
    best first.

    Ranks count from 1; of equal scores the item that is met first, reading the rankings side by
    side, comes first."""
    scores: dict[T, float] = {}
    for rank in range(max(map(len, rankings), default=0)):
        for ranking in rankings:
            if rank < len(ranking):
                scores[ranking[rank]] = scores.get(ranking[rank], 0.0) + 1.0 / (constant + rank + 1)
    return sorted(scores.items(), key=lambda pair: -pair[1])


def diversify(
    scores: np.ndarray, vectors: np.ndarray, k: int, diversity: float
) -> tuple[np.ndarray, np.ndarray]:
    """Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998): positions of up to k items,
    and their values.

    `scores` (n,), `vectors` (n, dim) of length 1. The value of an item is (1 - diversity) * score -
    diversity * (its greatest cosine to those chosen before it), and never rises."""
    open_, closest = np.ones(len(scores), bool), np.zeros(len(scores), np.float32)
    chosen: list[int] = []
    values: list[float] = []
    while len(chosen) < min(k, len(scores)):
        value = np.where(open_, (1 - diversity) * scores - diversity * closest, -np.inf)
        best = int(value.argmax())
        chosen.append(best)
        values.append(float(value[best]))
        open_[best] = False
        closest = np.maximum(closest, vectors @ vectors[best])
    return np.array(chosen, np.int64), np.array(values, np.float32)


def first_of_each(groups: Sequence[Hashable]) -> list[int]:
    """Positions of the first item of every group, in order; an item whose group is None stands
    alone."""
    seen: set[Hashable] = set()
    kept = []
    for position, group in enumerate(groups):
        if group is None or group not in seen:
            kept.append(position)
            seen.add(group)
    return kept
