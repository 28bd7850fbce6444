"""The outcome of a comparison as plain records: scores, contrasts, costs, risk curves, cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ravlm.records import Entry, Example

MIN_GROUPS = 20
"""Below this number of independent examples, no difference is reported."""
CaseKind = Literal["win", "loss", "failure"]


@dataclass(frozen=True)
class ArmScore:
    """The score of an arm in one metric, with its 95 % interval over `n` items."""

    arm: str
    generator: str
    metric: str
    n: int
    score: float
    low: float
    high: float
    groups: int | None = None
    """Number of independent groups among the items; None if every item is one."""


@dataclass(frozen=True)
class Contrast:
    """The difference between two arms in one metric: the second minus the first."""

    contrast: tuple[str, str]
    generator: str
    metric: str
    n: int
    difference: float
    low: float
    high: float
    """95 % interval of the difference."""
    p: float
    """Corrected for all contrasts of the metric (Holm)."""
    p_uncorrected: float
    gain: float
    """Wins: fraction of the items that the second arm scores higher."""
    harm: float
    """Losses: fraction of the items that the second arm scores lower."""
    mde: float
    """Minimum detectable effect at 80 % power, corrected as `p`; 0 if no item varies."""
    groups: int | None = None
    """Number of independent groups among the items; None if every item is one."""

    @property
    def has_too_few(self) -> bool:
        """Whether there are too few independent items to tell a difference."""
        return (self.groups or self.n) < MIN_GROUPS


@dataclass(frozen=True)
class Cost:
    """The time, memory and output length of an arm. Seconds exclude cached predictions."""

    arm: str
    generator: str
    computed: int
    """Number of examples that were computed, not read from the cache."""
    seconds_retrieval: float
    seconds_generation: float
    words: float
    """Mean number of words per output."""
    abstained: float
    """Fraction of the outputs that are abstentions."""
    parameters: int | None
    """Of the generator; None if it has no weights."""
    peak_memory: int
    """Bytes: the peak of the process when the arm had finished."""


@dataclass(frozen=True)
class RiskCurve:
    """Risk against coverage of an arm: the error rate among its most confident answers."""

    arm: str
    generator: str
    coverage: tuple[float, ...]
    """Fractions of all examples, answered in the order of confidence."""
    risk: tuple[float, ...]
    """Fraction of wrong answers at each coverage."""
    calibration: float | None = None
    """Expected calibration error of the confidence; None if every answer abstained."""


@dataclass(frozen=True)
class ArmOutput:
    """The output of an arm for one example, and its score in the primary metric."""

    arm: str
    text: str
    score: float
    evidence: tuple[Entry, ...] = ()
    citations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """An example that shows what retrieval changes."""

    kind: CaseKind
    """`win`: better with retrieval than closed book; `loss`: worse; `failure`: no better, and
    among the lowest scores with retrieval."""
    example: Example
    outputs: tuple[ArmOutput, ...]


@dataclass(frozen=True)
class Contamination:
    """How many of `n` examples the base contains; each counts once, for its closest match."""

    n: int
    exact: int = 0
    """Same image bytes, or a question that equals a text of the base."""
    perceptual: int = 0
    """An image that looks the same (another size or file format)."""
    embedding: int = 0
    """An image whose vector has at least the cosine `NEAR_DUPLICATE`."""
    ids: tuple[str, ...] = ()
    """Ids of the examples counted above."""

    def __str__(self) -> str:
        return (
            f"of {self.n} examples the base contains {self.exact} exactly, "
            f"{self.perceptual} perceptually, {self.embedding} by embedding"
        )


@dataclass(frozen=True)
class Comparison:
    """Everything that `compare` measured; `ravlm.evaluation.report.Report` prints and writes it."""

    task: str
    primary_metric: str
    """The metric that reports show first."""
    about: Mapping[str, Any]
    """The setup: source, hash of the examples, base, encoder, generators, k, resamples, seconds."""
    scores: tuple[ArmScore, ...]
    contrasts: tuple[Contrast, ...]
    costs: tuple[Cost, ...]
    risks: tuple[RiskCurve, ...] = ()
    cases: tuple[Case, ...] = ()
    contamination: Contamination | None = None
    """None if it was not checked, or if the base must contain the examples."""

    @property
    def primary_scores(self) -> tuple[ArmScore, ...]:
        """The scores in the primary metric."""
        return tuple(s for s in self.scores if s.metric == self.primary_metric)

    @property
    def primary_contrasts(self) -> tuple[Contrast, ...]:
        """The contrasts in the primary metric."""
        return tuple(c for c in self.contrasts if c.metric == self.primary_metric)

    def label(self, row: ArmScore | Cost | RiskCurve) -> str:
        """Return the name of a row's arm, prefixed by the generator if there are several."""
        return arm_label(row.arm, row.generator, len({s.generator for s in self.scores}) > 1)


def arm_label(arm: str, generator: str, with_generator: bool) -> str:
    """Return how an arm is shown: `retrieved`, or `starter/retrieved` with several generators."""
    return f"{generator}/{arm}" if with_generator else arm
