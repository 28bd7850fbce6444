"""Plot the learning curves of a run from its log.jsonl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ravlm.errors import MissingExtra

_COLUMNS = 2
_FEW_POINTS = 12
"""Figures with at most this many values are marked with dots."""


def plot_curve(log: str | Path, image: str | Path) -> None:
    """Plot each figure of the log over the steps, one panel per figure, and save a PNG.

    Figures with a single value, such as those at the end of a run, are listed below the panels.
    Raises MissingExtra without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "train", "The learning curve") from None
    series = read_series(log)
    curves = {name: points for name, points in series.items() if len(points) > 1}
    values = {name: points[0][1] for name, points in series.items() if len(points) == 1}
    last_step = max((points[-1][0] for points in series.values()), default=0)
    num_rows = -(-len(curves) // _COLUMNS)
    panel_height = 2.6 * num_rows
    text_height = 0.35 + 0.22 * len(values)
    figure: Any = Figure(figsize=(9, panel_height + text_height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)
    if curves:
        panels, footer = figure.subfigures(2, 1, height_ratios=[panel_height, text_height])
        _draw(panels.subplots(num_rows, _COLUMNS, squeeze=False).ravel(), curves)
    else:
        footer = figure
    lines = [f"{_title(name)}: {value:.4g}" for name, value in values.items()]
    title = [f"After step {last_step}:"] if lines else []
    footer.text(0.02, 0.98, "\n".join(title + lines), va="top", fontsize=10)
    figure.savefig(image, dpi=120)


def read_series(log: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Return the steps and values of each figure of a log, the learning rate last."""
    series: dict[str, list[tuple[int, float]]] = {}
    for line in Path(log).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name != "step":
                series.setdefault(name, []).append((row["step"], value))
    rate = series.pop("learning_rate", [])
    return series | ({"learning_rate": rate} if rate else {})


def _title(name: str) -> str:
    return name.replace("_", " ")


def _draw(panels: Any, curves: dict[str, list[tuple[int, float]]]) -> None:
    """Draw each curve in a panel of its own, with its name above and its last value."""
    for axes, (name, points) in zip(panels, curves.items(), strict=False):
        marker = "o" if len(points) <= _FEW_POINTS else None
        axes.plot(*zip(*points, strict=True), marker=marker, markersize=4)
        last = "" if name == "learning_rate" else f" (last: {points[-1][1]:.4g})"
        axes.set_title(_title(name) + last, loc="left", fontsize=10)
        axes.set_xlabel("step", fontsize=9)
        axes.set_xlim(left=0)
        axes.tick_params(labelsize=9)
        axes.grid(alpha=0.3)
    for axes in panels[len(curves) :]:
        axes.set_visible(False)
