"""Combine and thin out rankings: rank fusion, diversity, one item per group.

Pure functions over ids and scores.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T", bound=Hashable)
VECTOR_WEIGHT = 0.08
"""Weight of a standard deviation in `fuse_scores`; chosen on questions about pages, SQuAD and CMRC
2018 (0.07 to 0.11 are equally good)."""


def fuse_scores(by_word: Mapping[T, float], by_vector: Mapping[T, float]) -> list[tuple[T, float]]:
    """Fuse keyword and vector scores; return items with their sum, best first.

    `by_word` has BM25 scores, which are divided by the best one. `by_vector` has the standard
    deviations of a cosine above those of random parts, so an encoder that separates texts well
    counts more. Unlike rank fusion it tells a clear lead from a narrow one (Bruch et al. 2023, "An
    Analysis of Fusion Functions for Hybrid Retrieval"). Ties keep the order of `by_word`.
    """
    best = max(by_word.values(), default=1.0) or 1.0
    scores = {item: score / best for item, score in by_word.items()}
    for item, deviation in by_vector.items():
        scores[item] = scores.get(item, 0.0) + VECTOR_WEIGHT * deviation
    return sorted(scores.items(), key=lambda pair: -pair[1])


def place_among_fixed(
    ranking: Sequence[T], fused: Sequence[tuple[T, float]], fixed: Collection[T]
) -> list[tuple[T, float]]:
    """Put the items of `fused` into the places of `ranking` that are not `fixed`, then the others.

    `fixed` are the items of `ranking` without words: a fusion of scores would put them behind
    nearly all others. A fixed item gets the score of the item before it.
    """
    movable = iter(fused)
    score = fused[0][1] if fused else 1.0
    result = []
    for item in ranking:
        if item not in fixed:
            item, score = next(movable)
        result.append((item, score))
    return [*result, *movable]


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
