"""From recognized lines to regions: the page is set upright, and its lines are grouped to blocks.

Boxes of regions stay those on the image as it is; only the reading order is found on the upright
page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ravlm.data.page_layout import find_blocks, to_regions
from ravlm.data.page_text import MIN_CONFIDENCE
from ravlm.data.reading_order import TextSegment
from ravlm.data.weighted_median import weighted_median
from ravlm.ocr.ink import Ink, is_vertical, text_corners
from ravlm.regions import Box, Region, relative_box

_BOLD_STROKE = 1.3
"""Stroke width of a bold line, for its height, in that of most lines."""
_HEIGHT_DEVIATION = 0.05
"""Standard deviation of the logarithm of the measured height of lines of one size."""
_MEAN_SHIFT_STEPS = 20
_MIN_RATIO = 4.0
"""Length of a line in its height from which its slope shows the tilt of the page."""
_MAX_TILT = math.radians(20)
_MIN_LINE_CONFIDENCE = 0.3
"""Mean probability of the characters or tokens of a line; below it, it is not text."""


@dataclass(frozen=True)
class RecognizedWord:
    """A word of a line; `start` and `end` are shares of the line's length."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class RecognizedLine:
    """A line of text as a recognizer returns it."""

    text: str
    corners: np.ndarray
    """Pixels (4, 2), clockwise from the corner that is at the top left on the image."""
    confidence: float
    is_turned: bool = False
    """Whether it was read from the other end: upside down, or upwards."""
    words: tuple[RecognizedWord, ...] = ()
    ink: Ink | None = None
    """None if it was not measured."""

    @property
    def text_corners(self) -> np.ndarray:
        """Corners of the line of text in the box, which is padded; of the box if it is unknown."""
        if self.ink is None or is_vertical(self.corners):
            return self.corners
        corners = text_corners(self.corners, self.ink, self.text, self.is_turned)
        return self.corners if corners is None else corners


def line_regions(lines: Sequence[RecognizedLine], width: int, height: int) -> list[Region]:
    """Return the regions of the lines of an image of `width` x `height` pixels.

    Blank lines and those of very low confidence are left out.
    """
    lines = [
        line for line in lines if line.text.strip() and line.confidence >= _MIN_LINE_CONFIDENCE
    ]
    if not lines:
        return []
    corners = np.stack([line.text_corners for line in lines]).astype(float)  # (n, 4, 2)
    direction = _direction(lines)
    upright = _turn(deskew(corners, direction, width, height), direction, width, height)
    low, high = upright.min(axis=1), upright.max(axis=1)  # (n, 2)
    bold = _are_bold(lines, (high - low)[:, 1])
    segments = [
        TextSegment(line.text.strip(), left, top, right, bottom, row, bold[row])
        for row, (line, (left, top), (right, bottom)) in enumerate(
            zip(lines, low.tolist(), high.tolist(), strict=True)
        )
    ]
    _equalize_heights(segments)
    boxes = [
        _box_within(of_text, line.corners, width, height)
        for of_text, line in zip(corners, lines, strict=True)
    ]
    size = (height, width) if direction in (90, 270) else (width, height)
    blocks = find_blocks(segments, *size)
    words = {
        row: regions
        for row, line in enumerate(lines)
        if (regions := _uncertain_words(line, width, height))
    }
    return to_regions(blocks, boxes, None, [line.confidence for line in lines], words)


def _box_within(corners: np.ndarray, outer: np.ndarray, width: int, height: int) -> Box:
    """Return the box of a line of text, no larger than that of its `outer` corners."""
    low = np.maximum(corners.min(axis=0), outer.min(axis=0))
    high = np.minimum(corners.max(axis=0), outer.max(axis=0))
    return relative_box((*low.tolist(), *high.tolist()), width, height)


def _are_bold(lines: Sequence[RecognizedLine], heights: np.ndarray) -> list[bool]:
    """Return which lines, of the given heights (n,), have thicker strokes than most of them."""
    widths = [0.0 if line.ink is None else line.ink.stroke_width for line in lines]
    strokes = np.array(widths) / np.maximum(heights, 1.0)
    usual = weighted_median(strokes.tolist(), (len(line.text) for line in lines))
    return (strokes > _BOLD_STROKE * usual).tolist()


def _equalize_heights(segments: Sequence[TextSegment]) -> None:
    """Give lines of about the same height the same one, around their centers.

    Each height moves to where most text has a similar height (mean shift, Comaniciu and Meer 2002).
    """
    heights = np.log([segment.height for segment in segments])  # (n,)
    modes = heights.copy()
    num_characters = np.array([len(segment.text) for segment in segments])
    for _ in range(_MEAN_SHIFT_STEPS):
        distances = (modes[:, None] - heights) / _HEIGHT_DEVIATION  # (n, n)
        weights = num_characters * np.exp(-(distances**2) / 2)
        modes = (weights @ heights) / weights.sum(axis=1)
    for segment, height in zip(segments, np.exp(modes).tolist(), strict=True):
        center = segment.center
        segment.top, segment.bottom = center - height / 2, center + height / 2


def _direction(lines: Sequence[RecognizedLine]) -> int:
    """Return by how many degrees, clockwise, most of the text is turned: 0, 90, 180 or 270."""
    votes: Counter[int] = Counter()
    for line in lines:
        angle = 90 if is_vertical(line.corners) and len(line.text) > 1 else 0
        votes[angle + 180 * line.is_turned] += len(line.text)
    return votes.most_common(1)[0][0]


def deskew(corners: np.ndarray, direction: int, width: int, height: int) -> np.ndarray:
    """Rotate the corners (n, 4, 2) of lines that are turned by `direction` degrees so that they are
    parallel to the edges of the image."""
    is_horizontal = direction in (0, 180)
    right, down = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]  # (n, 2)
    along, across = (right, down) if is_horizontal else (down, right)
    lengths, heights = np.linalg.norm(along, axis=1), np.linalg.norm(across, axis=1)
    is_long = lengths > _MIN_RATIO * heights
    if not is_long.any():
        return corners
    angles = np.arctan2(along[:, 1], along[:, 0]) - (0 if is_horizontal else math.pi / 2)
    weights = lengths[is_long] ** 2  # short lines are inaccurate
    tilt = weighted_median(angles[is_long].tolist(), weights.tolist())
    if abs(tilt) > _MAX_TILT:
        return corners
    center = np.array([width / 2, height / 2])
    cosine, sine = math.cos(tilt), math.sin(tilt)
    rotation = np.array([[cosine, -sine], [sine, cosine]])  # of row vectors, by -tilt
    return (corners - center) @ rotation + center


def _turn(points: np.ndarray, direction: int, width: int, height: int) -> np.ndarray:
    """Turn points (..., 2) of an image so that text turned by `direction` degrees is upright."""
    x, y = points[..., 0], points[..., 1]
    turned = {
        0: (x, y),
        90: (y, width - x),
        180: (width - x, height - y),
        270: (height - y, x),
    }[direction]
    return np.stack(turned, axis=-1)


def _uncertain_words(line: RecognizedLine, width: int, height: int) -> list[Region]:
    """Return the words of a line if some of them were read with confidence and others not."""
    certain = [word.confidence >= MIN_CONFIDENCE for word in line.words]
    if all(certain) or not any(certain):
        return []
    top_left, top_right, bottom_right, bottom_left = line.corners.astype(float)
    sides = [(top_left, top_right), (bottom_left, bottom_right)]  # along the text
    if is_vertical(line.corners):
        sides = [(top_left, bottom_left), (top_right, bottom_right)]
    regions = []
    for word in line.words:
        shares = (word.start, word.end)
        if line.is_turned:
            shares = (1 - word.end, 1 - word.start)
        points = np.stack(
            [first + share * (last - first) for share in shares for first, last in sides]
        )
        box = relative_box((*points.min(axis=0), *points.max(axis=0)), width, height)
        regions.append(Region(word.text, box, None, "word", word.confidence))
    return regions
