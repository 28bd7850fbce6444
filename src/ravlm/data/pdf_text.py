"""Extract the text of a PDF page with PDFium: lines with boxes, grouped into regions.

Runs in the child process of `pdf_worker`; handles are those of PDFium's C interface.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ctypes import byref, c_double, c_float, c_int, c_ushort, create_string_buffer
from typing import Any, TypeAlias

from pypdfium2 import raw

from ravlm.data.page_layout import find_blocks, to_regions
from ravlm.data.reading_order import TextSegment
from ravlm.data.table_layout import CELL_GAP
from ravlm.errors import BrokenData
from ravlm.regions import Box, Region, relative_box

_MAX_CHARACTERS = 500_000
"""Characters of a page; a dense one has 10,000."""
_UNTRUSTED = 0.2
"""Confidence of text whose font does not say which characters its glyphs are."""
_MAX_UNMAPPED = 0.3
"""Share of such characters above which no text of the page is trusted."""
_SAMPLE = 32
_MAX_LOOSE_RATIO = 3.5
"""Height of a font's box in that of the glyphs above which the font's box is wrong."""
_MAX_OBJECTS = 2000
"""Objects of a page of which the images are looked for."""
_FIGURE_AREA = (0.02, 0.95)
"""Share of the page that a figure has; a larger one is a scan or a background."""
_DEVICE = 1_000_000
"""Width and height to which PDFium maps the page: it returns whole numbers."""
_HYPHEN = re.compile("[\x02\ufffe]")
_LINE = re.compile("[^\r\n\x02\ufffe]+[\x02\ufffe]?")
"""PDFium writes nothing between the hyphen at the end of a line and the next line."""
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\uffff]")
_UNMAPPED = re.compile("[\x00\x01\x03-\x08\x0e-\x1f\ufffd\ue000-\uf8ff]")
_BLANKS = re.compile(r"\s+")
_BOLD_WEIGHT = 600
_BOLD_NAME = re.compile(rb"(?:Bold|BOLD|[-,_ ]bold|Black|Heavy|Demi)(?![a-z])|CMBX")
"""Names of bold fonts; PDFium knows no weight of the standard fonts."""
_MAX_FONT_NAME = 128

Rect: TypeAlias = tuple[float, float, float, float]
"""Left, bottom, right, top in the PDF's coordinates."""
PageMap: TypeAlias = tuple[float, float, float, float, float, float]
"""Maps a point of the PDF to shares of the page as displayed: (x0, xx, xy, y0, yx, yy)."""


def page_regions(page: Any, number: int) -> list[Region]:
    """Return the regions of a page, in reading order. Raises BrokenData."""
    handle = raw.FPDFText_LoadPage(page)
    if not handle:
        raise BrokenData("Its text can't be read.")
    try:
        text = PdfTextLayer(page, handle)
        if not text.segments:
            return []
        trust = [_UNTRUSTED if text.is_unmapped() else 1.0] * len(text.boxes)
        width, height = text.layout_size
        blocks = find_blocks(text.segments, width, height, _figures(page, text.map))
        return to_regions(blocks, text.boxes, number, trust)
    finally:
        raw.FPDFText_ClosePage(handle)


class PdfTextLayer:
    """The lines of a page: segments in layout coordinates, and their boxes on the page."""

    def __init__(self, page: Any, handle: Any) -> None:
        self.handle = handle
        self.size = raw.FPDF_GetPageWidthF(page), raw.FPDF_GetPageHeightF(page)
        self.map = _page_map(page)
        self.segments: list[TextSegment] = []
        self.boxes: list[Box] = []
        self._corners = (c_double(), c_double(), c_double(), c_double())
        self._pointers = tuple(map(byref, self._corners))
        left, right, bottom, top = self._pointers
        self._rect_pointers = (left, top, right, bottom)
        self._loose = raw.FS_RECTF()
        self._loose_pointer = byref(self._loose)
        self._font_name = create_string_buffer(_MAX_FONT_NAME)
        self._font_flags_pointer = byref(c_int())
        count = raw.FPDFText_CountChars(handle)
        if count > _MAX_CHARACTERS:
            raise BrokenData(f"It has {count:,} characters; at most {_MAX_CHARACTERS:,} are read.")
        self.count = max(count, 0)
        self.text = self._read_text()
        self._is_indexed = self.count > 0 and (
            raw.FPDFText_GetTextIndexFromCharIndex(handle, self.count - 1) != self.count - 1
        )
        lines = list(self._lines())
        self._direction = self._find_direction(lines)
        for start, end in lines:
            self._add_line(start, end)

    @property
    def layout_size(self) -> tuple[float, float]:
        """Width and height of the page once its text is horizontal."""
        width, height = self.size
        return (width, height) if self._direction == 0 else (height, width)

    def is_unmapped(self) -> bool:
        """Return whether the fonts do not say which characters their glyphs are."""
        letters = _BLANKS.sub("", self.text)
        if not letters:
            return False
        if len(_UNMAPPED.findall(letters)) > _MAX_UNMAPPED * len(letters):
            return True
        step = max(1, self.count // _SAMPLE)
        sample = range(0, self.count, step)
        errors = sum(raw.FPDFText_HasUnicodeMapError(self.handle, i) == 1 for i in sample)
        return errors > _MAX_UNMAPPED * len(sample)

    def _read_text(self) -> str:
        if not self.count:
            return ""
        buffer = (c_ushort * (2 * self.count + 2))()
        length = raw.FPDFText_GetText(self.handle, 0, self.count, buffer)
        data = memoryview(buffer).cast("B")[: 2 * max(length - 1, 0)]
        return bytes(data).decode("utf-16-le", "replace")

    def _lines(self) -> Iterator[tuple[int, int]]:
        """Yield start and end, in `text`, of each line that is not blank."""
        for match in _LINE.finditer(self.text):
            line = match[0]
            stripped = line.strip()
            if stripped:
                start = match.start() + len(line) - len(line.lstrip())
                yield start, start + len(stripped)

    def _find_direction(self, lines: Sequence[tuple[int, int]]) -> int:
        """Return the direction of most lines: 0 horizontal, 1 downwards, -1 upwards."""
        votes = {0: 0, 1: 0, -1: 0}
        long_lines = [line for line in lines if line[1] - line[0] >= 4]
        for start, end in long_lines[:: max(1, len(long_lines) // 8)]:
            first, last = (
                _page_box(self.map, self._char_box(self._char_index(i))) for i in (start, end - 1)
            )
            dx = (last[0] + last[2] - first[0] - first[2]) * self.size[0]
            dy = (last[1] + last[3] - first[1] - first[3]) * self.size[1]
            votes[0 if abs(dx) >= abs(dy) else 1 if dy > 0 else -1] += end - start
        return max(votes, key=lambda direction: votes[direction])

    def _char_index(self, text_index: int) -> int:
        if not self._is_indexed:
            return text_index
        return max(0, raw.FPDFText_GetCharIndexFromTextIndex(self.handle, text_index))

    def _add_line(self, start: int, end: int) -> None:
        first = self._char_index(start)
        count = self._char_index(end - 1) - first + 1
        num_rects = raw.FPDFText_CountRects(self.handle, first, count)
        if num_rects <= 0:
            return
        left, right, bottom, top = self._corners
        rects = []
        for number in range(num_rects):
            raw.FPDFText_GetRect(self.handle, number, *self._rect_pointers)
            rects.append((left.value, bottom.value, right.value, top.value))
        if num_rects == 1:
            self._add(start, end, rects[0])
        elif self._has_gaps(rects):
            self._add_split_line(start, end)
        else:
            self._add(start, end, _union(rects))

    def _has_gaps(self, rects: Sequence[Rect]) -> bool:
        """Return whether the rectangles of a line are far apart, so that it must be split."""
        limit = CELL_GAP * max(min(r[2] - r[0], r[3] - r[1]) for r in rects)
        previous = rects[0]
        for rect in rects[1:]:
            if _distance(previous, rect) > limit:
                return True
            previous = rect
        return False

    def _add_split_line(self, start: int, end: int) -> None:
        """Add the pieces of a line between its wide gaps, by the boxes of its characters."""
        pieces: list[tuple[int, int, list[Rect]]] = []
        height = 0.0
        for position in range(start, end):
            if self.text[position].isspace():
                continue
            box = self._char_box(self._char_index(position))
            height = max(height, min(box[3] - box[1], 4 * (box[2] - box[0])))
            if pieces and _distance(pieces[-1][2][-1], box) <= CELL_GAP * height:
                pieces[-1][2].append(box)
                pieces[-1] = (pieces[-1][0], position + 1, pieces[-1][2])
            else:
                pieces.append((position, position + 1, [box]))
        for first, last, boxes in pieces:
            self._add(first, last, _union(boxes))

    def _char_box(self, index: int) -> Rect:
        """Return left, bottom, right, top of a character in the PDF's coordinates."""
        raw.FPDFText_GetCharBox(self.handle, index, *self._pointers)
        left, right, bottom, top = self._corners
        return left.value, bottom.value, right.value, top.value

    def _add(self, start: int, end: int, rect: Rect) -> None:
        """Add a segment of `text` with its rectangle, as high as its font."""
        text = _clean(self.text[start:end])
        if not text:
            return
        index = self._char_index(start)
        if self._direction == 0:
            rect = self._with_font_height(rect, index)
        box = _page_box(self.map, rect)
        if box[2] - box[0] <= 0 or box[3] - box[1] <= 0:
            return  # outside of the page
        layout = self._layout_box(box)
        self.segments.append(TextSegment(text, *layout, len(self.boxes), self._is_bold(index)))
        self.boxes.append(box)

    def _is_bold(self, index: int) -> bool:
        """Return whether the font of a character is bold, by its weight or its name."""
        if raw.FPDFText_GetFontWeight(self.handle, index) >= _BOLD_WEIGHT:
            return True
        raw.FPDFText_GetFontInfo(
            self.handle, index, self._font_name, _MAX_FONT_NAME, self._font_flags_pointer
        )
        return _BOLD_NAME.search(self._font_name.value) is not None

    def _with_font_height(self, rect: Rect, index: int) -> Rect:
        """Return the rectangle with the height of the font, the same for all lines of a text."""
        left, bottom, right, top = rect
        if not raw.FPDFText_GetLooseCharBox(self.handle, index, self._loose_pointer):
            return rect
        low, high = self._loose.bottom, self._loose.top
        is_usable = 0 < high - low <= _MAX_LOOSE_RATIO * (top - bottom)
        if not is_usable or low > top or high < bottom or self.map[2]:
            return rect
        return left, min(bottom, low), right, max(top, high)

    def _layout_box(self, box: Box) -> Box:
        """Return a box in points, turned so that the text is horizontal."""
        width, height = self.size
        left, top, right, bottom = (
            box[0] * width, box[1] * height, box[2] * width, box[3] * height,
        )  # fmt: skip
        if self._direction == 1:
            return top, width - right, bottom, width - left
        if self._direction == -1:
            return height - bottom, left, height - top, right
        return left, top, right, bottom


def _union(rects: Sequence[Rect]) -> Rect:
    """Return the rectangle (left, bottom, right, top) around all of them."""
    lefts, bottoms, rights, tops = zip(*rects, strict=True)
    return min(lefts), min(bottoms), max(rights), max(tops)


def _distance(first: Rect, second: Rect) -> float:
    """Return the gap between two rectangles, the larger of both axes; 0 if they overlap."""
    return max(
        second[0] - first[2], first[0] - second[2], second[1] - first[3], first[1] - second[3], 0.0
    )


def _clean(text: str) -> str:
    """Return text without control characters; the hyphen of a divided word becomes a soft one."""
    if text.isascii() and text.isprintable():
        return text
    text = _CONTROL.sub("", _HYPHEN.sub("\u00ad", text))
    return _BLANKS.sub(" ", text).strip()


def _page_map(page: Any) -> PageMap:
    """Return PDFium's own map from PDF coordinates to the page as it is displayed."""
    x, y = c_int(), c_int()
    pointers = byref(x), byref(y)
    points = []
    for px, py in ((0.0, 0.0), (100.0, 0.0), (0.0, 100.0)):
        raw.FPDF_PageToDevice(page, 0, 0, _DEVICE, _DEVICE, 0, px, py, *pointers)
        points.append((x.value / _DEVICE, y.value / _DEVICE))
    (x0, y0), (x1, y1), (x2, y2) = points
    return (x0, (x1 - x0) / 100, (x2 - x0) / 100, y0, (y1 - y0) / 100, (y2 - y0) / 100)


def _page_box(page_map: PageMap, rect: Rect) -> Box:
    """Return a rectangle of the PDF as shares of the page, cut off at its edges."""
    x0, xx, xy, y0, yx, yy = page_map
    left, bottom, right, top = rect
    x1, x2 = x0 + xx * left + xy * bottom, x0 + xx * right + xy * top
    y1, y2 = y0 + yx * left + yy * bottom, y0 + yx * right + yy * top
    left, right = (x1, x2) if x1 <= x2 else (x2, x1)
    top, bottom = (y1, y2) if y1 <= y2 else (y2, y1)
    box = left, top, right, bottom
    is_inside = left >= 0 and top >= 0 and right <= 1 and bottom <= 1
    return box if is_inside else relative_box(box, 1.0, 1.0)  # which is slower


def _figures(page: Any, page_map: PageMap) -> list[Box]:
    """Return the boxes of the images of a page, as shares of it."""
    count = raw.FPDFPage_CountObjects(page)
    if count > _MAX_OBJECTS:
        return []
    edges = (c_float(), c_float(), c_float(), c_float())
    pointers = tuple(map(byref, edges))
    boxes: list[Box] = []
    for number in range(count):
        item = raw.FPDFPage_GetObject(page, number)
        if raw.FPDFPageObj_GetType(item) != raw.FPDF_PAGEOBJ_IMAGE:
            continue
        if not raw.FPDFPageObj_GetBounds(item, *pointers):
            continue
        left, bottom, right, top = edges
        box = _page_box(page_map, (left.value, bottom.value, right.value, top.value))
        if _FIGURE_AREA[0] <= (box[2] - box[0]) * (box[3] - box[1]) <= _FIGURE_AREA[1]:
            boxes.append(box)
    return boxes
