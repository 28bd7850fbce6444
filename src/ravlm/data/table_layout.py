"""Find the tables of a page and their cells, also where the text of a cell is wrapped.

The input are rows of text: pieces side by side on one line. A table is several lines whose pieces
stand in common columns. The printed rules of the table are not available, so its rows are detected
by the text: a line continues the cells above it if it is close to them and they are full.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from ravlm.data.chinese import HAN
from ravlm.data.reading_order import SIZE_CHANGE, TextRow, TextSegment, have_same_style

CELL_GAP = 0.7
"""Gap between two cells, in heights of a line: more than between words, also where these are spread
out to fill a line."""
_ALIGNMENT = 0.8
"""Largest distance of aligned cells, in heights of a line."""
_TIGHT = 1.2
"""Distance of two lines of one cell, in the smallest distance of lines in the table."""
_MAX_LINE_DISTANCE = 1.7
"""The same in heights of a line, where a line with one cell may continue a table."""
_MAX_ROW_DISTANCE = 2.6
_MIN_LINE_DISTANCE = 0.7
"""Distance of two lines in heights of a line; a smaller one is that of parts of one line."""
_MIN_SPACES = 2
"""Places with space between lines that make it space between rows: one may be below the head."""
_MIN_WORDS, _MIN_CJK = 2, 4
"""Words, or Chinese characters, of a line that may be a full one: codes and numbers, which fill
their column, are not wrapped."""

_HAN = re.compile(f"[{HAN}]")

Extent: TypeAlias = tuple[float, float]
"""Left and right edge."""


@dataclass
class TableCell:
    """A cell: its lines from top to bottom, and its column, from 0."""

    column: int
    segments: list[TextSegment] = field(default_factory=list)

    @property
    def top(self) -> float:
        """Top edge."""
        return self.segments[0].top

    @property
    def bottom(self) -> float:
        """Bottom edge."""
        return self.segments[-1].bottom


def table_rows(rows: Sequence[TextRow]) -> list[int]:
    """Return for each row of text the number of the table it belongs to, from 1; 0 for no table.

    Its cells are aligned with those of its neighbors, or it is a further line of a cell.
    """
    cells = [cell_extents(row) for row in rows]
    numbers = [0] * len(rows)
    start = number = 0
    columns: list[Extent] = []
    while start < len(rows):
        end, num_aligned = _table_end(rows, cells, start)
        widest = max(map(len, cells[start:end]))
        if num_aligned >= 3 or (num_aligned == 2 and widest >= 3):
            former, columns = columns, _columns(cells[start:end])
            follows = start > 0 and numbers[start - 1] > 0
            if not (follows and _have_same_columns(former, columns, rows[start].height)):
                number += 1
            numbers[start:end] = [number] * (end - start)
            start = end
        else:
            start += 1
    return numbers


def _columns(cells: Sequence[Sequence[Extent]]) -> list[Extent]:
    """Return the columns of a table, from its rows with most cells."""
    num_columns = max(map(len, cells))
    columns: list[Extent] = []
    for extents in cells:
        if len(extents) == num_columns:
            columns = _merge(columns, extents) if columns else list(extents)
    return columns


def _have_same_columns(first: Sequence[Extent], second: Sequence[Extent], height: float) -> bool:
    """Return whether each column of a table is one of the table above it, too."""
    return all(any(_is_one_column(a, b, height) for a in first) for b in second)


def _table_end(
    rows: Sequence[TextRow], cells: Sequence[list[Extent]], start: int
) -> tuple[int, int]:
    """Return the end of the table that begins at a row, and how many of its rows are aligned."""
    end, num_aligned = start + 1, 1
    last = start  # the last row with aligned cells
    columns = list(cells[start])
    if len(columns) < 2:
        return end, num_aligned
    for number in range(start + 1, len(rows)):
        height = min(rows[last].height, rows[number].height)
        if _are_aligned(cells[last], cells[number], height):
            columns = _merge(columns, cells[number])
            end, last = number + 1, number
            num_aligned += 1
            continue
        if not _may_continue(rows[number - 1], rows[number], columns):
            break
        if rows[number].left > columns[0][1] or _is_wrapped(rows, number, columns):
            end = number + 1  # the last line of a cell
    return end, num_aligned


def _may_continue(last: TextRow, row: TextRow, columns: Sequence[Extent]) -> bool:
    """Return whether a line stands close below another, each of its cells within one column.

    Right of the first column more space is allowed: a cell with more lines than its neighbors may
    begin above them. In the first column the line may be a heading or a paragraph.
    """
    height = min(last.height, row.height)
    is_inside = row.left > columns[0][1]
    limit = _MAX_ROW_DISTANCE if is_inside else _MAX_LINE_DISTANCE
    if row.center - last.center > limit * height:
        return False
    if max(last.height, row.height) > SIZE_CHANGE * height:
        return False
    if not is_inside and row.is_bold != last.is_bold:
        return False
    slots = [*(left for left, _ in columns[1:]), float("inf")]
    return all(
        any(
            left >= first - _ALIGNMENT * height and right < slot
            for (first, _), slot in zip(columns, slots, strict=True)
        )
        for left, right in cell_extents(row)
    )


def _is_wrapped(rows: Sequence[TextRow], number: int, columns: Sequence[Extent]) -> bool:
    """Return whether a line in the first column alone continues the one above it, which is full."""
    above, segments = rows[number - 1].segments[0], rows[number].segments
    limit = columns[1][0] - CELL_GAP * rows[number].height
    return len(segments) == 1 and above.right <= limit and _is_full(above, segments[0], limit)


def cell_extents(row: TextRow) -> list[Extent]:
    """Return left and right edge of each cell; a row of prose has one."""
    edges: list[Extent] = []
    for segment in sorted(row.segments, key=lambda segment: segment.left):
        if edges and segment.left - edges[-1][1] < CELL_GAP * row.height:
            edges[-1] = (edges[-1][0], max(edges[-1][1], segment.right))
        else:
            edges.append((segment.left, segment.right))
    return edges


def _are_aligned(first: Sequence[Extent], second: Sequence[Extent], height: float) -> bool:
    """Return whether two rows have several cells each, and one after the first is aligned."""
    if len(first) < 2 or len(second) < 2:
        return False
    return any(_is_one_column(a, b, height) for a in first[1:] for b in second[1:])


def _is_one_column(first: Extent, second: Extent, height: float) -> bool:
    """Return whether two cells are aligned at the left, at the right or in the middle."""
    left, right = first[0] - second[0], first[1] - second[1]
    return min(abs(left), abs(right), abs(left + right) / 2) <= _ALIGNMENT * height


def _merge(columns: Sequence[Extent], cells: Sequence[Extent]) -> list[Extent]:
    """Return columns that hold further cells; a cell that spans several of them is left out."""
    merged = list(columns)
    for left, right in cells:
        within = [i for i, (a, b) in enumerate(merged) if left < b and a < right]
        if len(within) == 1:
            a, b = merged[within[0]]
            merged[within[0]] = (min(a, left), max(b, right))
        elif not within:
            merged.append((left, right))
    merged.sort()
    return merged


# cells


def table_cells(rows: Sequence[TextRow]) -> list[list[TableCell]]:
    """Return the rows of a table as cells, in the reading order of their columns."""
    by_column = _segments_by_column(rows)
    starts = _Wrapping(rows, by_column).starts()
    cells: list[TableCell] = []
    for column, segments in by_column.items():
        for segment in segments:
            cell = cells[-1] if cells and cells[-1].column == column else None
            if cell is None or id(segment) in starts:
                cells.append(TableCell(column, [segment]))
            else:
                cell.segments.append(segment)
    is_rtl = rows[0].segments[0].left > rows[0].segments[-1].left
    return [_sorted_row(row, is_rtl) for row in _overlapping(cells)]


def _segments_by_column(rows: Sequence[TextRow]) -> dict[int, list[TextSegment]]:
    """Return the segments of each column from top to bottom."""
    columns = _columns([cell_extents(row) for row in rows])
    by_column: dict[int, list[TextSegment]] = {i: [] for i in range(len(columns))}
    for row in rows:
        for segment in row.segments:
            by_column[_column_of(segment, columns)].append(segment)
    return {column: segments for column, segments in by_column.items() if segments}


def _column_of(segment: TextSegment, columns: Sequence[Extent]) -> int:
    """Return the column that overlaps most with a segment, else the nearest one."""

    def overlap(column: int) -> float:
        left, right = columns[column]
        return min(right, segment.right) - max(left, segment.left)  # negative: the distance

    return max(range(len(columns)), key=overlap)


class _Wrapping:
    """Decides which lines of a table begin a cell, and which continue the cell above."""

    def __init__(
        self, rows: Sequence[TextRow], by_column: Mapping[int, Sequence[TextSegment]]
    ) -> None:
        self.rows = rows
        self.first_column = min(by_column)
        self.column_of = {
            id(segment): column for column, segments in by_column.items() for segment in segments
        }
        pairs = [pair for segments in by_column.values() for pair in pairwise(segments)]
        distances = [two.center - one.center for one, two in pairs]
        pitch = _usual_least([d for d in distances if d > _MIN_LINE_DISTANCE * rows[0].height])
        self.above = {id(two): one for one, two in pairs if _is_next_line(one, two, _TIGHT * pitch)}
        """Segment -> the one that stands close above it in its column."""
        # Signs of wrapped cells: space between rows, and close lines that few cells have.
        self.has_space = sum(d > _TIGHT * pitch for d in distances) >= _MIN_SPACES
        max_segments = max(len(row.segments) for row in rows)
        close = [row for row in rows if any(id(segment) in self.above for segment in row.segments)]
        num_ragged = sum(len(row.segments) < max_segments for row in close)
        self.limits = _right_limits(by_column, is_ragged=2 * num_ragged >= len(close))

    def starts(self) -> set[int]:
        """Return the ids of the segments that begin a cell."""
        starts = set(self.column_of)
        for row in self.rows:
            pairs = [(self.above[id(s)], s) for s in row.segments if id(s) in self.above]
            if self._continues(row, pairs):
                starts -= {id(segment) for _, segment in pairs}
        return starts

    def _continues(self, row: TextRow, pairs: Sequence[tuple[TextSegment, TextSegment]]) -> bool:
        """Return whether a line continues the cells above it."""
        has_text = any(_can_be_full(one.text) for one, _ in pairs)
        are_full = [_is_full(one, two, self.limits[self.column_of[id(two)]]) for one, two in pairs]
        if any(self.column_of[id(segment)] == self.first_column for segment in row.segments):
            return self.has_space and has_text and all(are_full)
        return len(row.segments) == 1 or (has_text and any(are_full))


def _usual_least(distances: Sequence[float]) -> float:
    """Return the least distance of lines but for the first tenth: on scans they differ a little."""
    return sorted(distances)[len(distances) // 10] if distances else 0.0


def _right_limits(
    by_column: Mapping[int, Sequence[TextSegment]], is_ragged: bool
) -> dict[int, float]:
    """Return how far to the right the text of each column may reach.

    The limit is the longest line where cells are wrapped, else the next column.
    """
    columns = sorted(by_column)
    limits = {column: max(s.right for s in by_column[column]) for column in columns}
    if is_ragged:
        return limits
    for column, following in pairwise(columns):
        left = min(segment.left for segment in by_column[following])
        height = by_column[column][0].height
        limits[column] = max(limits[column], left - CELL_GAP * height)
    return limits


def _is_next_line(first: TextSegment, second: TextSegment, max_distance: float) -> bool:
    """Return whether a segment may be the next line of another one's cell."""
    distance = second.center - first.center
    return have_same_style(first, second) and 0 < distance <= max_distance


def _is_full(line: TextSegment, following: TextSegment, limit: float) -> bool:
    """Return whether the first word of the following line did not fit on a line."""
    width = (line.right - line.left) / max(len(line.text), 1)
    is_cjk = _HAN.match(following.text) is not None
    word = 1 if is_cjk else len(following.text.split(" ", 1)[0]) + 1
    return limit - line.right < word * width


def _can_be_full(text: str) -> bool:
    return len(text.split()) >= _MIN_WORDS or len(_HAN.findall(text)) >= _MIN_CJK


def _overlapping(cells: Sequence[TableCell]) -> list[list[TableCell]]:
    """Group cells that stand side by side into rows, from top to bottom."""
    rows: list[list[TableCell]] = []
    bottom = float("-inf")
    for cell in sorted(cells, key=lambda cell: cell.top):
        height = cell.segments[0].height
        if rows and bottom - cell.top > 0.5 * height:
            rows[-1].append(cell)
        else:
            rows.append([cell])
            bottom = cell.bottom
        bottom = max(bottom, cell.bottom)
    return rows


def _sorted_row(cells: Sequence[TableCell], is_rtl: bool) -> list[TableCell]:
    """Join the cells of one column, and order them."""
    joined: dict[int, TableCell] = {}
    for cell in cells:
        joined.setdefault(cell.column, TableCell(cell.column)).segments.extend(cell.segments)
    return [joined[column] for column in sorted(joined, reverse=is_rtl)]
