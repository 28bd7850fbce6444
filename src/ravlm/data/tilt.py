"""The tilt of lines on a scanned page, from their boxes.

Boxes are upright, so that the lines of a tilted page overlap with those above and below them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from ravlm.data.line_groups import are_apart
from ravlm.data.weighted_median import weighted_median
from ravlm.regions import Box

_MAX_SLOPE = 0.36
"""Tangent of 20 degrees: pages are not more tilted."""
_MIN_PAIRS = 3
_ROW_TOLERANCE, _COLUMN_TOLERANCE = 0.35, 0.1
"""Distance of a box from where the tilt would put it, in the height of a box."""
_MIN_SHARE = 0.6
"""Share of the pairs that are no further apart: a tilt is common to all lines."""


class _Step(NamedTuple):
    """How far one box is from another, along the lines or columns and across."""

    along: float
    across: float
    tolerance: float


def row_slope(boxes: Sequence[Box | None]) -> float:
    """Return how far rows descend in their width: that of consecutive boxes side by side, in the
    direction in which most of them follow each other."""
    steps = [
        _Step(
            (second[0] + second[2] - first[0] - first[2]) / 2,
            (second[1] + second[3] - first[1] - first[3]) / 2,
            _ROW_TOLERANCE * min(first[3] - first[1], second[3] - second[1]),
        )
        for first, second in pairwise(boxes)
        if first is not None and second is not None and are_apart(first, second)
    ]
    num_to_right = sum(step.along > 0 for step in steps)
    is_to_right = 2 * num_to_right >= len(steps)
    return _common_slope([step for step in steps if (step.along > 0) == is_to_right])


def column_slope(blocks: Iterable[Sequence[Box | None]]) -> float:
    """Return how far left edges shift to the right in their height: those of the lines of blocks,
    where one is far below the other."""
    steps = []
    for boxes in blocks:
        known = [box for box in boxes if box is not None]
        for first, second in zip(known, known[len(known) // 2 :], strict=False):
            if second[1] > first[1]:
                tolerance = _COLUMN_TOLERANCE * (second[3] - second[1])
                steps.append(_Step(second[1] - first[1], second[0] - first[0], tolerance))
    return _common_slope(steps)


def level_rows(boxes: Sequence[Box | None]) -> list[Box | None]:
    """Return boxes as on an upright page: those of one row stand at the same height."""
    slope = row_slope(boxes)
    if slope == 0:
        return list(boxes)
    return [None if box is None else _level(box, slope) for box in boxes]


def _level(box: Box, slope: float) -> Box:
    """Return the box of a line that descends by `slope` as it was before."""
    left, top, right, bottom = box
    center = (top + bottom) / 2 - slope * (left + right) / 2
    height = max((bottom - top) - abs(slope) * (right - left), 0.2 * (bottom - top))
    return left, center - height / 2, right, center + height / 2


def _common_slope(steps: Sequence[_Step]) -> float:
    """Return the slope of most steps, the median weighted by their length; 0 if there is none."""
    if len(steps) < _MIN_PAIRS:
        return 0.0
    slope = weighted_median(
        (step.across / step.along for step in steps), (abs(step.along) for step in steps)
    )
    num_near, num_upright = _num_near(steps, slope), _num_near(steps, 0.0)
    is_common = num_near >= _MIN_SHARE * len(steps) and num_near > num_upright
    return slope if is_common and abs(slope) <= _MAX_SLOPE else 0.0


def _num_near(steps: Sequence[_Step], slope: float) -> int:
    """Return how many steps are about as steep as `slope`."""
    return sum(abs(step.across - slope * step.along) <= step.tolerance for step in steps)
