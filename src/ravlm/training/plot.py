"""Plot the learning curve of a run from its log.jsonl."""

from __future__ import annotations

import json
from pathlib import Path

from ravlm.errors import MissingExtra


def plot_curve(log: str | Path, image: str | Path) -> None:
    """Plot each figure of the log over the steps, one panel per figure, and save a PNG.

    Raises MissingExtra without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "train", "The learning curve") from None
    series: dict[str, list[tuple[int, float]]] = {}
    for line in Path(log).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        for name, value in row.items():
            if name != "step":
                series.setdefault(name, []).append((row["step"], value))
    figure = Figure(figsize=(7, 2.2 * len(series)), layout="constrained")
    panels = figure.subplots(len(series), 1, squeeze=False)[:, 0]
    for axes, (name, points) in zip(panels, series.items(), strict=True):
        axes.plot(*zip(*points, strict=True), marker="o" if len(points) < 3 else None)
        axes.set(ylabel=name, xlabel="step")
        axes.grid(alpha=0.3)
    figure.savefig(image, dpi=120)
