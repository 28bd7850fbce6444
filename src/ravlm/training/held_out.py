"""Retrieval on held-out pairs before and after training: which encoder is kept, and the report.

Every distinct text is one query, and is right for all of its images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ravlm.metrics.retrieval import cross_modal_ranks
from ravlm.metrics.statistics import PairedScores
from ravlm.records import Score

MIN_HELD_OUT = 200
"""With fewer held-out pairs, figures are too uncertain to choose by, and a warning says so."""
_DIRECTIONS: dict[Literal["text", "image"], str] = {"text": "t2i", "image": "i2t"}
_DIRECTION_NAMES = {"text": "text to image", "image": "image to text"}
_KS = (1, 5, 10)
_RESAMPLES = 2000


@dataclass(frozen=True)
class HeldOutRanks:
    """For each text (m,) and each image (n,): how many wrong items rank above the right one."""

    text: np.ndarray
    image: np.ndarray

    @classmethod
    def of_vectors(
        cls, images: np.ndarray, texts: np.ndarray, relevant: np.ndarray
    ) -> HeldOutRanks:
        """Rank unit vectors (n, dim) and (m, dim); `relevant` (m, n) bool."""
        return cls(*cross_modal_ranks(texts @ images.T, relevant))

    def recall(self) -> dict[str, float]:
        """Return the recall at 1, 5 and 10 in both directions, in percent."""
        return {
            f"{name} R@{k}": float(100 * np.mean(getattr(self, direction) < k))
            for direction, name in _DIRECTIONS.items()
            for k in _KS
        }

    @property
    def mean_reciprocal_rank(self) -> float:
        """Mean of both directions, 0 to 1: it changes with every rank, the recall with few."""
        return float(np.mean([np.mean(1 / (1 + ranks)) for ranks in (self.text, self.image)]))


@dataclass(frozen=True)
class HeldOutComparison:
    """The ranks of the same held-out items before and after training."""

    before: HeldOutRanks
    after: HeldOutRanks
    method: str
    """How the items were held out, for people."""

    @property
    def num_pairs(self) -> int:
        """Number of the held-out images."""
        return len(self.before.image)

    @property
    def is_better(self) -> bool:
        """Whether the mean reciprocal rank rose by more than twice the standard error."""
        variance = 0.0
        for direction in _DIRECTIONS:
            before, after = (1 / (1 + getattr(r, direction)) for r in (self.before, self.after))
            variance += np.var(after - before) / max(1, len(before) - 1) / 4
        gain = self.after.mean_reciprocal_rank - self.before.mean_reciprocal_rank
        return bool(gain > 2 * np.sqrt(variance))

    @property
    def kept_ranks(self) -> HeldOutRanks:
        """The ranks of the encoder that is kept."""
        return self.after if self.is_better else self.before

    def figures(self) -> dict[str, float]:
        """Return all figures for the log."""
        figures: dict[str, float] = {"held-out pairs": self.num_pairs}
        figures |= {f"before {name}": value for name, value in self.before.recall().items()}
        figures |= self.after.recall()
        for direction, name in _DIRECTIONS.items():
            low, high = self._interval(direction)
            figures |= {f"{name} R@1 change low": low, f"{name} R@1 change high": high}
        return figures | {"kept": float(self.is_better)}

    def report(self, report: Callable[[str], None]) -> None:
        """Report the figures as sentences, with warnings."""
        report(
            f"R@1 on {self.num_pairs:,} held-out pairs ({self.method}): before -> after, change "
            "[95 % interval]"
        )
        for line in self.lines():
            report(line)
        if self.num_pairs < MIN_HELD_OUT:
            report(
                f"Warning: {self.num_pairs} held-out pairs are few; with less than {MIN_HELD_OUT} "
                "these figures are rough. More pairs make them reliable."
            )
        if not self.is_better:
            report(
                "Training did not make the encoder clearly better, so the one before training is "
                "kept. With held_out=0, nothing is measured and the trained one is kept."
            )

    def lines(self) -> list[str]:
        """Return a line with R@1 before and after, in percent, for each direction."""
        lines = []
        for direction, name in _DIRECTION_NAMES.items():
            before, after = (
                100 * np.mean(getattr(ranks, direction) < 1) for ranks in (self.before, self.after)
            )
            low, high = self._interval(direction)
            lines.append(
                f"{name} {before:.1f} -> {after:.1f}, {after - before:+.1f} [{low:+.1f}, "
                f"{high:+.1f}] (n = {len(getattr(self.before, direction)):,})"
            )
        return lines

    def _interval(self, direction: str) -> tuple[float, float]:
        """Return the 95 % interval of the change of R@1, in percentage points (paired
        bootstrap)."""
        scores = [
            Score(float(np.mean(hits)), tuple(map(float, hits)), "recall@1")
            for hits in (getattr(ranks, direction) < 1 for ranks in (self.before, self.after))
        ]
        change = PairedScores(scores, _RESAMPLES).difference(0, 1)
        return 100 * change.low, 100 * change.high
