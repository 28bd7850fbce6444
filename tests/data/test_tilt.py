"""The tilt of a scanned page, from boxes that are upright themselves."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from ravlm.data.line_groups import same_row
from ravlm.data.page_text import PageText
from ravlm.data.tilt import column_slope, level_rows, row_slope
from ravlm.regions import Box, Region


def tilted(box: Box, degrees: float) -> Box:
    """Return the box around a box that was turned around the middle of a square page."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = [(x - 0.5, y - 0.5) for x in (box[0], box[2]) for y in (box[1], box[3])]
    xs = [x * cosine - y * sine + 0.5 for x, y in corners]
    ys = [x * sine + y * cosine + 0.5 for x, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


ROWS = [[(x, y, x + 0.15, y + 0.014) for x in (0.1, 0.4, 0.7)] for y in (0.2, 0.225, 0.25, 0.275)]


@pytest.mark.parametrize("degrees", [-2.5, 0, 1.5])
def test_rows_of_a_tilted_table(degrees: float) -> None:
    """The last cell of a row stood next to the first one of another."""
    boxes = [tilted(box, degrees) for row in ROWS for box in row]
    assert row_slope(boxes) == pytest.approx(math.tan(math.radians(degrees)), abs=1e-3)
    level = level_rows(boxes)
    for number, (first, second) in enumerate(pairwise(level), start=1):
        assert first is not None
        assert second is not None
        assert same_row(first, second) == (number % 3 > 0)
    table = [Region("", (0, 0, 1, 1), 1, "table")]
    names = ["Fruit", "Price", "Origin", "Fig", "3.10", "Greece", "Pear", "2.35", "Peru"]
    cells = [Region(name, box, 1) for name, box in zip(names, boxes, strict=False)]
    assert PageText.of(table + cells).text.split("\n")[1:] == [
        "Fruit: Fig; Price: 3.10; Origin: Greece",
        "Fruit: Pear; Price: 2.35; Origin: Peru",
    ]


def test_lines_of_a_tilted_paragraph_are_joined() -> None:
    """At the top of a page that leans to the left, lines seemed to end early."""
    boxes = [tilted((0.1, y / 50, 0.9 - 0.01 * (y % 2), y / 50 + 0.015), 2) for y in range(2, 40)]
    assert column_slope([boxes]) == pytest.approx(-math.tan(math.radians(2)), abs=1e-3)
    words = "line of a paragraph that is as wide as the others are"
    lines = [Region(f"{words} {row}", box, 1) for row, box in enumerate(boxes)]
    paragraph = Region("", (0, 0, 1, 1), 1, "paragraph")
    assert "\n" not in PageText.of([paragraph, *lines]).text


def test_boxes_without_a_common_tilt() -> None:
    heights = (0.1, 0.3, 0.12, 0.5, 0.45, 0.2, 0.36, 0.1)
    steps: list[Box | None] = [(x / 10, y, x / 10 + 0.05, y + 0.02) for x, y in enumerate(heights)]
    assert row_slope(steps) == column_slope([steps]) == 0
    assert level_rows(steps) == steps
    assert row_slope([None, *steps[:2], None]) == 0
