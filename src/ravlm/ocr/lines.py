"""From recognized lines to regions: the page is set upright, and its lines are grouped to blocks.

Boxes of regions stay those on the image as it is; only the reading order is found on the upright
page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from ravlm.data.page_layout import find_blocks, to_regions
from ravlm.data.page_text import MIN_CONFIDENCE
from ravlm.data.reading_order import TextSegment
from ravlm.regions import Region, relative_box

_TITLE_SIZE = 1.25
"""Height of a title of one row in that of the body text."""
_BOLD_STROKE = 1.3
"""Stroke width of a bold line, for its height, in that of most lines."""
_SIZE_RANGE = 1.25
"""Ratio of the heights of boxes around lines of one size: a line without descenders is lower."""
_MIN_RATIO = 4.0
"""Length of a line in its height from which its slope shows the tilt of the page."""
_VERTICAL_RATIO = 1.5
"""Height of a box in its width from which its text is turned by 90 degrees."""
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
    stroke_width: float = 0.0
    """Mean width of its strokes in pixels; 0 if it was not measured."""


def line_regions(lines: Sequence[RecognizedLine], width: int, height: int) -> list[Region]:
    """Return the regions of the lines of an image of `width` x `height` pixels.

    Blank lines and those of very low confidence are left out.
    """
    lines = [
        line for line in lines if line.text.strip() and line.confidence >= _MIN_LINE_CONFIDENCE
    ]
    if not lines:
        return []
    corners = np.stack([line.corners for line in lines]).astype(float)  # (n, 4, 2)
    direction = _direction(lines, corners)
    upright = _turn(_deskew(corners, direction, width, height), direction, width, height)
    low, high = upright.min(axis=1), upright.max(axis=1)  # (n, 2)
    bold = _are_bold(lines, (high - low)[:, 1])
    segments = [
        TextSegment(line.text.strip(), left, top, right, bottom, row, bold[row])
        for row, (line, (left, top), (right, bottom)) in enumerate(
            zip(lines, low.tolist(), high.tolist(), strict=True)
        )
    ]
    _equalize_heights(segments)
    boxes = [relative_box((*c.min(axis=0), *c.max(axis=0)), width, height) for c in corners]
    size = (height, width) if direction in (90, 270) else (width, height)
    blocks = find_blocks(segments, *size, title_size=_TITLE_SIZE)
    words = {
        row: regions
        for row, line in enumerate(lines)
        if (regions := _uncertain_words(line, width, height))
    }
    return to_regions(blocks, boxes, None, [line.confidence for line in lines], words)


def _are_bold(lines: Sequence[RecognizedLine], heights: np.ndarray) -> list[bool]:
    """Return which lines, of the given heights (n,), have thicker strokes than most of them."""
    strokes = np.array([line.stroke_width for line in lines]) / np.maximum(heights, 1.0)
    usual = _median_by_text(strokes, [line.text for line in lines])
    return (strokes > _BOLD_STROKE * usual).tolist()


def _median_by_text(values: Sequence[float] | np.ndarray, texts: Sequence[str]) -> float:
    """Return the median of the values of lines (n,), each of which counts once per character."""
    lengths = np.array([len(text) for text in texts])
    order = np.argsort(values)
    middle = np.searchsorted(np.cumsum(lengths[order]), lengths.sum() / 2)
    return float(np.asarray(values)[order[middle]])


def _equalize_heights(segments: Sequence[TextSegment]) -> None:
    """Give lines that are about as high as most of the text the same height, around their centers;
    then those that are left, and so on."""
    left = list(segments)
    while left:
        usual = _median_by_text([s.height for s in left], [s.text for s in left])
        others = []
        for segment in left:
            if usual / _SIZE_RANGE < segment.height < usual * _SIZE_RANGE:
                center = segment.center
                segment.top, segment.bottom = center - usual / 2, center + usual / 2
            else:
                others.append(segment)
        left = others


def _direction(lines: Sequence[RecognizedLine], corners: np.ndarray) -> int:
    """Return by how many degrees, clockwise, most of the text is turned: 0, 90, 180 or 270."""
    votes: Counter[int] = Counter()
    for line, (top_left, top_right, _, bottom_left) in zip(lines, corners, strict=True):
        across = np.linalg.norm(top_right - top_left)
        down = np.linalg.norm(bottom_left - top_left)
        angle = 90 if down >= _VERTICAL_RATIO * across and len(line.text) > 1 else 0
        votes[angle + 180 * line.is_turned] += len(line.text)
    return votes.most_common(1)[0][0]


def _deskew(corners: np.ndarray, direction: int, width: int, height: int) -> np.ndarray:
    """Rotate the corners (n, 4, 2) so that the lines are parallel to the edges of the image."""
    is_horizontal = direction in (0, 180)
    right, down = corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0]  # (n, 2)
    along, across = (right, down) if is_horizontal else (down, right)
    lengths, heights = np.linalg.norm(along, axis=1), np.linalg.norm(across, axis=1)
    is_long = lengths > _MIN_RATIO * heights
    if not is_long.any():
        return corners
    angles = np.arctan2(along[:, 1], along[:, 0]) - (0 if is_horizontal else math.pi / 2)
    tilt = float(median(angles[is_long].tolist()))
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
    across, down = np.linalg.norm(top_right - top_left), np.linalg.norm(bottom_left - top_left)
    sides = [(top_left, top_right), (bottom_left, bottom_right)]  # along the text
    if down >= _VERTICAL_RATIO * across:
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
