"""Candidates of a search, best first: the result of every index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Ranking(NamedTuple):
    """Candidates, best first; all arrays (n,)."""

    parts: np.ndarray
    """Part numbers."""
    entries: np.ndarray
    """Entry number of each part."""
    scores: np.ndarray

    def take(self, rows: np.ndarray | slice) -> Ranking:
        """Return the candidates at these positions."""
        if isinstance(rows, slice) and rows.start is None and (rows.stop or 0) >= len(self.parts):
            return self
        return Ranking(self.parts[rows], self.entries[rows], self.scores[rows])


EMPTY_RANKING = Ranking(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


class Candidates(NamedTuple):
    """Candidates of one query. `exhausted` means that no further entry can be a candidate."""

    ranking: Ranking
    exhausted: bool


def merge_rankings(rankings: Sequence[Ranking], n: int | None = None) -> Ranking:
    """Merge rankings by score, best first; of equal scores the older part comes first."""
    if len(rankings) == 1 and not (rankings[0].scores[1:] == rankings[0].scores[:-1]).any():
        return rankings[0].take(slice(n))
    parts, entries, scores = (np.concatenate(columns) for columns in zip(*rankings, strict=True))
    order = np.lexsort((parts, -scores))[:n]
    return Ranking(parts[order], entries[order], scores[order])


def best_part_per_entry(ranking: Ranking) -> Ranking:
    """Keep the best part of each entry."""
    _, first = np.unique(ranking.entries, return_index=True)
    return ranking if len(first) == len(ranking.entries) else ranking.take(np.sort(first))
