"""Clustered vectors, and their exact nearest neighbors."""

from __future__ import annotations

import numpy as np

from ravlm.knowledge.candidates import Ranking
from ravlm.knowledge.index.vector_index import Segment


def clustered(count: int, seed: int, dim: int = 64) -> np.ndarray:
    """Return unit vectors (count, dim), float32, around a hundred centers."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(99).standard_normal((100, dim))
    vectors = centers[rng.integers(0, 100, count)] + rng.standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def nearest(
    rows: np.ndarray, queries: np.ndarray, n: int, mask: np.ndarray | None = None
) -> list[set[int]]:
    """Return the n nearest rows of each query, of those that `mask` keeps."""
    scores = queries @ rows.T
    if mask is not None:
        scores[:, ~mask] = -np.inf
    return [set(order) for order in np.argsort(-scores, axis=1)[:, :n].tolist()]


def rankings(
    segment: Segment, queries: np.ndarray, n: int, entry_mask: np.ndarray | None = None
) -> list[Ranking]:
    """Return the results of a segment, one ranking per query."""
    return [
        Ranking(*arrays) for arrays in zip(*segment.search(queries, n, entry_mask), strict=True)
    ]
