"""The HTML report: one self-contained page of tables, plots and cases (html_report.html)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ravlm.evaluation.html import ImageTags, write_page
from ravlm.evaluation.records import CaseKind, Comparison
from ravlm.evaluation.tables import contrast_table, cost_table, score_table, too_few_to_tell

_TEMPLATE = Path(__file__).with_name("html_report.html")
_COLORS = ("#1f6feb", "#d1570c", "#1a7f37", "#8250df", "#b3261e", "#0f7b8a")
_CASE_TITLES: dict[CaseKind, str] = {
    "win": "Wins: better with retrieval",
    "loss": "Losses: better without retrieval",
    "failure": "Failures: wrong with retrieval, and not better without",
}
# Geometry of the plots, in units of the SVG.
_WIDTH = 640
_LABEL_WIDTH = 210
_VALUE_WIDTH = 70
_BAR_HEIGHT = 30
_CURVE_SIZE = 260
_MARGIN_LEFT = 50
_MARGIN_TOP = 20


@dataclass(frozen=True)
class _Bar:
    """A score as a bar with its interval as a line, in units of the SVG."""

    label: str
    value: float
    x: float
    y: int
    width: float
    low_x: float
    high_x: float


@dataclass(frozen=True)
class _Curve:
    """A risk curve as the points of a polyline, in units of the SVG."""

    label: str
    color: str
    points: str


def write_html(comparison: Comparison, path: Path) -> Path:
    """Write the page to `path` and return the path."""
    metrics = [score.metric for score in comparison.scores]
    cases = {
        kind: [case for case in comparison.cases if case.kind == kind] for kind in _CASE_TITLES
    }
    values = {
        "comparison": comparison,
        "bars": _bars(comparison),
        "bar_height": _BAR_HEIGHT,
        "contrasts": contrast_table(comparison),
        "too_few": too_few_to_tell(comparison),
        "scores": score_table(comparison, intervals=metrics),
        "costs": cost_table(comparison),
        "curves": _curves(comparison),
        "curve_size": _CURVE_SIZE,
        "width": _WIDTH,
        "case_titles": _CASE_TITLES,
        "cases": cases,
        "settings": [("setting", "value"), *comparison.about.items()],
        "image": ImageTags(),
    }
    return write_page(path, _TEMPLATE, values)


def _bars(comparison: Comparison) -> list[_Bar]:
    scores = comparison.primary_scores
    longest = max([score.high for score in scores] + [1e-9])
    scale = (_WIDTH - _LABEL_WIDTH - _VALUE_WIDTH) / longest
    return [
        _Bar(
            label=comparison.label(score),
            value=score.score,
            x=_LABEL_WIDTH,
            y=row * _BAR_HEIGHT + 8,
            width=max(1, score.score * scale),
            low_x=_LABEL_WIDTH + score.low * scale,
            high_x=_LABEL_WIDTH + score.high * scale,
        )
        for row, score in enumerate(scores)
    ]


def _curves(comparison: Comparison) -> list[_Curve]:
    """Return a curve for each arm that answered at least one example."""
    curves: list[_Curve] = []
    for curve in comparison.risks:
        if not curve.coverage:
            continue
        label = comparison.label(curve)
        if curve.calibration is not None:
            label += f" (calibration error {curve.calibration:.2f})"
        points = " ".join(
            f"{_MARGIN_LEFT + coverage * _CURVE_SIZE:.1f},"
            f"{_MARGIN_TOP + (1 - risk) * _CURVE_SIZE:.1f}"
            for coverage, risk in zip(curve.coverage, curve.risk, strict=True)
        )
        curves.append(_Curve(label, _COLORS[len(curves) % len(_COLORS)], points))
    return curves
