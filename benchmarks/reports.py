"""What the benchmarks report: figures with their intervals, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ravlm.metrics.statistics import Difference, Interval


def write_json(report: Mapping[str, object] | Sequence[object], path: Path | None) -> None:
    """Write a report to the file that `--json` names, if any; create its folder."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def interval_values(
    interval: Interval | Difference, scale: float = 1.0, digits: int = 2
) -> list[float]:
    """Return value, low and high of a score or of a difference, scaled and rounded."""
    value = interval.score if isinstance(interval, Interval) else interval.difference
    return [round(scale * v, digits) for v in (value, interval.low, interval.high)]


def wilson(hits: float, n: float) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share."""
    if n == 0:
        return 0.0, 1.0
    z, p = 1.96, hits / n
    middle, margin = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - margin) / (1 + z * z / n), (middle + margin) / (1 + z * z / n)
