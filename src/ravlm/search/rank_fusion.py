"""Combine and thin out rankings: rank fusion, diversity, one item per group.

Pure functions over ids and scores.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T", bound=Hashable)


def fuse_ranks(rankings: Sequence[Sequence[T]], constant: float = 60.0) -> list[tuple[T, float]]:
    """Fuse rankings by reciprocal ranks (Cormack et al., SIGIR 2009).

    Returns items with the sum of 1 / (constant + rank), best first; ranks count from 1. Ties are
    broken by the best rank, then by the order of `rankings`.
    """
    scores: dict[T, float] = {}
    for rank in range(max(map(len, rankings), default=0)):
        for ranking in rankings:
            if rank < len(ranking):
                scores[ranking[rank]] = scores.get(ranking[rank], 0.0) + 1.0 / (constant + rank + 1)
    return sorted(scores.items(), key=lambda pair: -pair[1])


def fuse_ranks_in_place(
    ranking: Sequence[T], other: Sequence[T], fixed: Collection[T], constant: float = 60.0
) -> list[tuple[T, float]]:
    """Fuse two rankings as `fuse_ranks` does, but leave the items of `fixed` where they are.

    `fixed` are items of `ranking` that `other` cannot contain. In a plain fusion they would have
    half the score of the others and fall behind nearly all of them, whatever their rank. Here the
    remaining items are fused among themselves and fill the remaining places of `ranking`, and then
    the end. A fixed item has the score of the item before it.
    """
    movable = [item for item in ranking if item not in fixed]
    fused = iter(fuse_ranks([movable, other], constant))
    score = 2 / (constant + 1)  # the best rank in both
    result = []
    for item in ranking:
        if item not in fixed:
            item, score = next(fused)
        result.append((item, score))
    return [*result, *fused]


def diversify(
    scores: np.ndarray, vectors: np.ndarray, k: int, diversity: float
) -> tuple[np.ndarray, np.ndarray]:
    """Select up to k items by maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998).

    Takes `scores` (n,) and unit `vectors` (n, dim). Returns positions and values of the selected
    items. The value of an item is (1 - diversity) * score - diversity * (its largest cosine to the
    items selected before); values never rise.
    """
    available = np.ones(len(scores), bool)
    similarity = np.zeros(len(scores), np.float32)  # largest cosine to a selected item
    order: list[int] = []
    values: list[float] = []
    while len(order) < min(k, len(scores)):
        value = np.where(
            available, (1 - diversity) * scores - diversity * similarity, -np.inf
        )  # (n,)
        best = int(value.argmax())
        order.append(best)
        values.append(float(value[best]))
        available[best] = False
        similarity = np.maximum(similarity, vectors @ vectors[best])
    return np.array(order, np.int64), np.array(values, np.float32)


def first_per_group(groups: Sequence[Hashable]) -> list[int]:
    """Return the position of the first item of every group; items with group None are all kept."""
    groups_so_far: set[Hashable] = set()
    positions = []
    for position, group in enumerate(groups):
        if group is None or group not in groups_so_far:
            positions.append(position)
            groups_so_far.add(group)
    return positions
