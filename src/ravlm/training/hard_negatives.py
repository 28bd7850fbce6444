"""Hard negatives: images so similar that only their own texts tell them apart."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mine_neighbors(vectors: np.ndarray, k: int) -> np.ndarray:
    """Return for each row of unit `vectors` (n, dim) its k nearest other rows, (n, k) int64, by an
    exact Faiss index.

    Mine once, with the encoder that training starts from, so that a resumed run gets the same
    neighbors.
    """
    import faiss

    k = min(k, len(vectors) - 1)
    rows = np.ascontiguousarray(vectors, np.float32)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(rows)
    _, neighbors = index.search(rows, k + 1)
    is_self = neighbors == np.arange(len(rows))[:, None]
    # a duplicate can push the row itself off the list: drop the last neighbor instead
    is_self[~is_self.any(axis=1), -1] = True
    return neighbors[~is_self].reshape(len(rows), k)


def with_hard_negatives(rows: Tensor, neighbors: Tensor, generator: torch.Generator) -> Tensor:
    """Replace every second of the `rows` (n,) with a neighbor of the row before it. No row occurs
    twice."""
    batch = rows.clone()
    members = set(rows.tolist())
    for i in range(1, len(rows), 2):
        order = torch.randperm(neighbors.shape[1], generator=generator)
        for candidate in neighbors[rows[i - 1]][order].tolist():
            if candidate not in members:
                members.discard(int(rows[i]))
                members.add(candidate)
                batch[i] = candidate
                break
    return batch
