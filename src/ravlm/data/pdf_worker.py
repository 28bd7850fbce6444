"""The child process that reads PDF files: it opens, extracts and renders pages on request.

PDFium parses untrusted files. Here it has limits of memory and processor time that the
operating system enforces, and can be killed. Scripts, embedded files and links are not touched.
Values of forms are read. `pdf` starts the process.
"""

from __future__ import annotations

import os
import sys
from ctypes import c_char, create_string_buffer, string_at
from typing import Any

from pypdfium2 import raw

from ravlm.data.child_process import limit_cpu, limit_memory, read_message, write_message
from ravlm.data.pdf_text import page_regions
from ravlm.errors import BrokenData
from ravlm.regions import Box

_PAGES_PER_OPENING = 200
"""Pages after which a document is opened again: PDFium keeps what it read."""
_MAX_PIXELS = 16_000_000
"""Pixels of a rendered page; a page of more is rendered smaller."""
_POINTS_PER_INCH = 72
_DIGITS = 5
"""Decimal places of boxes: a hundredth of a point."""
_MAX_ANNOTATIONS = 500
"""Annotations of a page that are searched for fields of a form."""
_MAX_BOOKMARKS = 5000
_MAX_TITLE = 300
_OPEN_ERRORS = {
    raw.FPDF_ERR_FILE: "It can't be opened.",
    raw.FPDF_ERR_FORMAT: "It is damaged, or not a PDF; write it again.",
    raw.FPDF_ERR_PASSWORD: "It is encrypted with a password; save it without one.",
    raw.FPDF_ERR_SECURITY: "It is encrypted in a way that is not supported; save it without.",
}


class OpenPdf:
    """The document that is open; another one replaces it."""

    def __init__(self) -> None:
        self._state: tuple[str, int, int] | None = None
        """Path, time of change and size of the file."""
        self._handle: Any = None
        self._num_loaded = 0

    def open(self, path: str) -> Any:
        """Return the handle of the document at `path`. Raises BrokenData."""
        status = os.stat(path)
        state = path, status.st_mtime_ns, status.st_size
        if state == self._state and self._num_loaded < _PAGES_PER_OPENING:
            return self._handle
        if self._handle:
            raw.FPDF_CloseDocument(self._handle)
        self._state = None
        self._num_loaded = 0
        self._handle = raw.FPDF_LoadDocument(os.fsencode(path), None)
        if not self._handle:
            reason = _OPEN_ERRORS.get(raw.FPDF_GetLastError(), "It is damaged; write it again.")
            raise BrokenData(reason)
        self._state = state
        return self._handle

    def load_page(self, path: str, number: int) -> Any:
        """Return the handle of a page, from 1; the caller closes it. Raises BrokenData."""
        document = self.open(path)
        num_pages = raw.FPDF_GetPageCount(document)
        if not 1 <= number <= num_pages:
            raise BrokenData(f"It has {num_pages} pages, and no page {number}.")
        self._num_loaded += 1
        page = raw.FPDF_LoadPage(document, number - 1)
        if page and _has_fields(page):
            raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY)  # in memory
            raw.FPDF_ClosePage(page)
            page = raw.FPDF_LoadPage(document, number - 1)
        if not page:
            raise BrokenData(f"Its page {number} is damaged.")
        return page


def _has_fields(page: Any) -> bool:
    """Return whether a page has fields of a form, whose values are not part of its content."""
    for number in range(min(raw.FPDFPage_GetAnnotCount(page), _MAX_ANNOTATIONS)):
        annotation = raw.FPDFPage_GetAnnot(page, number)
        is_field = raw.FPDFAnnot_GetSubtype(annotation) == raw.FPDF_ANNOT_WIDGET
        raw.FPDFPage_CloseAnnot(annotation)
        if is_field:
            return True
    return False


def document_summary(document: Any) -> dict[str, Any]:
    """Return number of pages, title and outline ([level, title, page] each) of a document."""
    return {
        "pages": raw.FPDF_GetPageCount(document),
        "title": _utf16(lambda *buffer: raw.FPDF_GetMetaText(document, b"Title", *buffer)),
        "outline": _outline(document),
    }


def _outline(document: Any) -> list[tuple[int, str, int]]:
    """Return level (from 0), title and page (from 1) of the bookmarks, in their order."""
    entries: list[tuple[int, str, int]] = []
    stack = [(0, raw.FPDFBookmark_GetFirstChild(document, None))]
    num_visited = 0
    while stack and num_visited < _MAX_BOOKMARKS:  # a damaged outline may be a circle
        level, bookmark = stack.pop()
        if not bookmark:
            continue
        num_visited += 1
        stack.append((level, raw.FPDFBookmark_GetNextSibling(document, bookmark)))
        stack.append((level + 1, raw.FPDFBookmark_GetFirstChild(document, bookmark)))
        target = raw.FPDFBookmark_GetDest(document, bookmark)
        page = raw.FPDFDest_GetDestPageIndex(document, target) if target else -1
        title = _utf16(lambda *buffer, mark=bookmark: raw.FPDFBookmark_GetTitle(mark, *buffer))
        if page >= 0 and title:
            entries.append((level, title, page + 1))
    return entries


def _utf16(read: Any) -> str:
    """Return what a function of PDFium writes into a buffer, on one line."""
    size = min(read(None, 0), 100_000)
    if size <= 2:
        return ""
    buffer = create_string_buffer(size)
    read(buffer, size)
    text = buffer.raw[: size - 2].decode("utf-16-le", "ignore")
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:_MAX_TITLE]


def rendered_size(width: float, height: float, dpi: float, edge: int | None) -> tuple[int, int]:
    """Return the size in pixels of a page of `width` x `height` points.

    At `dpi`, or smaller if the shorter side keeps `edge` pixels. Never more than 16 million pixels.
    """
    width, height = max(width, 1.0), max(height, 1.0)
    scale = dpi / _POINTS_PER_INCH
    if edge is not None:
        scale = edge / min(width, height)
    scale = min(scale, (_MAX_PIXELS / (width * height)) ** 0.5)
    return max(1, int(width * scale)), max(1, int(height * scale))


def render(page: Any, dpi: float, edge: int | None) -> tuple[tuple[int, int], bytes]:
    """Return size and RGB bytes of a page on white. Raises BrokenData."""
    points = raw.FPDF_GetPageWidthF(page), raw.FPDF_GetPageHeightF(page)
    width, height = size = rendered_size(*points, dpi, edge)
    pixels = (c_char * (width * height * 3))()
    bitmap = raw.FPDFBitmap_CreateEx(width, height, raw.FPDFBitmap_BGR, pixels, width * 3)
    if not bitmap:
        raise BrokenData(f"It can't be rendered to {width} x {height} pixels.")
    try:
        raw.FPDFBitmap_FillRect(bitmap, 0, 0, width, height, 0xFFFFFFFF)
        flags = raw.FPDF_ANNOT | raw.FPDF_REVERSE_BYTE_ORDER
        raw.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width, height, 0, flags)
        return size, string_at(pixels, len(pixels))
    finally:
        raw.FPDFBitmap_Destroy(bitmap)


def answer(current: OpenPdf, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Carry out a request. Raises BrokenData."""
    path = request["path"]
    if request["task"] == "open":
        return document_summary(current.open(path)), b""
    page = current.load_page(path, request["page"])
    try:
        if request["task"] == "render":
            size, pixels = render(page, request["dpi"], request["edge"])
            return {"size": size}, pixels
        regions = page_regions(page, request["page"])
        is_blank = not regions and raw.FPDFPage_CountObjects(page) == 0
        rows = [(r.kind, r.text, _rounded(r.box), r.confidence) for r in regions]
        return {"regions": rows, "blank": is_blank}, b""
    finally:
        raw.FPDF_ClosePage(page)


def _rounded(box: Box | None) -> list[float] | None:
    return None if box is None else [round(share, _DIGITS) for share in box]


def main(max_bytes: int, cpu_seconds: int) -> None:
    """Answer requests until stdin ends."""
    requests, results = sys.stdin.buffer, sys.stdout.buffer
    limit_memory(max_bytes)
    current = OpenPdf()
    while (message := read_message(requests)) is not None:
        limit_cpu(cpu_seconds)
        try:
            header, data = answer(current, message[0])
        except (BrokenData, OSError) as error:
            header, data = {"error": str(error)}, b""
        except MemoryError:
            header, data = {"error": "It takes too much memory."}, b""
        write_message(results, header, data)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
