"""Calibration: does a confidence of 0.8 mean that 80 % are correct?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import signature
from ravlm.records import Score


def expected_calibration_error(
    confidences: Sequence[float], correct: Sequence[float], bins: int = 10
) -> Score:
    """Compute the expected calibration error (Naeini et al. 2015), 0 (best) to 1.

    It is the gap between mean confidence and mean correctness in each of `bins` equal bins,
    weighted by the number of items in the bin. Tested against arithmetic on paper. No texts are
    tokenized.

    `confidences`: 0 to 1, one per item. `correct`: 1 or 0, or a grade between them. `items` are the
    gaps of the single items. `counts` (items, bins + 1): the signed gap in the item's bin, and 1.
    """
    confidence = np.asarray(confidences, np.float64)
    outcome = np.asarray(correct, np.float64)
    _check(confidence, outcome, bins)
    n = len(confidence)
    counts = np.zeros((n, bins + 1))
    bin_index = np.minimum((confidence * bins).astype(int), bins - 1)
    counts[np.arange(n), bin_index] = confidence - outcome
    counts[:, -1] = 1
    return Score(
        value=float(calibration_from_counts(counts.sum(axis=0))),
        items=tuple(np.abs(confidence - outcome).tolist()),
        signature=signature("ece", f"bins:{bins}"),
        counts=counts,
    )


def calibration_from_counts(counts: np.ndarray) -> np.ndarray:
    """Compute the error from summed counts: (..., bins + 1) -> (...)."""
    return np.abs(counts[..., :-1]).sum(-1) / np.maximum(counts[..., -1], 1)


def _check(confidence: np.ndarray, outcome: np.ndarray, bins: int) -> None:
    if confidence.shape != outcome.shape or confidence.ndim != 1 or not len(confidence):
        raise InvalidInput(
            "confidences and correct must be lists of the same length, at least 1 "
            f"({confidence.size} and {outcome.size})."
        )
    for name, values in (("confidence", confidence), ("outcome", outcome)):
        outside = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if len(outside):
            item = outside[0]
            raise InvalidInput(f"The {name} of item {item} is {values[item]}; allowed: 0 to 1.")
    if bins < 1:
        raise InvalidInput(f"bins is {bins}; it must be at least 1.")
