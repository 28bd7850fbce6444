"""The median of values that do not count the same."""

from __future__ import annotations

from collections.abc import Iterable


def weighted_median(values: Iterable[float], weights: Iterable[float]) -> float:
    """Return the first of the sorted values up to which half of the weight is.

    >>> weighted_median([3.0, 1.0, 2.0], [1, 1, 5])
    2.0
    """
    pairs = sorted(zip(values, weights, strict=True))
    half = sum(weight for _, weight in pairs) / 2
    total = 0.0
    for value, weight in pairs:
        total += weight
        if total >= half:
            return value
    return pairs[-1][0]
