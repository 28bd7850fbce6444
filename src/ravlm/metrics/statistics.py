"""Statistics of paired scores: bootstrap intervals, permutation tests, Holm's correction, MDE.

All arms are resampled together, and items of one group together: several questions about one photo
are not independent (a cluster bootstrap). A metric that is not a mean over items (BLEU, METEOR) is
recomputed from the summed counts of each resample."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

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
"""From summed counts to the value, by the first word of a score's signature."""
_MAX_NUMBERS = 4_000_000
"""Size of the largest array of a resampling."""
_SIGNIFICANCE = 0.05
_POWER = 0.8
_EPSILON = 1e-12


@dataclass(frozen=True)
class Interval:
    """A score with its 95 % interval."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The difference between two arms: the second minus the first."""

    n: int
    difference: float
    low: float
    high: float
    """95 % interval of the difference."""
    p: float
    """Of a two-sided paired permutation test, not corrected for multiple tests."""
    gain: float
    """Fraction of the items that the second arm scores higher (wins)."""
    harm: float
    """Fraction of the items that the second arm scores lower (losses)."""
    mde: float
    """Minimum detectable effect: the smallest difference that is significant at 0.05, after the
    correction for all tests, in 80 % of repetitions with these items."""


class PairedScores:
    """The scores of several arms on the same items in one metric.

    Example:
        paired = PairedScores([closed_book, retrieved])
        print(paired.difference(0, 1).p)
    """

    def __init__(
        self,
        scores: Sequence[Score],
        resamples: int = 10_000,
        seed: int = 0,
        groups: Sequence[Hashable] | None = None,
    ) -> None:
        """`scores` has one Score per arm. `groups` has one value per item; items with equal values
        are drawn together. By default every item is drawn by itself.

        Raises InvalidInput if the numbers of items or the signatures differ, or if `resamples` is
        below 100."""
        _check(scores, resamples)
        self.scores = scores
        self.resamples = resamples
        self.seed = seed
        self.n = len(scores[0].items)
        self.items = np.array([score.items for score in scores])  # (arms, n)
        self.num_groups, group_of_item = _group_indices(groups, self.n)
        counts, self._value = _counts_and_value(scores)
        self._counts = [_sums(values, group_of_item, self.num_groups) for values in counts]
        self._samples = self._bootstrap()  # (resamples, arms)

    def interval(self, arm: int) -> Interval:
        """Return the score of an arm with the 2.5 and 97.5 percentiles of its resamples."""
        low, high = np.percentile(self._samples[:, arm], [2.5, 97.5])
        return Interval(self.scores[arm].value, float(low), float(high))

    def difference(self, first: int, second: int, num_tests: int = 1) -> Difference:
        """Return how arm `second` differs from arm `first`.

        `num_tests`: number of differences that are tested together, for the MDE. The first step of
        Holm's correction compares the smallest p with 0.05 / `num_tests`."""
        samples = self._samples[:, second] - self._samples[:, first]
        low, high = np.percentile(samples, [2.5, 97.5])
        value = self.scores[second].value - self.scores[first].value
        item_change = self.items[second] - self.items[first]
        return Difference(
            n=self.n,
            difference=value,
            low=float(low),
            high=float(high),
            p=self._permutation_p(first, second, value),
            gain=float(np.mean(item_change > _EPSILON)),
            harm=float(np.mean(item_change < -_EPSILON)),
            mde=float(_mde_standard_errors(num_tests) * samples.std()),
        )

    def _bootstrap(self) -> np.ndarray:
        """Return the value of each arm in each resample: (resamples, arms)."""
        rng = np.random.default_rng(self.seed)
        samples = []
        for size in self._chunk_sizes():
            weights = self._resample_weights(rng, size)
            values = [self._value(weights @ counts) for counts in self._counts]
            samples.append(np.stack(values, axis=1))
        return np.concatenate(samples)

    def _resample_weights(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return how often each group was drawn in each of `size` resamples: (size, groups)."""
        n = self.num_groups
        draws = rng.integers(0, n, (size, n))
        draws += np.arange(size)[:, None] * n  # one range of bins per resample
        weights = np.bincount(draws.ravel(), minlength=size * n)
        return weights.reshape(size, n).astype(np.float64)

    def _permutation_p(self, first: int, second: int, observed: float) -> float:
        """Return how often the arms differ as much after swapping random groups between them."""
        rng = np.random.default_rng(self.seed + 1)
        first_counts = self._counts[first]
        second_counts = self._counts[second]
        first_sum = first_counts.sum(axis=0)
        second_sum = second_counts.sum(axis=0)
        extreme = 0
        for size in self._chunk_sizes():
            swaps = rng.integers(0, 2, (size, self.num_groups)).astype(np.float64)
            moved = swaps @ (second_counts - first_counts)
            differences = self._value(second_sum - moved) - self._value(first_sum + moved)
            extreme += int(np.sum(np.abs(differences) >= abs(observed) - _EPSILON))
        return (1 + extreme) / (1 + self.resamples)

    def _chunk_sizes(self) -> Iterator[int]:
        size = max(1, _MAX_NUMBERS // self.num_groups)
        for start in range(0, self.resamples, size):
            yield min(size, self.resamples - start)


def _mde_standard_errors(num_tests: int) -> float:
    """Return how many standard errors an effect has that is significant with `_POWER`."""
    normal = NormalDist()
    return normal.inv_cdf(1 - _SIGNIFICANCE / (2 * max(1, num_tests))) + normal.inv_cdf(_POWER)


def _group_indices(groups: Sequence[Hashable] | None, n: int) -> tuple[int, np.ndarray]:
    """Return the number of groups, and the index of each item's group, int64 (n,)."""
    if groups is None:
        return n, np.arange(n)
    if len(groups) != n:
        raise InvalidInput(f"There are {len(groups)} groups and {n} items; give one for each item.")
    indices = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    return len(indices), np.array([indices[group] for group in groups], np.int64)


def _sums(counts: np.ndarray, group_of_item: np.ndarray, num_groups: int) -> np.ndarray:
    """Return the sums of the items' counts (n, columns) by group: (groups, columns)."""
    sums = np.zeros((num_groups, counts.shape[1]))
    np.add.at(sums, group_of_item, counts)
    return sums


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for multiple tests (Holm 1979), in the given order."""
    corrected = np.empty(len(p))
    largest = 0.0
    for rank, index in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = largest
    return corrected.tolist()


def _check(scores: Sequence[Score], resamples: int) -> None:
    lengths = [len(score.items) for score in scores]
    if len(set(lengths)) != 1:
        raise InvalidInput(
            "Paired tests need the same number of items in each arm; got "
            f"{' and '.join(map(str, lengths))}."
        )
    if not lengths[0]:
        raise InvalidInput("The scores have no items; score at least one example.")
    signatures = sorted({score.signature for score in scores})
    if len(signatures) != 1:
        raise InvalidInput(
            f"Scores with different signatures can't be compared: {', '.join(signatures)}. "
            "Compute them with the same metric and settings."
        )
    if resamples < 100:
        raise InvalidInput(f"resamples is {resamples}; it must be at least 100.")


def _counts_and_value(
    scores: Sequence[Score],
) -> tuple[list[np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """Return the counts of each arm (items, columns), and the function from their sum to the
    value."""
    metric = re.split("[-|]", scores[0].signature)[0]
    from_counts = _FROM_COUNTS.get(metric)
    if from_counts is not None and all(score.counts is not None for score in scores):
        return [np.asarray(score.counts, np.float64) for score in scores], from_counts
    # The number of items is a count, too: resamples of groups differ in it.
    return (
        [np.array([(item, 1.0) for item in score.items]) for score in scores],
        lambda sums: sums[..., 0] / sums[..., 1],
    )
