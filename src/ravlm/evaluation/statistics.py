"""What paired scores prove: bootstrap intervals, permutation tests, Holm's correction, the effect
that could be seen.

Items of several arms are resampled together. A metric that is no mean of its items (BLEU, METEOR)
is computed anew from the summed counts of each resample. Knows scores, and no model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics import (
    bleu_from_counts,
    calibration_from_counts,
    meteor_from_counts,
    ratio_from_counts,
)
from ravlm.records import Score

_FROM_COUNTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "bleu": bleu_from_counts,
    "meteor": meteor_from_counts,
    "citation": ratio_from_counts,
    "copy": ratio_from_counts,
    "ece": calibration_from_counts,
}
"""By how a signature begins: from summed counts to the value."""
_CHUNK = 4_000_000
"""Numbers held at once by a resampling."""
_SEEN = 1.959964 + 0.841621
"""An effect of so many standard errors is seen in 8 of 10 repetitions, at a level of 0.05."""


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How the second of two arms differs from the first."""

    n: int
    difference: float
    low: float
    high: float
    p: float
    """Of a paired permutation test, two-sided, not corrected for the number of tests."""
    gain: float
    harm: float
    """Shares of the items that the second arm scores higher, and lower."""
    smallest: float
    """The smallest difference that so many items would have shown in 8 of 10 repetitions."""


class Paired:
    """The scores of several arms on the same items, by one metric."""

    def __init__(self, scores: Sequence[Score], resamples: int = 10_000, seed: int = 0) -> None:
        """`scores`: one an arm, with as many items each. Raises InvalidInput where they can't be
        paired."""
        if len({len(score.items) for score in scores}) != 1 or not scores[0].items:
            raise InvalidInput(
                f"The scores have {[len(s.items) for s in scores]} items; paired ones have as many."
            )
        if len({score.signature for score in scores}) != 1:
            raise InvalidInput(
                f"The scores were computed differently: {', '.join({s.signature for s in scores})}."
            )
        if resamples < 100:
            raise InvalidInput(f"resamples is {resamples}; at least 100 are needed.")
        self.scores, self.resamples, self.seed = scores, resamples, seed
        self.n = len(scores[0].items)
        self.items = np.array([score.items for score in scores])
        self._counts, self._value = _countable(scores)
        self._drawn = self._bootstrap()

    def interval(self, arm: int) -> Interval:
        """The score of an arm, with the 2.5 and 97.5 percentiles of its resamples."""
        low, high = np.percentile(self._drawn[:, arm], [2.5, 97.5])
        return Interval(self.scores[arm].value, float(low), float(high))

    def difference(self, first: int, second: int) -> Difference:
        """How `second` differs from `first`."""
        drawn = self._drawn[:, second] - self._drawn[:, first]
        low, high = np.percentile(drawn, [2.5, 97.5])
        value = self.scores[second].value - self.scores[first].value
        change = self.items[second] - self.items[first]
        return Difference(
            n=self.n,
            difference=value,
            low=float(low),
            high=float(high),
            p=self._permutation(first, second, value),
            gain=float(np.mean(change > 1e-12)),
            harm=float(np.mean(change < -1e-12)),
            smallest=float(_SEEN * drawn.std()),
        )

    def _bootstrap(self) -> np.ndarray:
        """The value of each arm in each resample (resamples, arms)."""
        rng = np.random.default_rng(self.seed)
        drawn = []
        for size in self._chunks():
            places = rng.integers(0, self.n, (size, self.n))
            places += np.arange(size)[:, None] * self.n
            weights = (
                np.bincount(places.ravel(), minlength=size * self.n)
                .reshape(size, self.n)
                .astype(np.float64)
            )
            drawn.append(
                np.stack([self._value(weights @ counts) for counts in self._counts], axis=1)
            )
        return np.concatenate(drawn)

    def _permutation(self, first: int, second: int, observed: float) -> float:
        """How often arms whose items were swapped at random differ as much."""
        rng = np.random.default_rng(self.seed + 1)
        one, other = self._counts[first], self._counts[second]
        extreme = 0
        for size in self._chunks():
            swapped = rng.integers(0, 2, (size, self.n)).astype(np.float64) @ (other - one)
            values = self._value(other.sum(axis=0) - swapped) - self._value(
                one.sum(axis=0) + swapped
            )
            extreme += int(np.sum(np.abs(values) >= abs(observed) - 1e-12))
        return (1 + extreme) / (1 + self.resamples)

    def _chunks(self) -> Iterator[int]:
        size = max(1, _CHUNK // self.n)
        for start in range(0, self.resamples, size):
            yield min(size, self.resamples - start)


def holm(p: Sequence[float]) -> list[float]:
    """The p values corrected for being many (Holm 1979), in the order given."""
    order = np.argsort(p, kind="stable")
    corrected, worst = np.empty(len(p)), 0.0
    for rank, place in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = worst
    return corrected.tolist()


def _countable(
    scores: Sequence[Score],
) -> tuple[list[np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """What is summed up for each arm (items, columns), and from its sum to the value."""
    from_counts = _FROM_COUNTS.get(re.split("[-|]", scores[0].signature)[0])
    if from_counts is not None and all(score.counts is not None for score in scores):
        return [np.asarray(score.counts, np.float64) for score in scores], from_counts
    n = len(scores[0].items)
    return [np.array(score.items)[:, None] for score in scores], lambda sums: sums[..., 0] / n
