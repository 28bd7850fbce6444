"""Group the text of a page into blocks: titles, paragraphs, lists, tables, figures with captions.

The input are pieces of text with their boxes, born-digital or recognized; nothing is learned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from ravlm.data.line_joins import joined_lines
from ravlm.data.reading_order import TextRow, TextSegment, have_same_style, order_segments
from ravlm.data.table_layout import table_cells, table_rows
from ravlm.data.weighted_median import weighted_median
from ravlm.regions import Box, Region, RegionKind, enclosing_box

_PARAGRAPH_PITCH = 1.3
"""Distance of two lines that begins a new paragraph, in the usual distance of the column."""
_CAPTION_PITCH = 1.1
"""The same before a caption; "Figure 3" at the beginning of a line of a paragraph is none."""
_MAX_PITCH = 2.5
"""Distance of lines above which it says nothing about the usual one, in heights of a line."""
_TITLE_SIZE = 1.15
"""Height of a title of one row in the height of the body text."""
_LARGE_TITLE_SIZE = 1.35
_MAX_TITLE_ROWS = 3
"""Rows of a large title."""
_MAX_TITLE_LENGTH = 200
_MARGIN = 0.08
"""Share of the page at the top and bottom that holds running heads and page numbers."""
_MAX_FIGURE_GAP = 4.0
"""Distance of a caption to its figure, in heights of a line."""
_LIST_ITEM = re.compile(r"(?:[•·▪◦‣●○■□–—*-]|\(?\d{1,3}[.)、]|\(?[a-z]\))\s*\S")
_CAPTION = re.compile(
    r"(?:fig(?:ure)?\.?|table|chart|plate|abb(?:ildung)?\.?|tab(?:elle)?\.?|图表?|圖表?|表格?)"
    r"\s*[A-Z]?[\d一二三四五六七八九十]+",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.。;；,，:：]$")


@dataclass(slots=True)
class LayoutBlock:
    """Rows of text that belong together."""

    kind: RegionKind
    rows: list[TextRow]
    figure: Box | None = None
    """Box of the figure of which the rows are the caption, as shares of the page."""

    @property
    def text(self) -> str:
        """The rows, one per line."""
        return "\n".join(row.text for row in self.rows)


def find_blocks(
    segments: Sequence[TextSegment],
    width: float,
    height: float,
    figures: Sequence[Box] = (),
) -> list[LayoutBlock]:
    """Return the blocks of a page of `width` x `height` in reading order.

    `figures` are the boxes of its images, as shares of the page; one with a caption becomes a
    block.
    """
    areas = order_segments(segments)
    if not areas:
        return []
    rows = [row for of_area in areas for row in of_area]
    body = weighted_median((row.height for row in rows), (len(row.text) for row in rows))
    blocks = [block for rows in areas for block in _area_blocks(rows, body)]
    _mark_margins(blocks, height)
    _attach_figures(blocks, width, height, list(figures))
    return blocks


def to_regions(
    blocks: Sequence[LayoutBlock],
    boxes: Sequence[Box],
    page: int | None,
    trust: Sequence[float],
    words: Mapping[int, Sequence[Region]] | None = None,
) -> list[Region]:
    """Return a region for each block, followed by its lines if it has several.

    `boxes` and `trust` are the box on the page and the confidence of each segment, by its index;
    `words` are those of segments whose words were not read with the same confidence.
    """
    regions: list[Region] = []
    for block in blocks:
        if block.kind == "table":
            lines = _cell_regions(block.rows, boxes, page, trust)
        else:
            lines = [
                line
                for row in block.rows
                for line in _line_regions(row, boxes, page, trust, words or {})
            ]
        box = enclosing_box([block.figure, *(line.box for line in lines)])
        if len(lines) == 1 and block.figure is None:
            line = lines[0]
            regions.append(Region(line.text, line.box, page, block.kind, line.confidence))
        else:
            regions += [Region("", box, page, block.kind), *lines]
    return regions


def _cell_regions(
    rows: Sequence[TextRow], boxes: Sequence[Box], page: int | None, trust: Sequence[float]
) -> list[Region]:
    """Return the cells of a table, row by row, each as one line of text with the box of all its
    lines."""
    regions: list[Region] = []
    for row in table_cells(rows):
        for cell in row:
            indexes = [segment.index for segment in cell.segments]
            text = joined_lines([segment.text for segment in cell.segments])
            box = enclosing_box(boxes[index] for index in indexes)
            regions.append(Region(text, box, page, "line", min(trust[i] for i in indexes)))
    return regions


def _line_regions(
    row: TextRow,
    boxes: Sequence[Box],
    page: int | None,
    trust: Sequence[float],
    words: Mapping[int, Sequence[Region]],
) -> list[Region]:
    """Return a row as one line, or as its words if some of them are less certain than others."""
    indexes = [segment.index for segment in row.segments]
    if not any(index in words for index in indexes):
        box = enclosing_box(boxes[index] for index in indexes)
        return [Region(row.text, box, page, "line", min(trust[index] for index in indexes))]
    regions: list[Region] = []
    for segment in row.segments:
        whole = Region(segment.text, boxes[segment.index], page, "word", trust[segment.index])
        regions += words.get(segment.index, [whole])
    return regions


def _area_blocks(rows: Sequence[TextRow], body: float) -> list[LayoutBlock]:
    """Split the rows of a column into blocks; `body` is the height of the body text."""
    in_table = table_rows(rows)
    pitches = [second.center - first.center for first, second in pairwise(rows)]
    usual = [pitch for pitch in pitches if 0 < pitch <= _MAX_PITCH * body]
    pitch = median(usual) if usual else 1.4 * body
    blocks: list[LayoutBlock] = []
    for number, row in enumerate(rows):
        kind = "table" if in_table[number] else _row_kind(row)
        block = blocks[-1] if blocks else None
        is_other_table = number > 0 and in_table[number] != in_table[number - 1]
        if block is None or is_other_table or _begins_block(block, row, kind, pitch):
            blocks.append(LayoutBlock(kind, [row]))
        else:
            block.rows.append(row)
    for block in blocks:
        if block.kind == "paragraph" and _is_title(block, body):
            block.kind = "title"
    return blocks


def _row_kind(row: TextRow) -> RegionKind:
    text = row.text
    if _CAPTION.match(text):
        return "caption"
    return "list" if _LIST_ITEM.match(text) else "paragraph"


def _begins_block(block: LayoutBlock, row: TextRow, kind: RegionKind, pitch: float) -> bool:
    last = block.rows[-1]
    if (kind == "table") != (block.kind == "table"):
        return True
    distance = row.center - last.center
    limit = (_CAPTION_PITCH if kind == "caption" else _PARAGRAPH_PITCH) * pitch
    if block.kind == "table":
        return distance > 2 * limit
    if distance > limit or distance < 0:
        return True
    if kind == "list" and block.kind != "list":
        return True
    return not have_same_style(last, row)


def _is_title(block: LayoutBlock, body: float) -> bool:
    text = block.text
    if len(block.rows) > _MAX_TITLE_ROWS or len(text) > _MAX_TITLE_LENGTH or len(text) < 2:
        return False
    if not any(character.isalpha() for character in text):
        return False
    height = median(row.height for row in block.rows)
    is_bold = all(row.is_bold for row in block.rows)
    if height >= _LARGE_TITLE_SIZE * body:
        return True
    is_heading = len(block.rows) == 1 and not _SENTENCE_END.search(text)
    return is_heading and (height >= _TITLE_SIZE * body or (is_bold and height >= 0.95 * body))


def _mark_margins(blocks: Sequence[LayoutBlock], height: float) -> None:
    """Mark running heads and page numbers: single rows at the edge of the page."""
    if len(blocks) < 2:
        return
    for block in blocks:
        if len(block.rows) != 1 or block.kind not in ("paragraph", "list", "title"):
            continue
        row = block.rows[0]
        others = (other for b in blocks if b is not block for other in b.rows)
        if row.bottom < _MARGIN * height and block.kind != "title":
            if all(other.center >= row.center - row.height for other in others):
                block.kind = "header"
        elif row.top > (1 - _MARGIN) * height and all(
            other.center <= row.center + row.height for other in others
        ):
            block.kind = "footer"


def _attach_figures(
    blocks: Sequence[LayoutBlock], width: float, height: float, figures: list[Box]
) -> None:
    """Turn a caption next to a figure into the block of the figure."""
    for block in blocks:
        if block.kind != "caption" or not figures:
            continue
        top, bottom = block.rows[0].top / height, block.rows[-1].bottom / height
        left = min(row.left for row in block.rows) / width
        right = max(row.right for row in block.rows) / width
        limit = _MAX_FIGURE_GAP * block.rows[0].height / height
        near = [
            (gap, box)
            for box in figures
            if (gap := max(top - box[3], box[1] - bottom, 0.0)) <= limit
            and min(right, box[2]) > max(left, box[0])
        ]
        if near:
            _, block.figure = min(near)
            block.kind = "figure"
            figures.remove(block.figure)
