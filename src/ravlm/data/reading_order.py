"""Bring the pieces of text on a page into reading order: columns, rows, left to right or not.

Boxes have their origin at the top left; all lengths are in one unit, points or pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")
_LETTER = re.compile(r"[^\W\d_]")
_MIN_COLUMN_ROWS = 3
_MIN_COLUMN_WIDTH = 8.0
"""Median width of the text in a column, in heights of a line: shorter pieces are cells of a
table, which is read row by row."""
_MAX_COLUMN_PITCH = 1.7
"""Median distance of lines in a column of prose, in heights of a line."""
_MAX_SPANNING = 0.4
"""Share of the pieces (titles, wide tables) that may cross the gap between two columns."""
_MIN_OVERLAP = 0.5
"""Of two pieces on one row, in the height of the lower one; of two columns, in the shorter one."""
_MAX_DEPTH = 4
_ROW_TOLERANCE = 0.4
"""Distance of the tops of cells of one row, in heights of a line."""
_MIN_ALIGNED_ROWS, _ALIGNED_SHARE = 3, 0.6
"""Number and share of the tops on one side that are aligned with the other side in a table."""
SIZE_CHANGE = 1.15
"""Ratio of two heights of lines that are not of one block or cell."""
_SPACED_PITCH = 1.2
"""Distance of two lines with space between them, in the smallest distance."""


@dataclass(slots=True)
class TextSegment:
    """A piece of text without wide gaps on one line."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    index: int = 0
    """Position in the caller's list."""
    is_bold: bool = False

    @property
    def height(self) -> float:
        """Height of the line."""
        return self.bottom - self.top

    @property
    def center(self) -> float:
        """Vertical center."""
        return (self.top + self.bottom) / 2


@dataclass(slots=True)
class TextRow:
    """The segments that stand side by side on one line, in reading order."""

    segments: list[TextSegment]
    top: float
    bottom: float

    @property
    def center(self) -> float:
        """Vertical center."""
        return (self.top + self.bottom) / 2

    @property
    def height(self) -> float:
        """Height of its highest segment."""
        return max(segment.height for segment in self.segments)

    @property
    def left(self) -> float:
        """Left edge."""
        return min(segment.left for segment in self.segments)

    @property
    def right(self) -> float:
        """Right edge."""
        return max(segment.right for segment in self.segments)

    @property
    def is_bold(self) -> bool:
        """Whether all of its text is bold."""
        return all(segment.is_bold for segment in self.segments)

    @property
    def text(self) -> str:
        """The texts of the segments, with a space between them."""
        return " ".join(segment.text for segment in self.segments)


def have_same_style(first: TextSegment | TextRow, second: TextSegment | TextRow) -> bool:
    """Return whether two pieces of text have about the same size, and both are bold or neither."""
    heights = sorted((first.height, second.height))
    return heights[1] <= SIZE_CHANGE * heights[0] and first.is_bold == second.is_bold


def order_segments(segments: Sequence[TextSegment]) -> list[list[TextRow]]:
    """Return the areas of a page in reading order, each of them the rows of one column."""
    if not segments:
        return []
    height = median(segment.height for segment in segments)
    is_rtl = is_right_to_left(segment.text for segment in segments)
    areas = _split_columns(list(segments), height, is_rtl, _MAX_DEPTH)
    return [_group_rows(area, is_rtl) for area in areas if area]


def is_right_to_left(texts: Iterable[str]) -> bool:
    """Return whether most letters are of a script that is written from right to left."""
    letters = rtl = 0
    for text in texts:
        if text.isascii():
            letters += len(text)
            continue
        letters += len(_LETTER.findall(text))
        rtl += len(_RIGHT_TO_LEFT.findall(text))
    return 2 * rtl > letters


def _split_columns(
    segments: list[TextSegment], height: float, is_rtl: bool, depth: int
) -> list[list[TextSegment]]:
    """Split an area into its columns; what spans them separates the text above from that below."""
    gap = _find_gap(segments, height) if depth else None
    if gap is None:
        return [segments]
    areas: list[list[TextSegment]] = []
    spanning: list[TextSegment] = []
    left: list[TextSegment] = []
    right: list[TextSegment] = []

    def end_band() -> None:
        for column in (right, left) if is_rtl else (left, right):
            if column:
                areas.extend(_split_columns(column[:], height, is_rtl, depth - 1))
                column.clear()

    for segment in sorted(segments, key=lambda segment: segment.center):
        if segment.left < gap < segment.right:
            end_band()
            spanning.append(segment)
            continue
        if spanning:
            areas.append(spanning)
            spanning = []
        (left if segment.right <= gap else right).append(segment)
    end_band()
    return [*areas, spanning] if spanning else areas


def _find_gap(segments: Sequence[TextSegment], height: float) -> float | None:
    """Return the x of the best gap between two columns of prose, or None."""
    if len(segments) < 2 * _MIN_COLUMN_ROWS:
        return None
    best: tuple[int, int, float] | None = None
    for x in _aligned_edges(segments, height):
        left = [segment for segment in segments if segment.right <= x]
        right = [segment for segment in segments if segment.left >= x]
        num_spanning = len(segments) - len(left) - len(right)
        if num_spanning > _MAX_SPANNING * len(segments):
            continue
        if not (_is_column(left, height) and _is_column(right, height)):
            continue
        if not _are_side_by_side(left, right) or _are_rows(left, right, height):
            continue
        candidate = (num_spanning, -min(len(left), len(right)), x)
        best = candidate if best is None else min(best, candidate)
    return None if best is None else best[2]


def _aligned_edges(segments: Sequence[TextSegment], height: float) -> list[float]:
    """Return the places just outside of edges at which several segments begin or end."""
    margin = 0.2 * height
    edges: list[float] = []
    for values, offset in (
        (sorted(segment.left for segment in segments), -margin),
        (sorted(segment.right for segment in segments), margin),
    ):
        start = 0
        for end in range(1, len(values) + 1):
            if end < len(values) and values[end] - values[start] < height:
                continue
            if end - start >= _MIN_COLUMN_ROWS:
                edges.append((values[start] if offset < 0 else values[end - 1]) + offset)
            start = end
    return edges


def _is_column(segments: Sequence[TextSegment], height: float) -> bool:
    """Return whether segments on one side of a gap are lines of prose rather than cells: wide, and
    close to each other."""
    if len(segments) < _MIN_COLUMN_ROWS:
        return False
    width = median(segment.right - segment.left for segment in segments)
    pitches = _pitches(_lines(segments, height))
    is_dense = median(pitches or [0.0]) <= _MAX_COLUMN_PITCH * height
    return width >= _MIN_COLUMN_WIDTH * height and is_dense


def _lines(segments: Sequence[TextSegment], height: float) -> list[tuple[float, float]]:
    """Return vertical center and top of each line, from top to bottom."""
    lines: list[tuple[float, float]] = []
    for center, top in sorted((segment.center, segment.top) for segment in segments):
        if not lines or center - lines[-1][0] > 0.5 * height:
            lines.append((center, top))
    return lines


def _pitches(lines: Sequence[tuple[float, float]]) -> list[float]:
    """Return the distances of the centers of consecutive lines."""
    return [second[0] - first[0] for first, second in pairwise(lines)]


def _are_side_by_side(left: Sequence[TextSegment], right: Sequence[TextSegment]) -> bool:
    extents = [
        (min(s.top for s in column), max(s.bottom for s in column)) for column in (left, right)
    ]
    overlap = min(extents[0][1], extents[1][1]) - max(extents[0][0], extents[1][0])
    return overlap >= _MIN_OVERLAP * min(bottom - top for top, bottom in extents)


def _are_rows(left: Sequence[TextSegment], right: Sequence[TextSegment], height: float) -> bool:
    """Return whether the lines with space above them are at the same heights on both sides.

    They are in a table with wrapped cells; paragraphs of two columns begin at different heights.
    """
    tops, other_tops = _tops_below_space(left, height), _tops_below_space(right, height)
    num_aligned = sum(
        any(abs(top - other) < _ROW_TOLERANCE * height for other in other_tops) for top in tops
    )
    num_tops = min(len(tops), len(other_tops))
    return num_aligned >= _MIN_ALIGNED_ROWS and num_aligned >= _ALIGNED_SHARE * num_tops


def _tops_below_space(segments: Sequence[TextSegment], height: float) -> list[float]:
    """Return the tops of the lines that have more space above them than other lines."""
    lines = _lines(segments, height)
    pitches = _pitches(lines)
    limit = _SPACED_PITCH * min(pitches, default=0.0)
    return [top for (_, top), pitch in zip(lines[1:], pitches, strict=True) if pitch > limit]


def _group_rows(segments: Sequence[TextSegment], is_rtl: bool) -> list[TextRow]:
    """Group the segments of a column into rows, from top to bottom."""
    rows: list[TextRow] = []
    for segment in sorted(segments, key=lambda segment: segment.center):
        row = rows[-1] if rows else None
        if row is not None and _on_row(segment, row):
            row.segments.append(segment)
            row.top, row.bottom = min(row.top, segment.top), max(row.bottom, segment.bottom)
        else:
            rows.append(TextRow([segment], segment.top, segment.bottom))
    for row in rows:
        row.segments.sort(key=lambda s: -s.right if is_rtl else s.left)
    return rows


def _on_row(segment: TextSegment, row: TextRow) -> bool:
    """Return whether a segment stands on a row and does not cover what stands there."""
    overlap = min(segment.bottom, row.bottom) - max(segment.top, row.top)
    if overlap < _MIN_OVERLAP * min(segment.height, row.height):
        return False
    return all(
        min(segment.right, other.right) - max(segment.left, other.left)
        < _MIN_OVERLAP * min(segment.right - segment.left, other.right - other.left) + 1e-9
        for other in row.segments
    )
