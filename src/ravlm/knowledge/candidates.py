"""Candidates of a search, best first: what every index answers with. Knows no index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Ranking(NamedTuple):
    """Candidates, best first: numbers of parts, numbers of their entries, scores."""

    parts: np.ndarray
    entries: np.ndarray
    scores: np.ndarray

    def picked(self, rows: np.ndarray | slice) -> Ranking:
        """Those in these places."""
        if (
            isinstance(rows, slice)
            and rows.start is None
            and rows.stop is not None
            and rows.stop >= len(self.parts)
        ):
            return self
        return Ranking(self.parts[rows], self.entries[rows], self.scores[rows])


NOTHING = Ranking(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


def merged(rankings: Sequence[Ranking], n: int | None = None) -> Ranking:
    """One ranking of several, best first; of equal scores the older part first."""
    if len(rankings) == 1 and not (rankings[0].scores[1:] == rankings[0].scores[:-1]).any():
        return rankings[0].picked(slice(n))
    parts, entries, scores = (np.concatenate(columns) for columns in zip(*rankings, strict=True))
    order = np.lexsort((parts, -scores))[:n]
    return Ranking(parts[order], entries[order], scores[order])


def best_of_each(ranking: Ranking) -> Ranking:
    """The best part of each entry."""
    _, first = np.unique(ranking.entries, return_index=True)
    return ranking if len(first) == len(ranking.entries) else ranking.picked(np.sort(first))
