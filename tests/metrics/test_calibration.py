"""Calibration on paper."""

from __future__ import annotations

import numpy as np
import pytest

from ravlm.errors import InvalidInput
from ravlm.metrics import calibration_from_counts, expected_calibration_error
from ravlm.metrics.statistics import PairedScores


def test_on_paper() -> None:
    """Two items at 0.9, one correct (a gap of 0.4); 0.25 and 0.35, both wrong, in other bins."""
    score = expected_calibration_error([0.9, 0.9, 0.25, 0.35], [1, 0, 0, 0])
    assert score.value == pytest.approx((2 * 0.4 + 0.25 + 0.35) / 4)
    assert score.items == pytest.approx((0.1, 0.9, 0.25, 0.35))
    assert score.counts is not None
    assert calibration_from_counts(score.counts.sum(0)) == pytest.approx(score.value)
    assert expected_calibration_error([1.0, 0.0], [1, 0]).value == 0
    assert expected_calibration_error(
        [0.9, 0.9, 0.25, 0.35], [1, 0, 0, 0], bins=1
    ).value == pytest.approx(1.4 / 4)


def test_its_interval_is_that_of_resampled_bins() -> None:
    rng = np.random.default_rng(0)
    sure = rng.random(2000)
    score = expected_calibration_error(
        sure.tolist(), (rng.random(2000) < sure).astype(float).tolist()
    )
    assert score.value < 0.03
    interval = PairedScores([score], resamples=500).interval(0)
    assert interval.low < score.value + 0.02
    assert interval.high < 0.06


@pytest.mark.parametrize(
    ("confidences", "correct", "bins", "message"),
    [
        ([], [], 10, r"same length, at least 1 \(0 and 0\)"),
        ([0.5], [1, 0], 10, r"same length, at least 1 \(1 and 2\)"),
        ([0.5, 1.5], [1, 0], 10, "confidence of item 1 is 1.5"),
        ([0.5], [float("nan")], 10, "outcome of item 0 is nan"),
        ([0.5], [1], 0, "bins is 0"),
    ],
)
def test_bad_input(confidences: list[float], correct: list[float], bins: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        expected_calibration_error(confidences, correct, bins)
