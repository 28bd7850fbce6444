"""The learning curve of a run as a picture, drawn from its log.jsonl. Knows no model."""

from __future__ import annotations

import json
from pathlib import Path

from ravlm.errors import MissingExtra


def draw_curve(log: str | Path, picture: str | Path) -> None:
    """Every figure of the log over the steps, one panel for the losses and one for each of the
    others, as a PNG.

    Raises MissingExtra without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "train", "The learning curve") from None
    rows = [json.loads(line) for line in Path(log).read_text(encoding="utf-8").splitlines()]
    series: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name != "step":
                series.setdefault(name, []).append((row["step"], value))
    figure = Figure(figsize=(7, 2.2 * len(series)), layout="constrained")
    for axes, (name, points) in zip(
        figure.subplots(len(series), 1, squeeze=False)[:, 0], series.items(), strict=True
    ):
        axes.plot(*zip(*points, strict=True), marker="o" if len(points) < 3 else None)
        axes.set(ylabel=name, xlabel="step")
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)
