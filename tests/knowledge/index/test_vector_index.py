"""One modality's parts over several segments: order of equal scores, alone and in batches."""

from __future__ import annotations

import numpy as np
import pytest

from ravlm.knowledge.index import vector_index
from ravlm.knowledge.index.vector_index import VectorIndex


def axes(*numbers: int) -> np.ndarray:
    return np.eye(8, dtype=np.float32)[list(numbers)]


def test_equal_scores_are_in_the_order_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One query with two equal scores, as of copies, had all 64 of its batch sorted one by one."""
    index = VectorIndex(8, axes(7))
    index.extend(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 4]), axes(0, 1, 0, 2))
    sorted_rankings: list[int] = []
    plain = vector_index.merge_rankings

    def counting(rankings: list, n: int) -> object:
        sorted_rankings.append(len(rankings))
        return plain(rankings, n)

    monkeypatch.setattr(vector_index, "merge_rankings", counting)
    mixed = np.array([0, 0.6, 0.8, 0, 0, 0, 0, 0], np.float32)
    queries = np.stack([axes(0)[0], mixed, 0.9 * mixed])
    alone = [index.search(query[None], 2)[0] for query in queries]
    sorted_rankings.clear()
    batch = index.search(queries, 2)
    assert [ranking.parts.tolist() for ranking in batch] == [[1, 3], [4, 2], [4, 2]]
    assert [r.scores.tolist() for r in batch] == [r.scores.tolist() for r in alone]
    assert sorted_rankings == [1]
    index.segments.append(vector_index.Segment.empty(8, with_tokens=False))
    index.extend(np.array([5]), np.array([5]), axes(0))
    assert [r.parts.tolist() for r in index.search(queries[:1], 3)] == [[1, 3, 5]]
