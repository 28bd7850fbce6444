"""Set documents as PDF with fpdf2. Each line is placed here, so its page and its box are known."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.document_pages import Block, PrintedDocument, PrintedLine, SourceDocument

A4 = (595.0, 842.0)
_MARGIN = 62.0
_SIZE, _LEADING = 10.5, 14.5
_CELL_PADDING = 8.0
_TITLE_SIZES = (17.0, 13.5, 11.5)
_MAX_PAGES = 3
"""Pages of one document."""


class Typesetter:
    """Sets documents in one PDF each; `font` is a file with Chinese characters."""

    def __init__(self, font: tuple[str, int] | None) -> None:
        self.font = font

    def print(self, source: SourceDocument, path: Path, max_pages: int) -> PrintedDocument:
        """Write the PDF of a document, and return where its lines are."""
        from fpdf import FPDF

        pdf = FPDF(unit="pt", format="A4")
        pdf.set_auto_page_break(auto=False)
        pdf.set_title(source.title)
        family = "Helvetica"
        if source.chinese:
            assert self.font is not None
            family = "chinese"
            pdf.add_font(family, fname=self.font[0], collection_font_number=self.font[1])
        setting = _Setting(pdf, family, PrintedDocument(source), min(max_pages, _MAX_PAGES))
        for number, block in enumerate(source.blocks):
            if not setting.place(number, block):
                break
        setting.printed.num_pages = pdf.page
        pdf.output(str(path))
        return setting.printed


class _Setting:
    """The state of setting one document."""

    def __init__(self, pdf: Any, family: str, printed: PrintedDocument, max_pages: int) -> None:
        self.pdf, self.family, self.printed = pdf, family, printed
        self.max_pages = max_pages
        pdf.add_page()
        self.y = _MARGIN

    def place(self, number: int, block: Block) -> bool:
        """Set a block; return False once the document has all its pages."""
        if block.kind == "space":
            self.y += _LEADING / 2
            return True
        size = _TITLE_SIZES[block.level] if block.kind == "heading" else _SIZE
        size = 9.0 if block.kind in ("verbatim", "row") else size
        self._set_font(block, size)
        indent = {"item": 12.0, "option": 14.0, "heading": 0.0}.get(block.kind, 0.0)
        width = A4[0] - 2 * _MARGIN - indent
        if block.kind == "row":
            return self._place_row(number, block, size, width)
        for part, text in enumerate(block.texts):
            left = _MARGIN + indent + (26.0 if part and block.kind == "option" else 0.0)
            for line in self._wrapped(text, A4[0] - _MARGIN - left, block.kind):
                if not self._place_line(number, line, left, size, part):
                    return False
        self.y += 0.0 if block.kind == "verbatim" else _LEADING / 2
        return True

    def _set_font(self, block: Block, size: float) -> None:
        is_bold = block.kind == "heading" and self.family == "Helvetica"
        is_code = block.kind == "verbatim" and self.family == "Helvetica"
        self.pdf.set_font("Courier" if is_code else self.family, "B" if is_bold else "", size)

    def _place_row(self, number: int, block: Block, size: float, width: float) -> bool:
        """Set a row of a table, each cell on as many lines as it needs."""
        columns = self._column_widths(number, width)
        cells = [
            self._wrapped(text, column - _CELL_PADDING, "row")
            for text, column in zip(block.texts, columns, strict=True)
        ]
        height = max(map(len, cells)) * size * 1.25 + 5
        if not self._has_room(height):
            return False
        top = self.y
        for index, lines in enumerate(cells):
            self.y = top
            for line in lines:
                self._place_line(number, line, _MARGIN + sum(columns[:index]), size, index)
        self.y = top + height
        self.pdf.set_draw_color(190)
        self.pdf.line(_MARGIN, self.y - 3, A4[0] - _MARGIN, self.y - 3)
        return True

    def _column_widths(self, number: int, width: float) -> list[float]:
        """Return the widths of the columns of the table with this row, as browsers choose them:
        the longest word fits, and columns with more text get more of what remains."""
        blocks = self.printed.source.blocks
        num_cells = len(blocks[number].texts)
        first = last = number
        while first > 0 and _is_row(blocks[first - 1], num_cells):
            first -= 1
        while last + 1 < len(blocks) and _is_row(blocks[last + 1], num_cells):
            last += 1
        columns = list(zip(*(block.texts for block in blocks[first : last + 1]), strict=True))
        text_width = self.pdf.get_string_width
        texts = [[self._printable(text) for text in column] for column in columns]
        max_widths = [max(map(text_width, column)) + _CELL_PADDING for column in texts]
        min_widths = [
            max((text_width(word) for text in column for word in text.split()), default=0.0)
            + _CELL_PADDING
            for column in texts
        ]
        if sum(max_widths) <= width:
            return [widest + (width - sum(max_widths)) / num_cells for widest in max_widths]
        remaining = width - sum(min_widths)
        if remaining <= 0:
            return [width * longest / sum(min_widths) for longest in min_widths]
        surplus = [b - a for a, b in zip(min_widths, max_widths, strict=True)]
        return [
            longest + remaining * more / sum(surplus)
            for longest, more in zip(min_widths, surplus, strict=True)
        ]

    def _printable(self, text: str) -> str:
        """Return a text in the characters of the font."""
        return text if self.family != "Helvetica" else _latin(text)

    def _place_line(self, number: int, text: str, left: float, size: float, cell: int) -> bool:
        height = size * (1.25 if size < _SIZE else 1.38)
        if not self._has_room(height):
            return False
        if text.strip():
            width = self.pdf.get_string_width(text)
            self.pdf.set_xy(left, self.y)
            self.pdf.cell(w=width + 1, h=height, text=text)
            top, bottom = self.y + (height - size) / 2, self.y + (height + size) / 2
            box = (left / A4[0], top / A4[1], (left + width) / A4[0], bottom / A4[1])
            self.printed.lines.append(PrintedLine(text, self.pdf.page, box, number, cell))
        self.y += height
        return True

    def _has_room(self, height: float) -> bool:
        if self.y + height <= A4[1] - _MARGIN:
            return True
        if self.pdf.page >= self.max_pages:
            return False
        self.pdf.add_page()
        self.y = _MARGIN
        return True

    def _wrapped(self, text: str, width: float, kind: str) -> list[str]:
        """Return the lines of a text, broken at blanks and between Chinese characters."""
        text = self._printable(text)
        if kind == "verbatim":
            return [text]
        lines = [""]
        for word in self._breakable(text, width):
            if lines[-1] and self.pdf.get_string_width((lines[-1] + word).rstrip()) > width:
                lines.append("")
            lines[-1] += word
        return [line.rstrip() for line in lines]

    def _breakable(self, text: str, width: float) -> Iterator[str]:
        """Yield the pieces of a text that a line may end with; a word wider than a line is cut."""
        for word in re.findall(r"[\u2e80-\uffef]|[^\s\u2e80-\uffef]+\s*|\s+", text):
            start = 0
            for end in range(1, len(word.rstrip())):
                if self.pdf.get_string_width(word[start : end + 1]) > width:
                    yield word[start:end]
                    start = end
            yield word[start:]


def _is_row(block: Block, num_cells: int) -> bool:
    return block.kind == "row" and len(block.texts) == num_cells


def _latin(text: str) -> str:
    """Return a text in the characters of the standard fonts."""
    table = {"→": "->", "≥": ">=", "≤": "<=", "–": "-", "—": "-", "‐": "-", "−": "-", "…": "..."}
    table |= {"“": '"', "”": '"', "‘": "'", "’": "'", "•": "*", "×": "x"}
    return "".join(table.get(c, c) for c in text).encode("latin-1", "replace").decode("latin-1")


def chinese_font() -> tuple[str, int] | None:
    """Return a font with Chinese characters and its number in the file; None without one."""
    if shutil.which("fc-match") is None:
        return None
    command = ["fc-match", "-f", "%{file}\t%{index}", "sans:lang=zh-cn"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    file, _, index = result.stdout.partition("\t")
    query = ["fc-query", "-f", "%{lang}\n", file]
    languages = subprocess.run(query, capture_output=True, text=True, check=False)
    return (file, int(index or 0)) if "zh-cn" in languages.stdout else None
