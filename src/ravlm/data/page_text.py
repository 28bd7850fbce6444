"""The text of an entry's regions: lines become paragraphs and rows, and characters lead back to
boxes.

Lines of a paragraph are joined as a person reads them: hyphens at line ends are removed, and where
no layout block says what belongs together, a line break counts only if the next word would have fit
on the line. Rows of a table are written as `key: value`, so that each can be read by itself.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from ravlm.data.line_groups import Line, LineGroup, line_groups
from ravlm.data.line_joins import CJK, line_join
from ravlm.data.table_text import Cell, cell_rows, column_name, is_head
from ravlm.data.tilt import column_slope
from ravlm.records import Entry, Part, Source
from ravlm.regions import Region, RegionKind, enclosing_box

MIN_CONFIDENCE = 0.8
"""Answers are not taken from words that were read with less; they can still be searched for."""
_FLOWING = ("title", "caption")
_SENTENCE_ENDS = (".", ":", ";", "。", "：", "；")
_MIN_FULL_LINE = {False: 30, True: 12}
"""Characters of a line that can be a full one, in other scripts and in (True) Chinese: lines of
narrow columns, such as receipts, are left apart."""
_KEY_VALUE = re.compile(r"[^:：]{1,40}[:：](?!//)\s*\S")
_BULLET = re.compile(r"(?:[-*•·‣▪–—]|\(?\d{1,3}[.)]|[a-z][.)])\s|--?[A-Za-z]")
"""What begins a line of its own: an item of a list, or an option of a command."""


class RegionSpan(NamedTuple):
    """Characters of the text that stand in one region."""

    start: int
    end: int
    region: Region


class CellSpan(NamedTuple):
    """Characters of the text that are a cell of a table."""

    start: int
    end: int
    column: str
    """The name of its column; "" without one."""
    line_start: int
    """Start of the text of its row."""


class Block(NamedTuple):
    """A paragraph, title or table. Passages split a block only if it is too long."""

    kind: RegionKind
    start: int
    end: int
    section: str
    """The title above it; "" without one."""


@dataclass(frozen=True)
class PageText:
    """The text of regions, with the region of each character.

    >>> page = PageText.of([Region("Total: 12.50", (0.1, 0.8, 0.4, 0.82), 1)])
    >>> page.part(7, 12, index=0)
    Part(modality='text', index=0, text='Total: 12.50', box=(0.1, 0.8, 0.4, 0.82), page=1)
    """

    text: str = ""
    spans: tuple[RegionSpan, ...] = ()
    """In the order of the text, without overlaps. Copies of a table's head have spans, too."""
    blocks: tuple[Block, ...] = ()
    cells: tuple[CellSpan, ...] = ()
    """Cells of tables, row by row; not those of a head."""

    @staticmethod
    def of(regions: Sequence[Region]) -> PageText:
        """Return the text of regions in reading order."""
        groups = line_groups(regions)
        blocks = [[line.box for line in group.lines] for group in groups if group.kind != "table"]
        writer = _Writer(column_slope(blocks))
        for group in groups:
            writer.write(group)
        text = "".join(writer.pieces)
        return PageText(text, tuple(writer.spans), tuple(writer.blocks), tuple(writer.cells))

    def spans_within(self, start: int, end: int) -> tuple[RegionSpan, ...]:
        """Return the spans that have a character in `start:end`."""
        first = max(bisect_right(self.spans, start, key=lambda span: span.start) - 1, 0)
        within = []
        for span in self.spans[first:]:
            if span.start >= end:
                break
            if span.end > start:
                within.append(span)
        return tuple(within)

    def is_certain(self, start: int, end: int) -> bool:
        """Return whether every word of `start:end` was read with confidence."""
        return all(s.region.confidence >= MIN_CONFIDENCE for s in self.spans_within(start, end))

    def part(self, start: int, end: int, index: int) -> Part:
        """Return the regions of `start:end` as a part with their text, box and page.

        `index` is that of the regions' text in the entry.
        """
        spans = self.spans_within(start, end)
        text = self.text[spans[0].start : spans[-1].end] if spans else ""
        return _part(text, spans, index)

    def source(self, entry_id: str, index: int, start: int, end: int) -> Source:
        """Return the characters `start:end` as what an answer is based on: the lines they stand in,
        with box and page."""
        part = self.part(start, end, index)
        spans = self.spans_within(start, end)
        first = start - spans[0].start if spans else 0
        return Source(entry_id, part, max(first, 0), min(first + end - start, len(part.text)))

    def window(self, center: int, size: int) -> tuple[int, int]:
        """Return the start and end of whole blocks around a character, at most `size` characters.

        A block that is longer is cut.
        """
        left = max(0, min(center - size // 2, len(self.text) - size))
        right = min(len(self.text), left + size)
        starts = [block.start for block in self.blocks if left <= block.start <= center]
        ends = [block.end for block in self.blocks if center <= block.end <= right]
        return min(starts, default=left), max(ends, default=right)

    def find(self, passage: str) -> tuple[int, int]:
        """Return where a passage stands, apart from white space; (0, 0) if it does not."""
        start = self.text.find(passage)
        if start >= 0:
            return start, start + len(passage)
        pattern = r"\s*".join(map(re.escape, passage.split()))
        match = re.search(pattern, self.text)
        return match.span() if match else (0, 0)

    def part_of_passage(self, passage: str, index: int) -> Part:
        """Return the part of a passage that was cut out of the text; its white space may differ."""
        start, end = self.find(passage)
        return _part(self.text[start:end] or passage, self.spans_within(start, end), index)

    def section_of(self, passage: str) -> str:
        """Return the title above a passage; "" without one."""
        start, end = self.find(passage)
        block = self.block_at(start)
        return block.section if block is not None and start < end else ""

    def block_at(self, position: int) -> Block | None:
        """Return the block that contains a character or follows it; None after the last one."""
        number = bisect_right(self.blocks, position, key=lambda block: block.end)
        return self.blocks[number] if number < len(self.blocks) else None


def region_text_index(entry: Entry) -> int:
    """Return the index under which parts name the text of an entry's regions."""
    return len(entry.texts)


def all_texts(entry: Entry, min_confidence: float = 0.0) -> tuple[str, ...]:
    """Return the texts of an entry and, as the last one, the text of its regions.

    Regions that were read with less than `min_confidence` are left out.
    """
    if not entry.regions:
        return entry.texts
    page = PageText.of([r for r in entry.regions if r.confidence >= min_confidence])
    return (*entry.texts, page.text) if page.text else entry.texts


def certain_texts(entry: Entry) -> tuple[str, ...]:
    """Return the texts of an entry that answers may be taken from."""
    return all_texts(entry, MIN_CONFIDENCE)


def in_context(entry: Entry, page: PageText, passage: str) -> str:
    """Return a passage after the title of its document and of its section: what it is about."""
    titles = [title for title in titles_of(entry, page, passage) if title not in passage]
    return "\n".join([*titles, passage])


def titles_of(entry: Entry, page: PageText, passage: str) -> list[str]:
    """Return the titles above a passage: that of its document, and that of its section."""
    metadata = entry.metadata if is_page(entry) else {}
    section = page.section_of(passage) or metadata.get("section")
    titles = [title for title in (metadata.get("title"), section) if isinstance(title, str)]
    return list(dict.fromkeys(title for title in titles if title))


def is_page(entry: Entry) -> bool:
    """Return whether an entry is a page of a document; its metadata then are the document's."""
    return any(region.page is not None for region in entry.regions)


def page_number(regions: Sequence[Region]) -> int | None:
    """Return the page that all regions are on; None if they are on none or on several."""
    pages = {region.page for region in regions}
    return pages.pop() if len(pages) == 1 else None


def _part(text: str, spans: Sequence[RegionSpan], index: int) -> Part:
    regions = [span.region for span in spans]
    return Part("text", index, text, enclosing_box(r.box for r in regions), page_number(regions))


@dataclass
class _Writer:
    """Writes groups one after the other, and keeps the region of each character."""

    slope: float
    """How far the lines of a tilted page shift to the right in their height."""
    pieces: list[str] = field(default_factory=list)
    spans: list[RegionSpan] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    cells: list[CellSpan] = field(default_factory=list)
    length: int = 0
    section: str = ""

    def write(self, group: LineGroup) -> None:
        """Write a group as a block."""
        if self.length:
            self._add("\n")
        start, first_piece = self.length, len(self.pieces)
        rows = cell_rows(group)
        if any(len(row) > 1 for row in rows):
            self._write_table(rows)
        else:
            self._write_lines(group)
        if group.kind == "title":
            self.section = "".join(self.pieces[first_piece:])
        section = "" if group.kind == "title" else self.section
        self.blocks.append(Block(group.kind, start, self.length, section))

    def _write_lines(self, group: LineGroup) -> None:
        boxes = [line.box for line in group.lines if line.box is not None]
        right = max((box[2] - self.slope * box[1] for box in boxes), default=1.0)
        for line, following in pairwise(group.lines):
            limit = right if line.box is None else right + self.slope * line.box[1]
            flows = _flows(group.kind, line, following, limit)
            cut, separator = line_join(line.text, following.text) if flows else (0, "\n")
            self._write_line(line, cut)
            self._add(separator)
        self._write_line(group.lines[-1])

    def _write_table(self, rows: Sequence[Sequence[Cell]]) -> None:
        """Write rows of two cells as `key: value`, and others with the head of each column."""
        widest = max(map(len, rows))
        has_head = len(rows) > 1 and is_head(rows)
        for number, row in enumerate(rows):
            if number:
                self._add("\n")
            line_start = self.length
            head = rows[0] if has_head and number else None
            for column, cell in enumerate(row):
                label = None if head is None else column_name(head, row, column, widest)
                if column:
                    self._add(_cell_separator(row[column - 1], widest, head is not None))
                if label is not None and widest > 2:
                    self._write_cell(label)
                    self._add(": ")
                start = self.length
                self._write_cell(cell)
                if number or not has_head:
                    name = "" if label is None else label.text
                    self.cells.append(CellSpan(start, self.length, name, line_start))

    def _write_cell(self, cell: Cell) -> None:
        if cell.text == cell.line.text:
            self._write_line(cell.line)
        else:
            region = cell.line.regions[0]
            self.spans.append(RegionSpan(self.length, self.length + len(cell.text), region))
            self._add(cell.text)

    def _write_line(self, line: Line, cut: int = 0) -> None:
        """Write a line without its last `cut` characters."""
        for number, region in enumerate(line.regions):
            if number:
                self._add(" ")
            text = region.text.strip()
            if number == len(line.regions) - 1 and cut:
                text = text[:-cut]
            self.spans.append(RegionSpan(self.length, self.length + len(text), region))
            self._add(text)

    def _add(self, text: str) -> None:
        self.pieces.append(text)
        self.length += len(text)


def _cell_separator(left: Cell, widest: int, has_head: bool) -> str:
    """Return what stands after a cell in the text of a table with `widest` columns."""
    if widest > 2:
        return "; " if has_head else " | "
    return " " if left.text.rstrip().endswith((":", "：", "=", ".")) else ": "


def _flows(kind: RegionKind, line: Line, following: Line, right: float) -> bool:
    """Return whether a line of a block of this kind goes on in the next one.

    It does where the first word of the next line did not fit on it; `right` is where the lines of
    the block end.
    """
    text = line.text
    if kind in _FLOWING or (kind == "paragraph" and line.box is None):
        return True
    is_full = len(text) >= _MIN_FULL_LINE[bool(CJK.search(text))]
    if line.box is None or not (is_full or kind == "paragraph"):
        return False
    is_pair = _KEY_VALUE.match(text) is not None
    begins_pair = _KEY_VALUE.match(following.text) is not None
    begins_pair = begins_pair and (is_pair or text.endswith(_SENTENCE_ENDS))
    if _BULLET.match(following.text) or begins_pair or (is_pair and following.text[0].isupper()):
        return False
    is_cjk = bool(CJK.match(following.text))
    word = 1 if is_cjk else len(following.text.split(" ", 1)[0]) + 1
    width = (line.box[2] - line.box[0]) / len(text)
    return right - line.box[2] < word * width
