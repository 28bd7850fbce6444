"""Rankings and citations: on paper, and equal to trec_eval."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ravlm.errors import InvalidInput
from ravlm.metrics import (
    citation_precision,
    citation_recall,
    cross_modal_recall,
    mean_average_precision,
    mean_reciprocal_rank,
    ndcg_at,
    precision_at,
    ratio_from_counts,
    recall_at,
)

RANKED = [["a", "b", "c"], ["x", "y", "z"], ["p"]]
RELEVANT = [{"b", "q"}, {"x", "z"}, {"nowhere"}]


def test_rankings_on_paper() -> None:
    assert recall_at(RANKED, RELEVANT, 2).items == (0.5, 0.5, 0.0)
    assert precision_at(RANKED, RELEVANT, 2).items == (0.5, 0.5, 0.0)
    assert mean_reciprocal_rank(RANKED, RELEVANT).items == (0.5, 1.0, 0.0)
    assert mean_average_precision(RANKED, RELEVANT).items == pytest.approx(
        (0.25, (1 + 2 / 3) / 2, 0.0)
    )
    best = 1 + 1 / np.log2(3)
    assert ndcg_at(RANKED, RELEVANT, 3).items == pytest.approx(
        (1 / np.log2(3) / best, (1 + 0.5) / best, 0.0)
    )
    assert mean_reciprocal_rank(RANKED, RELEVANT).value == 0.5
    assert recall_at(RANKED, RELEVANT, 2).signature.startswith("recall@2|")


def test_equal_to_trec_eval() -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rng = random.Random(0)
    ids = [f"d{i}" for i in range(60)]
    ranked = [rng.sample(ids, rng.randint(1, 40)) for _ in range(80)]
    relevant = [
        {d: rng.randint(1, 3) for d in rng.sample(ids, rng.randint(1, 12))} for _ in range(80)
    ]
    names = ("recall_10", "P_10", "recip_rank", "map", "ndcg_cut_10")
    scored = {
        f"q{i}": {d: float(-place) for place, d in enumerate(each)} for i, each in enumerate(ranked)
    }
    gains = {f"q{i}": each for i, each in enumerate(relevant)}
    theirs = pytrec_eval.RelevanceEvaluator(gains, names).evaluate(scored)
    ours = (
        recall_at(ranked, relevant, 10),
        precision_at(ranked, relevant, 10),
        mean_reciprocal_rank(ranked, relevant),
        mean_average_precision(ranked, relevant),
        ndcg_at(ranked, relevant, 10),
    )
    for name, score in zip(names, ours, strict=True):
        assert score.items == pytest.approx([theirs[f"q{i}"][name] for i in range(80)], abs=1e-6), (
            name
        )


def test_an_irrelevant_gain_counts_for_nothing() -> None:
    assert recall_at([["a", "b"]], [{"a": 0, "b": 2}], 1).value == 0.0


def test_cross_modal_recall_counts_ties_against_the_right_one() -> None:
    images = np.eye(3, dtype=np.float32)
    texts = np.array([[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 0.5, 0.5]], np.float32)
    recall = cross_modal_recall(images, texts, np.array([0, 0, 1, 2]), ks=(1, 2))
    assert recall.text_to_image == {1: 75.0, 2: 100.0}
    assert recall.image_to_text == {1: 100.0, 2: 100.0}


@pytest.mark.parametrize(
    ("ranked", "relevant", "message"),
    [
        ([["a"]], [], r"same length, at least 1 \(1 and 0\)"),
        ([], [], r"at least 1 \(0 and 0\)"),
        ([["a"], ["a", "b", "a"]], [["a"], ["a"]], 'Query 1 ranks "a" twice'),
        ([["a"], ["b"]], [["a"], []], "Query 1 has no relevant ids"),
        ([["a"]], [{"a": 0}], "Query 0 has no relevant ids"),
        (["abc"], [["a"]], "Query 0 has a text"),
    ],
)
def test_bad_rankings_are_refused(ranked, relevant, message: str) -> None:
    for metric in (mean_reciprocal_rank, mean_average_precision):
        with pytest.raises(InvalidInput, match=message):
            metric(ranked, relevant)
    with pytest.raises(InvalidInput, match=message):
        ndcg_at(ranked, relevant, 5)


def test_k_must_be_positive() -> None:
    for metric in (recall_at, precision_at, ndcg_at):
        with pytest.raises(InvalidInput, match="k is 0"):
            metric(RANKED, RELEVANT, 0)


def test_citations_on_paper() -> None:
    """Outputs without citations do not count in precision, but do in recall."""
    citations = [["a", "b", "b"], [], ["c"]]
    relevant = [["a"], ["d"], []]
    precision, recall = (
        citation_precision(citations, relevant),
        citation_recall(citations, relevant),
    )
    assert (precision.value, precision.items) == (pytest.approx(1 / 3), (0.5, 0.0, 0.0))
    assert (recall.value, recall.items) == (0.5, (1.0, 0.0, 0.0))
    assert precision.counts is not None
    assert float(ratio_from_counts(precision.counts[[0, 0]].sum(axis=0))) == 0.5
    with pytest.raises(InvalidInput, match=r"same length, at least 1 \(1 and 2\)"):
        citation_precision([["a"]], [["a"], ["b"]])
    with pytest.raises(InvalidInput, match='Output 0 has the text "ab"'):
        citation_recall([["a"]], ["ab"])
