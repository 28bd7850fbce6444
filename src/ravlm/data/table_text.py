"""Rows of a table and the names of its columns, from the lines that are its cells.

A table that continues on the next page gets the names of its columns there, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ravlm.data.line_groups import Line, LineGroup, line_groups, same_row
from ravlm.data.tilt import level_rows
from ravlm.regions import Box, Region

CELL_SEPARATOR = " | "
"""Between the cells of a row that is one line, as earlier versions stored rows of tables."""
_MAX_SHIFT = 0.06
"""Distance of the left edges of a table on two pages, in their width; scans are tilted."""
_MAX_COLUMN_SHIFT = 0.02
"""The same of a column, measured from the first one."""


class Cell(NamedTuple):
    """A cell of a table, and its line."""

    text: str
    line: Line


def cell_rows(group: LineGroup) -> list[list[Cell]]:
    """Return the lines of a group as rows of cells, in reading order.

    Cells are lines next to each other. In a table whose text is turned they are lines one below
    the other, and a line may be a whole row.
    """
    is_table = group.kind == "table"
    turned = is_table and _is_turned(group.lines)
    boxes = [line.box for line in group.lines]
    if turned:
        boxes = [box and (box[1], box[0], box[3], box[2]) for box in boxes]
    rows: list[list[Cell]] = []
    last: Box | None = None
    for line, box in zip(group.lines, level_rows(boxes), strict=True):
        texts = line.text.split(CELL_SEPARATOR) if is_table else [line.text]
        cells = [Cell(text.strip(), line) for text in texts if text.strip()]
        if rows and last is not None and box is not None and same_row(last, box):
            rows[-1] += cells
        else:
            rows.append(cells)
        last = box
    if is_table:
        return rows
    return [sorted(row, key=lambda cell: (cell.line.box or (0.0,))[0]) for row in rows]


def _is_turned(lines: Sequence[Line]) -> bool:
    """Return whether the text of most lines runs upwards or downwards."""
    boxes = [line.box for line in lines if line.box is not None and len(line.text) > 3]
    votes = sum(box[3] - box[1] > box[2] - box[0] for box in boxes)
    return 2 * votes > len(boxes)


def is_head(rows: Sequence[Sequence[Cell]]) -> bool:
    """Return whether the first row names the columns: it has no numbers, and a name for each, of
    which the first may be missing."""
    head = rows[0]
    longest = max(map(len, rows[1:]), default=0)
    return longest <= len(head) + 1 and not any(_is_number(cell.text) for cell in head)


def _is_number(text: str) -> bool:
    """Return whether a cell is a number, maybe with its unit: it begins with a digit, and at least
    half of its characters are digits."""
    characters = [character for character in text if character.isalnum()]
    num_digits = sum(map(str.isdigit, characters))
    return bool(characters) and characters[0].isdigit() and 2 * num_digits >= len(characters)


def column_name(
    head: Sequence[Cell], row: Sequence[Cell], column: int, num_columns: int
) -> Cell | None:
    """Return the name of the column that a cell is in; None in the first of `num_columns` if the
    head has no name for it."""
    num_nameless = num_columns - len(head)
    if len(row) == num_columns:
        return head[column - num_nameless] if column >= num_nameless else None
    box = row[column].line.box
    head_boxes = [label.line.box for label in head if label.line.box is not None]
    if box is None or len(head_boxes) < len(head):
        return head[min(column, len(head) - 1)]
    if num_nameless > 0 and box[2] < min(head_box[0] for head_box in head_boxes):
        return None

    def distance(number: int) -> float:
        left, _, right, _ = head_boxes[number]
        return min(abs(box[0] - left), abs(box[0] + box[2] - left - right) / 2)

    return head[min(range(len(head)), key=distance)]


# tables over several pages


def with_continued_head(previous: Sequence[Region], regions: Sequence[Region]) -> list[Region]:
    """Return the regions of a page. A table at its top that continues from the `previous` page gets
    the head of that table as its first row, without a box."""
    head = _continued_head(_body(previous), _body(regions))
    number = next((n for n, r in enumerate(regions) if r.kind == "table" and not r.text), None)
    if not head or number is None:
        return list(regions)
    text = CELL_SEPARATOR.join(cell.text for cell in head)
    row = Region(text, None, regions[number].page)
    return [*regions[: number + 1], row, *regions[number + 1 :]]


def _body(regions: Sequence[Region]) -> list[LineGroup]:
    margins = ("header", "footer")
    return [group for group in line_groups(regions) if group.kind not in margins]


def _continued_head(previous: Sequence[LineGroup], groups: Sequence[LineGroup]) -> Sequence[Cell]:
    """Return the head of a table at the end of a page that continues in the first group of the next
    page; empty without one."""
    if not previous or not groups or {previous[-1].kind, groups[0].kind} != {"table"}:
        return ()
    above, below = cell_rows(previous[-1]), cell_rows(groups[0])
    head, columns = above[0], max(map(len, below))
    is_repeated = [cell.text for cell in below[0]] == [cell.text for cell in head]
    has_names = len(head) > 1 and len(head) in (columns, columns - 1) and is_head(above)
    if is_repeated or not has_names:
        return ()
    lefts = [_lefts(rows, columns) for rows in (above, below)]
    limits = [_MAX_SHIFT, *[_MAX_COLUMN_SHIFT] * (columns - 1)]
    is_aligned = all(
        any(abs(left - other) <= limit for left in of_above for other in of_below)
        for of_above, of_below, limit in zip(*lefts, limits, strict=True)
    )
    return head if is_aligned else ()


def _lefts(rows: Sequence[Sequence[Cell]], columns: int) -> list[list[float]]:
    """Return the left edges of the cells of each column, in the rows that have all columns; after
    the first column from that of their row."""
    boxes = [[cell.line.box for cell in row] for row in rows if len(row) == columns]
    complete = [[box for box in row if box is not None] for row in boxes if None not in row]
    return [
        [row[column][0] - (row[0][0] if column else 0.0) for row in complete]
        for column in range(columns)
    ]
