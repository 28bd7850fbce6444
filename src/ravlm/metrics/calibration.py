"""Whether confidence means what it says. Knows numbers only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import signature
from ravlm.records import Score


def expected_calibration_error(
    confidence: Sequence[float], right: Sequence[float], bins: int = 10
) -> Score:
    """How far confidence, 0 to 1, is from the share that is right (Naeini et al. 2015): in each of
    `bins` equal bins the gap of their means, weighted by how many items it has; 0 is best, 1 worst.

    `right`: 1 or 0, or a grade between, of each item. `items` are each one's own gap; `counts`
    (items, bins + 1): the signed gap in the item's bin, and 1."""
    given, truth = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    if given.shape != truth.shape or given.ndim != 1 or not len(given):
        raise InvalidInput(
            f"There are {given.size} confidences and {truth.size} outcomes: one each, at least one."
        )
    for name, values in (("confidence", given), ("outcome", truth)):
        outside = np.flatnonzero(~((values >= 0) & (values <= 1)))
        if len(outside):
            raise InvalidInput(
                f"The {name} of item {outside[0]} is {values[outside[0]]}; 0 to 1 is allowed."
            )
    if bins < 1:
        raise InvalidInput(f"There are {bins} bins; at least 1 is needed.")
    counts = np.zeros((len(given), bins + 1))
    counts[:, -1] = 1
    counts[np.arange(len(given)), np.minimum((given * bins).astype(int), bins - 1)] = given - truth
    value = float(calibration_from_counts(counts.sum(axis=0)))
    return Score(
        value, tuple(np.abs(given - truth).tolist()), signature("ece", f"bins:{bins}"), counts
    )


def calibration_from_counts(counts: np.ndarray) -> np.ndarray:
    """The error of summed counts: (..., bins + 1) to (...)."""
    return np.abs(counts[..., :-1]).sum(-1) / np.maximum(counts[..., -1], 1)
