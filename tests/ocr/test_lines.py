"""Recognized lines become blocks in reading order, on tilted and turned pages too."""

from __future__ import annotations

import numpy as np
import pytest

from ravlm.data.reading_order import TextSegment
from ravlm.ocr.ink import Ink, text_corners
from ravlm.ocr.lines import RecognizedLine, RecognizedWord, _equalize_heights, line_regions
from ravlm.regions import Region

SIZE = (600, 800)


def quad(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)], float)


def rotated(corners: np.ndarray, degrees: float) -> np.ndarray:
    """Rotate corners clockwise around the center of the page."""
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (corners - (300, 400)) @ matrix + (300, 400)


def page(degrees: float = 0, is_turned: bool = False) -> list[RecognizedLine]:
    """Return two columns of four lines below a title, as a detector sorts them: by height."""
    lines = [("A title across both of the columns", quad(100, 60, 500, 100))]
    lines += [
        (f"{side} {row} " + "word " * 4, quad(x, 150 + 30 * row, x + 230, 170 + 30 * row))
        for row in range(4)
        for x, side in ((40, "left"), (330, "right"))
    ]
    return [
        RecognizedLine(text, rotated(corners, degrees), 0.95, is_turned)
        for text, corners in sorted(lines, key=lambda line: rotated(line[1], degrees)[0, 1])
    ]


def first_words(regions: list[Region]) -> list[str]:
    return [" ".join(region.text.split()[:2]) for region in regions if region.text]


ORDER = ["A title", *(f"{side} {row}" for side in ("left", "right") for row in range(4))]


@pytest.mark.parametrize("degrees", [0, 2, -3])
def test_columns_of_a_tilted_page(degrees: float) -> None:
    """At 2 degrees the end of a line is lower than the beginning of the next one."""
    regions = line_regions(page(degrees), *SIZE)
    assert first_words(regions) == ORDER
    assert [region.kind for region in regions if not region.text] == ["paragraph", "paragraph"]
    assert regions[0].kind == "title"
    (line,) = [region for region in regions if region.text.startswith("right 3")]
    expected = rotated(quad(330, 240, 560, 260), degrees)
    assert line.box == pytest.approx(
        (*(expected.min(axis=0) / SIZE), *(expected.max(axis=0) / SIZE))
    )


def test_a_page_upside_down() -> None:
    lines = page(180, is_turned=True)
    # the detector begins at the corner that is at the top left on the image
    lines = [RecognizedLine(line.text, line.corners[[2, 3, 0, 1]], 0.95, True) for line in lines]
    assert first_words(line_regions(lines, *SIZE)) == ORDER


@pytest.mark.parametrize("is_turned", [False, True])
def test_a_page_on_its_side(is_turned: bool) -> None:
    """Clockwise, text runs downwards; the other way, RapidOCR reads it from the other end."""
    order = [0, 1, 2, 3]
    lines = []
    for line in page():
        x, y = line.corners[:, 0], line.corners[:, 1]
        turned = np.stack((y, 600 - x) if is_turned else (800 - y, x), axis=1)  # 800 x 600 pixels
        order = [1, 2, 3, 0] if is_turned else [3, 0, 1, 2]
        lines.append(RecognizedLine(line.text, turned[order], 0.95, is_turned))
    assert first_words(line_regions(lines, 800, 600)) == ORDER


def test_words_are_apart_only_where_their_confidence_differs() -> None:
    words = (RecognizedWord("Total:", 0, 0.5, 0.99), RecognizedWord("12.S0", 0.6, 1, 0.4))
    mixed = RecognizedLine("Total: 12.S0", quad(100, 100, 300, 120), 0.7, words=words)
    sure = (RecognizedWord("Thank", 0, 0.5, 0.99), RecognizedWord("you", 0.6, 1, 0.98))
    certain = RecognizedLine("Thank you", quad(100, 130, 300, 150), 0.98, words=sure)
    block, total, amount, line = line_regions([mixed, certain], *SIZE)
    assert (block.kind, block.text) == ("paragraph", "")
    assert (total.text, total.kind, total.confidence) == ("Total:", "word", 0.99)
    assert (amount.text, amount.kind, amount.confidence) == ("12.S0", "word", 0.4)
    assert total.box == pytest.approx((100 / 600, 100 / 800, 200 / 600, 120 / 800))
    assert amount.box == pytest.approx((220 / 600, 100 / 800, 300 / 600, 120 / 800))
    assert (line.text, line.kind) == ("Thank you", "line")
    assert line_regions([], *SIZE) == []


@pytest.mark.parametrize(("height", "stroke_width"), [(20, 3.0), (26, 2.6)])
def test_headings_are_bold_or_large(height: float, stroke_width: float) -> None:
    """Headings of scans in the size of the body, or little larger, were paragraphs."""
    rows = [("When it is closed", height, stroke_width)]
    rows += [(f"{row} " + "word " * 6, (20, 21, 19, 20)[row], 2.0) for row in range(4)]
    lines = []
    for row, (text, high, width) in enumerate(rows):
        corners = quad(40, 60 + 30 * row, 40 + 9 * len(text), 60 + 30 * row + high)
        lines.append(RecognizedLine(text, corners, 0.9, ink=Ink(0, 0, 1, 1, width)))
    kinds = [region.kind for region in line_regions(lines, *SIZE)]
    assert kinds == ["title", "paragraph", "line", "line", "line", "line"]


@pytest.mark.parametrize(
    ("text", "top", "bottom"),  # of the print, for letters of a font of 40 pixels
    [("Hut", 80 - 0.73 * 40, 80), ("sea", 80 - 0.53 * 40, 80), ("pea", 80 - 0.53 * 40, 88.4)],
)
@pytest.mark.parametrize("is_turned", [False, True])
def test_lines_of_one_font_have_one_height(
    text: str, top: float, bottom: float, is_turned: bool
) -> None:
    """Boxes of "sea" and "Hut" differed by a third, and so did the rows of a table."""
    box = quad(100, 30, 300, 100)
    ink = Ink(0.1, (top - 0.75 - 30) / 70, 0.9, (bottom + 0.75 - 30) / 70, 4)  # blurred
    if is_turned:
        ink = Ink(0.1, 1 - ink.bottom, 0.9, 1 - ink.top, 4)
    corners = text_corners(box, ink, text, is_turned)
    assert corners is not None
    base = 50 if is_turned else 80  # of a line that is upside down, 30 + 100 - 80
    above, below = (0.23 * 40, 0.93 * 40) if is_turned else (0.93 * 40, 0.23 * 40)
    assert corners == pytest.approx(quad(120, base - above, 280, base + below), abs=1e-6)
    assert text_corners(box, ink, "...", is_turned) is None


def test_two_sizes_stay_apart() -> None:
    """In a table below larger text, some cells took the size of that text, and it fell apart."""
    heights = [36, 37, 35, 36, 30, 31, 29, 30, 33, 30]
    segments = [
        TextSegment("word " * 5, 40, 50 * row, 300, 50 * row + height)
        for row, height in enumerate(heights)
    ]
    _equalize_heights(segments)
    found = [segment.height for segment in segments]
    assert found[:4] == pytest.approx([36] * 4, rel=0.02)
    assert found[4:8] == pytest.approx([30.3] * 4, rel=0.02)
    assert [s.center for s in segments] == [50 * n + h / 2 for n, h in enumerate(heights)]
