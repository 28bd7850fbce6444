"""Rank fusion, diversity, groups and score scales against arithmetic on paper."""

from __future__ import annotations

import numpy as np
import pytest

from ravlm.errors import InvalidInput
from ravlm.search.options import SearchOptions
from ravlm.search.rank_fusion import (
    VECTOR_WEIGHT,
    diversify,
    first_per_group,
    fuse_scores,
    place_among_fixed,
)
from ravlm.search.score_calibration import (
    MAX_CROSS_MODAL_SCORE,
    PRIOR_STD,
    CosineStats,
    combine_queries,
    cosine_stats,
    interleave,
    relevance,
    rescale,
)


def test_score_fusion_on_paper() -> None:
    """By ranks, "c", the clear winner by words, came after "b", second in both."""
    by_word = {"c": 12.0, "b": 3.0}
    fused = fuse_scores(by_word, {"a": 4.0, "b": 3.0, "c": -1.0})
    assert [item for item, _ in fused] == ["c", "b", "a"]
    values = [1 - VECTOR_WEIGHT, 0.25 + 3 * VECTOR_WEIGHT, 4 * VECTOR_WEIGHT]
    assert [value for _, value in fused] == pytest.approx(values)
    assert fuse_scores({}, {"x": 2.0}) == [("x", 2 * VECTOR_WEIGHT)]
    assert fuse_scores({}, {}) == []


def test_fixed_items_keep_their_place() -> None:
    """P and Q have no words; the others change places among themselves."""
    fused = [("c", 0.9), ("b", 0.7), ("a", 0.2), ("z", 0.1)]
    placed = place_among_fixed(["P", "a", "b", "Q", "c"], fused, {"P", "Q"})
    assert [item for item, _ in placed] == ["P", "c", "b", "Q", "a", "z"]
    # A fixed item has the value of the item before it.
    assert [value for _, value in placed] == [0.9, 0.9, 0.7, 0.7, 0.2, 0.1]
    assert place_among_fixed(["a", "b", "c"], fused, ()) == fused
    assert place_among_fixed(["P"], [], {"P"}) == [("P", 1.0)]


def test_relevance_on_paper() -> None:
    stats = CosineStats(0.1, 0.08)
    cosines = [-0.5, 0.1, 0.26, 0.5, 0.9]
    assert [relevance(c, stats) for c in cosines] == pytest.approx([0, 0, 0.4, 1, 1])


def test_diversity_on_paper() -> None:
    """The runner-up is a copy of the best; with diversity 0.5 it comes last."""
    scores = np.array([0.9, 0.8, 0.5], np.float32)
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert diversify(scores, vectors, 3, 0.0)[0].tolist() == [0, 1, 2]
    order, values = diversify(scores, vectors, 3, 0.5)
    assert order.tolist() == [0, 2, 1]
    assert values == pytest.approx([0.45, 0.25, 0.4 - 0.5])
    assert diversify(scores, vectors, 2, 0.5)[0].tolist() == [0, 2]


def test_diversity_values_never_rise() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    _, values = diversify(np.sort(rng.random(30).astype(np.float32))[::-1], vectors, 30, 0.7)
    assert (np.diff(values) <= 1e-6).all()


def test_first_of_each_group() -> None:
    assert first_per_group(["a", "b", "a", None, None, "b"]) == [0, 1, 3, 4]


def test_chance_on_paper() -> None:
    query, sample = np.array([1.0, 0.0]), np.array([[0.6, 0.8], [0.2, 0.98]])
    stats = cosine_stats(query, sample)
    assert stats.mean == pytest.approx(0.4)
    assert stats.std == pytest.approx(np.sqrt((2 * 0.2**2 + 8 * PRIOR_STD**2) / 10))
    assert cosine_stats(query, np.zeros((0, 2))) == CosineStats(0.0, PRIOR_STD)


def test_rescaled_scores_stand_equally_far_above_chance() -> None:
    scores = np.array([0.1, 0.2, 0.3])
    assert rescale(scores, CosineStats(0.1, 0.05), CosineStats(0.3, 0.1)) == pytest.approx(
        [0.3, 0.5, 0.7]
    )
    assert rescale(np.array([5.0]), CosineStats(0, 1), CosineStats(0, 1)) == pytest.approx(
        [MAX_CROSS_MODAL_SCORE]
    )


def test_composed_query_orders_as_the_sum_of_standardized_cosines() -> None:
    rng = np.random.default_rng(1)
    sample = rng.standard_normal((200, 16)).astype(np.float32)
    sample /= np.linalg.norm(sample, axis=1, keepdims=True)
    queries = sample[:2] + np.array([[0.0], [0.5]], np.float32) * sample[2]
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    composed = combine_queries(queries, sample)
    standardized = sum(sample @ q / cosine_stats(q, sample).std for q in queries)
    assert np.linalg.norm(composed) == pytest.approx(1.0, abs=1e-6)
    assert np.argsort(-(sample @ composed))[:20].tolist() == np.argsort(-standardized)[:20].tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "hybird"}, 'Did you mean "hybrid"'),
        ({"diversity": 1.0}, "0 \\(off\\) to below 1"),
        ({"near_duplicate": 2}, "a cosine"),
        ({"offset": -1}, "at least 0"),
        ({"overfetch": 0}, "at least 1"),
        ({"exclude_ids": "cat"}, "a tuple"),
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        SearchOptions(**values)  # type: ignore[arg-type]


def test_interleaving_on_paper() -> None:
    """First items come first, by score; a score never exceeds the one before it."""
    order, scores = interleave([np.array([0.9, 0.2, 0.1]), np.array([0.6, 0.5])])
    assert order.tolist() == [0, 3, 4, 1, 2]
    assert scores == pytest.approx([0.9, 0.6, 0.5, 0.2, 0.1])
    order, scores = interleave([np.array([0.5, 0.4]), np.array([0.6, 0.45]), np.array([])])
    assert order.tolist() == [2, 0, 3, 1]
    assert scores == pytest.approx([0.6, 0.5, 0.45, 0.4])
    order, scores = interleave([np.array([0.9, 0.8]), np.array([0.3])])
    assert (order.tolist(), scores.tolist()) == ([0, 2, 1], [0.9, 0.3, 0.3])
