"""MaxSim against arithmetic on paper."""

from __future__ import annotations

import numpy as np
import pytest

from ravlm.encoders.token_vectors import TokenVectors
from ravlm.search.maxsim import chunk_items, combine_token_queries, maxsim, weighted_query

ITEMS = TokenVectors.from_items(
    [np.array([[1.0, 0.0], [0.6, 0.8]]), np.array([[0.0, 1.0]]), np.array([[-1.0, 0.0]] * 3)], 2
)


def test_each_token_counts_its_most_similar_one() -> None:
    query = weighted_query(np.array([[1.0, 0.0], [0.0, 1.0]]))
    # (1 + 0.8) / 2, (0 + 1) / 2, (-1 + 0) / 2
    assert maxsim(query, ITEMS.vectors, ITEMS.starts) == pytest.approx([0.9, 0.5, -0.5])


def test_items_of_one_length_have_the_same_scores() -> None:
    """They are compared by another path, which is faster."""
    rng = np.random.default_rng(0)
    vectors, query = rng.standard_normal((60, 8)), rng.standard_normal((5, 8))
    even = maxsim(query, vectors, np.arange(0, 61, 4))
    starts = np.array([0, 1, 4, *range(8, 61, 4)])
    assert maxsim(query, vectors, starts)[2:] == pytest.approx(even[1:], rel=1e-5)


def test_two_queries_are_weighted() -> None:
    first, second = np.array([[1.0, 0.0]]), weighted_query(np.array([[0.0, 1.0], [0.0, -1.0]]))
    of_first, of_second = (maxsim(q, ITEMS.vectors, ITEMS.starts) for q in (first, second))
    both = combine_token_queries([first, second], [3.0, 1.0])
    expected = 0.75 * of_first + 0.25 * of_second
    assert maxsim(both, ITEMS.vectors, ITEMS.starts) == pytest.approx(expected)


def test_chunks_cover_all_items_and_large_ones_stand_alone() -> None:
    starts = np.array([0, 2, 4, 14, 15, 16, 18])
    assert chunk_items(starts, 4) == [(0, 2), (2, 3), (3, 6)]
    assert chunk_items(np.zeros(1, np.int64)) == []


def test_the_pooled_vector_is_the_direction_of_the_mean() -> None:
    pooled = ITEMS.pooled()
    assert pooled == pytest.approx(
        np.array([[1.6, 0.8], [0.0, 1.0], [-1.0, 0.0]]) / [[np.sqrt(3.2)], [1], [1]]
    )
    assert ITEMS.take([2, 0])[1] == pytest.approx(ITEMS[0])
    assert TokenVectors.from_items([], 3).pooled().shape == (0, 3)
