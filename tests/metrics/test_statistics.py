"""Statistics: against arithmetic on paper, against SciPy, and on data with a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ravlm.errors import InvalidInput
from ravlm.metrics import bleu
from ravlm.metrics.statistics import PairedScores, holm
from ravlm.records import Score


def score(items: np.ndarray) -> Score:
    return Score(float(items.mean()), tuple(items.tolist()), "test")


def test_interval_of_a_mean_equals_theory() -> None:
    items = np.random.default_rng(0).normal(2, 1, 400)
    interval = PairedScores([score(items)], 10_000).interval(0)
    error = items.std() / 20
    assert interval.score == pytest.approx(items.mean())
    assert interval.low == pytest.approx(items.mean() - 1.96 * error, abs=0.01)
    assert interval.high == pytest.approx(items.mean() + 1.96 * error, abs=0.01)


def test_pairing_detects_what_separate_intervals_hide() -> None:
    """Arms that agree on most items differ by little but reliably: 12 of 300 items change, all for
    the better."""
    rng = np.random.default_rng(1)
    first = (rng.random(300) < 0.5).astype(float)
    second = first.copy()
    second[np.flatnonzero(first == 0)[:12]] = 1
    paired = PairedScores([score(first), score(second)])
    difference = paired.difference(0, 1)
    assert difference.difference == pytest.approx(0.04)
    assert (difference.gain, difference.harm) == (pytest.approx(0.04), 0.0)
    assert difference.low > 0
    assert difference.p < 0.001
    assert paired.interval(0).high > paired.interval(1).low
    back = paired.difference(1, 0)
    assert (back.difference, back.gain, back.harm) == (
        pytest.approx(-0.04),
        0.0,
        pytest.approx(0.04),
    )


def test_permutation_p_equals_the_exact_sign_test() -> None:
    """9 of 10 changed items are better: p is 22 of 1,024, two-sided."""
    first, second = np.zeros(30), np.zeros(30)
    second[:9], first[9] = 1, 1
    difference = PairedScores([score(first), score(second)], 20_000).difference(0, 1)
    assert difference.p == pytest.approx(stats.binomtest(9, 10).pvalue, abs=0.004)


def test_p_of_equal_arms_is_uniform() -> None:
    """A test with too many false positives would call more than one in twenty different."""
    rng = np.random.default_rng(2)
    p = [
        PairedScores([score(rng.random(60)), score(rng.random(60))], 400, seed).difference(0, 1).p
        for seed in range(120)
    ]
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) < 0.05) < 0.11


def test_no_change_is_no_difference() -> None:
    items = score(np.array([0.0, 1.0, 0.5]))
    difference = PairedScores([items, items], 200).difference(0, 1)
    assert (difference.difference, difference.low, difference.high, difference.p) == (
        0.0,
        0.0,
        0.0,
        1.0,
    )
    assert (difference.gain, difference.harm, difference.mde) == (0.0, 0.0, 0.0)


def test_a_corpus_metric_is_resampled_from_its_counts() -> None:
    """The mean of sentence BLEU is not corpus BLEU: an interval of the former need not even hold
    the latter."""
    rng = np.random.default_rng(3)
    words = "a the dog cat runs on grass red man".split()  # noqa: SIM905
    references = [[" ".join(rng.choice(words, 8)) for _ in range(2)] for _ in range(80)]
    good = [
        texts[0] if i % 2 else " ".join(rng.choice(words, 8)) for i, texts in enumerate(references)
    ]
    bad = [" ".join(rng.choice(words, 8)) for _ in references]
    scores = [bleu(texts, references, 2) for texts in (bad, good)]
    paired = PairedScores(scores, 2000)
    interval = paired.interval(1)
    assert interval.score == scores[1].value
    assert interval.low < scores[1].value < interval.high
    assert abs(np.mean(scores[1].items) - scores[1].value) > 0.01
    difference = paired.difference(0, 1)
    assert difference.difference == pytest.approx(scores[1].value - scores[0].value)
    assert difference.p < 0.01
    by_hand = []
    draws = np.random.default_rng(0)
    for _ in range(100):
        rows = draws.integers(0, 80, 80)
        by_hand.append(bleu([good[i] for i in rows], [references[i] for i in rows], 2).value)
    assert interval.low == pytest.approx(np.percentile(by_hand, 2.5), abs=0.04)
    assert interval.high == pytest.approx(np.percentile(by_hand, 97.5), abs=0.04)


def test_minimum_detectable_effect_is_significant_in_80_percent_of_repetitions() -> None:
    rng = np.random.default_rng(4)
    noise = rng.normal(0, 1, (200, 100))
    mde = PairedScores([score(np.zeros(100)), score(noise[0])], 2000).difference(0, 1).mde
    significant = [stats.ttest_1samp(row + mde, 0).pvalue < 0.05 for row in noise]
    assert mde == pytest.approx(2.8 * noise[0].std() / 10, rel=0.05)
    assert 0.65 < np.mean(significant) < 0.95


def test_questions_about_one_photo_are_not_independent() -> None:
    """997 grocery questions are about 296 photos, yet the interval was that of 997 photos."""
    rng = np.random.default_rng(6)
    photos = np.repeat(np.arange(100), rng.integers(1, 8, 100))
    items = (rng.random(100) < 0.6).astype(float)[photos]  # all right or all wrong
    alone = PairedScores([score(items)], 4000).interval(0)
    paired = PairedScores([score(items)], 4000, groups=[f"photo {i}" for i in photos])
    together = paired.interval(0)
    assert paired.n == len(items)
    assert paired.num_groups == 100
    assert together.score == alone.score == items.mean()
    sizes = np.bincount(photos)
    sums = np.bincount(photos, items)
    error = np.sqrt(((sums - items.mean() * sizes) ** 2).sum()) / sizes.sum()  # of a ratio
    assert together.high - together.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert together.high - together.low > 1.6 * (alone.high - alone.low)


def test_arms_are_swapped_by_group() -> None:
    """Eight photos with ten questions each: p is that of 8 signs, not of 80."""
    first, second = np.zeros(80), np.ones(80)
    groups = np.repeat(np.arange(8), 10).tolist()
    difference = PairedScores([score(first), score(second)], 20_000, groups=groups).difference(0, 1)
    assert difference.p == pytest.approx(stats.binomtest(8, 8).pvalue, abs=0.003)
    assert (difference.n, difference.difference, difference.gain) == (80, 1.0, 1.0)


def test_groups_of_a_corpus_metric() -> None:
    references = [["a red cat"], ["a red cat"], ["two dogs run"], ["the sky is blue"]]
    texts = ["a red cat", "a red cat", "a dog", "the sky is grey"]
    scores = [bleu(texts, references, 2)]
    paired = PairedScores(scores, 500, groups=["a", "a", "b", "b"])
    interval = paired.interval(0)
    assert interval.low <= scores[0].value <= interval.high
    assert interval.high == pytest.approx(1)  # in a quarter of the draws only the first group
    with pytest.raises(InvalidInput, match="2 groups and 4 items"):
        PairedScores(scores, 500, groups=["a", "b"])


def test_the_minimum_detectable_effect_is_corrected_like_p() -> None:
    """With fifteen pairs the smallest p must be below 0.05 / 15, but the MDE told of one pair."""
    rng = np.random.default_rng(7)
    paired = PairedScores([score(np.zeros(200)), score(rng.normal(0, 1, 200))], 2000)
    one, fifteen = (paired.difference(0, 1, num_tests).mde for num_tests in (1, 15))
    quantile = stats.norm.ppf
    expected = (quantile(1 - 0.05 / 30) + quantile(0.8)) / (quantile(0.975) + quantile(0.8))
    assert fifteen / one == pytest.approx(expected)


def test_holm_on_paper() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_unpaired_scores_are_refused() -> None:
    one = score(np.zeros(3))
    with pytest.raises(InvalidInput, match="same number of items in each arm; got 3 and 2"):
        PairedScores([one, score(np.zeros(2))])
    with pytest.raises(InvalidInput, match="different signatures"):
        PairedScores([one, Score(0.0, (0.0,) * 3, "other")])
    with pytest.raises(InvalidInput, match="resamples is 10"):
        PairedScores([one], 10)
