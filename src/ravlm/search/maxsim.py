"""MaxSim, the score of late interaction (Khattab & Zaharia, ColBERT, SIGIR 2020).

Each token of the query is compared with the token of the item that is most similar to it, and these
similarities are averaged. Pure functions over vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MAX_TOKENS = 2**16
"""Tokens of items that are compared at a time."""


def weighted_query(tokens: np.ndarray) -> np.ndarray:
    """Return the unit vectors (t, dim) of a query divided by t.

    Their `maxsim` is the mean similarity instead of the sum, so it is a number like a cosine.
    """
    return np.asarray(tokens / len(tokens), np.float32)


def combine_token_queries(queries: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Return one query (t, dim) whose `maxsim` is the weighted mean of those of `queries`."""
    total = sum(weights)
    scaled = [query * (weight / total) for query, weight in zip(queries, weights, strict=True)]
    return np.asarray(np.concatenate(scaled), np.float32)


def maxsim(query: np.ndarray, vectors: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the score of each of n items, float32 (n,).

    `query` (t, dim) is what `weighted_query` returns. `vectors` (tokens, dim) are those of all
    items; item i has the rows starts[i]:starts[i + 1], at least one.
    """
    scores = np.zeros(len(starts) - 1, np.float32)
    for first, last in chunk_items(starts):
        start, end = starts[first], starts[last]
        similarities = query @ np.asarray(vectors[start:end], np.float32).T  # (t, tokens)
        scores[first:last] = sum_of_best(similarities, starts[first : last + 1] - start)
    return scores


def sum_of_best(similarities: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the sum over the query's tokens of the best similarity with each item, (n,).

    `similarities` (t, tokens) belong to items as in `maxsim`.
    """
    count = int(starts[1])
    if (np.diff(starts) == count).all():  # one shape for all items, which is compared faster
        best = similarities.reshape(len(similarities), -1, count).max(axis=2)
    else:
        best = np.maximum.reduceat(similarities, starts[:-1], axis=1)
    return np.asarray(best.sum(axis=0), np.float32)


def chunk_items(starts: np.ndarray, size: int = MAX_TOKENS) -> list[tuple[int, int]]:
    """Return ranges of items that have about `size` tokens, first and last + 1."""
    ranges = []
    first = 0
    while first < len(starts) - 1:
        last = int(np.searchsorted(starts, starts[first] + size, side="right")) - 1
        ranges.append((first, max(first + 1, last)))
        first = ranges[-1][1]
    return ranges
