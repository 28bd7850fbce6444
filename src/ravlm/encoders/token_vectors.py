"""Several vectors per image or text, one for each of its tokens: what late interaction compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TokenVectors:
    """The token vectors of n images or texts, each of which has at least one.

    Example:
        tokens = encoder.encode_image_tokens(["page.png"])
        tokens[0]  # float32 (tokens of the page, encoder.dim)
    """

    vectors: np.ndarray
    """Float (tokens, dim): those of all items, one item after the other."""
    starts: np.ndarray
    """int64 (n + 1,): item i has the rows starts[i]:starts[i + 1]."""

    @classmethod
    def from_items(cls, items: Sequence[np.ndarray], dim: int) -> TokenVectors:
        """Join the vectors (tokens, dim) of each item."""
        starts = np.cumsum([0, *map(len, items)], dtype=np.int64)
        return cls(np.concatenate([*items, np.zeros((0, dim), np.float32)]), starts)

    @classmethod
    def single(cls, vectors: np.ndarray) -> TokenVectors:
        """Return items of one token each, whose vectors are (n, dim)."""
        return cls(vectors, np.arange(len(vectors) + 1))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, item: int) -> np.ndarray:
        """Return the vectors (tokens, dim) of one item."""
        return self.vectors[self.starts[item] : self.starts[item + 1]]

    def take(self, items: Sequence[int] | np.ndarray) -> TokenVectors:
        """Return the items at these positions."""
        rows = np.asarray(items, np.int64)
        positions = token_positions(self.starts, rows)
        counts = self.starts[rows + 1] - self.starts[rows]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return TokenVectors(self.vectors[positions], starts)

    def pooled(self) -> np.ndarray:
        """Return one unit vector per item, the direction of the mean of its tokens: (n, dim)."""
        if not len(self):
            return np.zeros((0, self.vectors.shape[1]), np.float32)
        sums = np.add.reduceat(self.vectors.astype(np.float32), self.starts[:-1])
        return unit_rows(sums)


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Scale the rows (..., dim) to length 1, in float32."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)


def token_positions(starts: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the rows of all tokens of `items`; see `TokenVectors.starts`."""
    counts = starts[items + 1] - starts[items]
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.repeat(starts[items] - (ends - counts), counts) + np.arange(total))
