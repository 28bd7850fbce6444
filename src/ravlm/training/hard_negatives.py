"""Hard negatives: which pictures are so alike that only their own words tell them apart. Knows
vectors only."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mine(vectors: np.ndarray, count: int) -> np.ndarray:
    """For each row of unit `vectors` (n, dim) the `count` nearest others, (n, count) int64, by an
    exact Faiss index.

    Mined once, from the encoder that training begins with, so that a resumed run sees the same
    neighbours."""
    import faiss

    count = min(count, len(vectors) - 1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    rows = np.ascontiguousarray(vectors, np.float32)
    index.add(rows)
    found = index.search(rows, count + 1)[1]
    own = found == np.arange(len(rows))[:, None]
    own[~own.any(axis=1), -1] = (
        True  # a twin pushed the row itself off the list: drop the last instead
    )
    return found[~own].reshape(len(rows), count)


def with_neighbours(chosen: Tensor, neighbours: Tensor, generator: torch.Generator) -> Tensor:
    """`chosen` (n,), every second row of which gave way to a neighbour of the row before it; no row
    comes twice."""
    batch = chosen.clone()
    taken = set(chosen.tolist())
    for place in range(1, len(chosen), 2):
        order = torch.randperm(neighbours.shape[1], generator=generator)
        for candidate in neighbours[chosen[place - 1]][order].tolist():
            if candidate not in taken:
                taken.discard(int(chosen[place]))
                taken.add(candidate)
                batch[place] = candidate
                break
    return batch
