"""What a comparison found: records, a table for the terminal, JSON. Knows no model; the page stands
in `page.py`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ravlm.evaluation.contamination import Contamination
from ravlm.records import Entry, Example


@dataclass(frozen=True)
class ArmScore:
    """A metric of an arm, with its 95 % interval over `n` items."""

    arm: str
    generator: str
    metric: str
    n: int
    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Contrast:
    """How the second of two arms differs from the first in a metric: difference, 95 % interval,
    p."""

    contrast: tuple[str, str]
    generator: str
    metric: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    """Corrected for all contrasts of the metric (Holm)."""
    p_uncorrected: float
    gain: float
    harm: float
    """Shares of the items that the second scores higher, and lower."""
    smallest: float
    """The smallest difference that so many items would have shown in 8 of 10 repetitions; 0 where
    no item varies."""


@dataclass(frozen=True)
class Cost:
    """What an arm took; seconds are of those examples that were not kept from an earlier run."""

    arm: str
    generator: str
    computed: int
    """Examples that were computed, and not read from an earlier run."""
    seconds_finding: float
    seconds_writing: float
    words: float
    """Mean number of words an output."""
    abstained: float
    """Share of the outputs that say that there is nothing."""
    parameters: int | None
    """Of the generator; None where it has no weights."""
    peak_memory: int
    """Bytes: the most that the process had used when the arm was done."""


@dataclass(frozen=True)
class Said:
    """What an arm gave for an example, and how it scored in the task's first metric."""

    arm: str
    text: str
    score: float
    evidence: tuple[Entry, ...] = ()
    citations: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """An example worth looking at: `won` by retrieval, `harmed` by it, or `lost` with it."""

    kind: str
    example: Example
    said: tuple[Said, ...]


@dataclass(frozen=True)
class Risk:
    """Risk against coverage of an arm: of the share answered with most confidence, how much is
    wrong."""

    arm: str
    generator: str
    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    calibration: float | None = None
    """The expected calibration error of the answers' confidence; None where none was given."""


@dataclass(frozen=True)
class Report:
    """The result of `compare`. `print` it, or write it with `to_json` and `to_html`."""

    task: str
    chief: str
    """The metric that is shown first."""
    about: Mapping[str, Any]
    """What was compared on what: source, hash of the examples, base, encoder, k, resamples,
    seconds."""
    scores: tuple[ArmScore, ...]
    contrasts: tuple[Contrast, ...]
    costs: tuple[Cost, ...]
    risks: tuple[Risk, ...] = ()
    cases: tuple[Case, ...] = ()
    contamination: Contamination | None = None
    """None where the base must hold the examples."""

    def lines(self) -> Iterator[dict[str, Any]]:
        """The scores, then the contrasts, each as JSON types."""
        for row in [*map(asdict, self.scores), *map(asdict, self.contrasts)]:
            yield json.loads(json.dumps(row))

    def to_json(self) -> str:
        """The whole report but its cases, as one JSON object."""
        whole = {
            "task": self.task,
            "chief": self.chief,
            "about": dict(self.about),
            "contamination": self.contamination and asdict(self.contamination),
            "scores": [asdict(s) for s in self.scores],
            "contrasts": [asdict(c) for c in self.contrasts],
            "costs": [asdict(c) for c in self.costs],
            "risks": [asdict(r) for r in self.risks],
        }
        parts = (f"{json.dumps(key)}: {_rows(value)}" for key, value in whole.items())
        return "{\n" + ",\n".join(parts) + "\n}"

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the page, one file that needs nothing else, and return its path."""
        from ravlm.evaluation.html_report import write_page

        return write_page(self, Path(path))

    def __str__(self) -> str:
        return "\n".join(
            [*self._head(), "", *self._scores(), "", *self._contrasts(), "", *self._costs()]
        )

    def _head(self) -> list[str]:
        n = max(score.n for score in self.scores)
        head = [f"{self.task}: {n} items of {self.about['source']}, base {self.about['base']}"]
        if self.contamination is not None:
            head.append(f"contamination: {self.contamination}")
        return head

    def _scores(self) -> list[str]:
        metrics = list(dict.fromkeys(score.metric for score in self.scores))
        metrics.sort(key=lambda metric: metric != self.chief)
        rows: dict[str, dict[str, str]] = {}
        for s in self.scores:
            interval = f" [{s.low:.3f}, {s.high:.3f}]" if s.metric == self.chief else ""
            rows.setdefault(self.label(s.arm, s.generator), {})[s.metric] = (
                f"{s.score:.3f}{interval}"
            )
        body = [
            [label, *(cells.get(metric, "") for metric in metrics)] for label, cells in rows.items()
        ]
        return table([["arm", *metrics], *body])

    def _contrasts(self) -> list[str]:
        head = ["contrast", self.chief, "95 % interval", "p (Holm)", "gain", "harm", "could see"]
        body = [
            [
                f"{c.contrast[1]} - {c.contrast[0]}",
                f"{c.difference:+.3f}",
                f"[{c.low:+.3f}, {c.high:+.3f}]",
                *verdict_cells(c),
            ]
            for c in self.contrasts
            if c.metric == self.chief
        ]
        return table([head, *body]) if body else []

    def _costs(self) -> list[str]:
        body = [[self.label(c.arm, c.generator), *cost_cells(c)] for c in self.costs]
        return table([["cost", *COST_HEAD], *body])

    def label(self, arm: str, generator: str) -> str:
        """The arm's name, with the generator's where there are several."""
        return label(arm, generator, len({score.generator for score in self.scores}) > 1)


def verdict_cells(c: Contrast) -> tuple[str, ...]:
    """What a contrast's test says: p, gain, harm, and the smallest difference that could have been
    seen."""
    return (
        f"{c.p:.4f}",
        f"{c.gain:.1%}",
        f"{c.harm:.1%}",
        f"{c.smallest:.3f}" if c.smallest else "-",
    )


COST_HEAD = ("computed", "s finding", "s writing", "words", "abstained", "parameters", "peak MB")


def cost_cells(c: Cost) -> tuple[str, ...]:
    """A cost under COST_HEAD."""
    return (
        f"{c.computed}",
        f"{c.seconds_finding:.2f}",
        f"{c.seconds_writing:.2f}",
        f"{c.words:.1f}",
        f"{c.abstained:.1%}",
        "-" if c.parameters is None else f"{c.parameters:,}",
        f"{c.peak_memory / 1e6:.0f}",
    )


def _rows(value: Any) -> str:
    """JSON, a list of objects with a line for each."""
    if not isinstance(value, list) or not value:
        return json.dumps(value, ensure_ascii=False, default=str)
    return (
        "[\n "
        + ",\n ".join(json.dumps(row, ensure_ascii=False, default=str) for row in value)
        + "\n]"
    )


def label(arm: str, generator: str, several: bool) -> str:
    """How an arm is called; `several`: there is more than one generator."""
    return f"{generator}/{arm}" if several else arm


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines of aligned columns: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
