"""Read PDF files: the text of their pages with boxes, and images of pages on demand.

A page is an image source: `report.pdf#page=3`, or a `PdfPage` of a file in memory. PDFium runs in
a child process (`pdf_worker`), so that a hostile file costs bounded time and memory.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from ravlm.data.child_process import ChildProcess
from ravlm.errors import BrokenData, MissingExtra, NotFound
from ravlm.records import DocumentBytes, ImageSource, PdfPage
from ravlm.runtime import has_packages

DPI = 200.0
"""Resolution of a page image; OCR reads print of six points at it."""
PDF_SUFFIX = ".pdf"
_MAX_PAGES = 100_000
"""Pages of one file."""
_PAGE = re.compile(r"(.+)#page=([1-9][0-9]{0,6})", re.DOTALL)
_MAGIC = b"%PDF-"
_BLANKS = b"\xef\xbb\xbf \t\r\n\x00"
_HEAD_BYTES = 1024
"""Bytes in which PDFium looks for the header."""
_OVERSAMPLING = 2
"""A page is rendered at this many times the requested size, and shrunk: thin lines stay."""
_MAX_MEMORY = 1_500_000_000
"""Bytes that the child process may allocate."""
_CPU_SECONDS = 20
"""Processor time of one page."""
_SECONDS = 120.0
"""Time of one page, on a machine that does other work."""
_LOOKAHEAD = 4
"""Pages that the child reads ahead."""
_MAX_FAILURES = 5
"""Pages of one file that end the child process; after them, the rest of the file is left out."""
_TOO_MUCH = "It takes too much time or memory to read."
_MAX_FILES = 4
"""Files in memory that are kept on disk for the child."""
_IDLE_SECONDS = 20.0
"""Time after which the process that renders pages ends."""


@dataclass(frozen=True)
class PdfSummary:
    """Number of pages, title and outline of a PDF."""

    num_pages: int
    title: str = ""
    outline: tuple[tuple[int, str, int], ...] = ()
    """Level (from 0), title and page (from 1) of each bookmark."""

    def section_of(self, page: int) -> str:
        """Return the first bookmark of a page, or else the last one before it; "" without one."""
        number = bisect_left(self._bookmarks, (page,))
        if number < len(self._bookmarks) and self._bookmarks[number][0] == page:
            return self._bookmarks[number][2]
        return self._bookmarks[number - 1][2] if number else ""

    @cached_property
    def _bookmarks(self) -> list[tuple[int, int, str]]:
        """Page, position in the outline, and title of each bookmark, by pages."""
        return sorted((page, row, title) for row, (_, title, page) in enumerate(self.outline))


@dataclass(frozen=True)
class PdfPageText:
    """The text of a page, or why it can't be read."""

    number: int
    regions: list[dict[str, Any]] = field(default_factory=list)
    """The JSON form of each region, in reading order; empty for a scan."""
    is_blank: bool = False
    """Whether nothing is on the page."""
    error: str = ""


def is_pdf(head: bytes) -> bool:
    """Return whether `head`, the beginning of a file, is that of a PDF."""
    return head[:_HEAD_BYTES].lstrip(_BLANKS).startswith(_MAGIC)


def is_pdf_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a PDF; one with that suffix may have other bytes before its header.

    Archives and tables may begin with a PDF that they contain, too.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError):
        return False
    return is_pdf(head) or (os.fspath(path).lower().endswith(PDF_SUFFIX) and _MAGIC in head)


def split_page_path(image: object) -> tuple[str, int] | None:
    """Return file and page of a path like `report.pdf#page=3`; None for any other image.

    >>> split_page_path("report.pdf#page=3")
    ('report.pdf', 3)
    """
    if not isinstance(image, str | os.PathLike):
        return None
    path = os.fspath(image)
    match = _PAGE.fullmatch(path) if isinstance(path, str) and "#page=" in path else None
    if match is None or "://" in match[1] or os.path.exists(path):
        return None
    return match[1], int(match[2])


def image_file(image: str) -> str:
    """Return the file that holds an image: its path, without the page of a document."""
    page = split_page_path(image)
    return image if page is None else page[0]


def page_path(path: str, page: int) -> str:
    """Return the image source of a page of the PDF at `path`."""
    return f"{path}#page={page}"


class PdfReader:
    """A child process that reads PDF files, which are named by their path or given as bytes.

    Methods may be called by several threads; they wait for each other. Raises MissingExtra without
    pypdfium2.
    """

    def __init__(self) -> None:
        if not has_packages("pypdfium2"):
            raise MissingExtra("pypdfium2", "documents", "Reading PDF files")
        self._lock = threading.Lock()
        self._process: ChildProcess | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: OrderedDict[str, str] = OrderedDict()  # hash -> path
        self._hashes: dict[tuple[str, int, int], str] = {}

    def __enter__(self) -> PdfReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.end()
            self._process = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
            self._files.clear()

    def summary(self, path: str | os.PathLike[str]) -> PdfSummary:
        """Return number of pages, title and outline. Raises NotFound or BrokenData."""
        with self._lock:
            header, _ = self._call({"task": "open", "path": _checked_path(path)})
        if header["pages"] > _MAX_PAGES:
            raise BrokenData(
                f"It has {header['pages']:,} pages; at most {_MAX_PAGES:,} are read. Split the "
                "file."
            )
        outline = tuple((level, title, page) for level, title, page in header["outline"])
        return PdfSummary(header["pages"], header["title"], outline)

    def read_page(self, path: str | os.PathLike[str], number: int) -> PdfPageText:
        """Return the text of one page, from 1. Raises NotFound."""
        with self._lock:
            request = {"task": "text", "path": _checked_path(path), "page": number}
            try:
                header, _ = self._call(request)
            except BrokenData as error:
                return PdfPageText(number, error=str(error))
        return _page_text(number, header)

    def read_pages(self, path: str | os.PathLike[str], num_pages: int) -> Iterator[PdfPageText]:
        """Yield the text of each page; while one is used, the next ones are read.

        A file of which several pages take too much time or memory is read no further.
        """
        path = _checked_path(path)
        number, num_sent, num_failures = 0, 0, 0
        with self._lock:
            try:
                while number < num_pages and num_failures < _MAX_FAILURES:
                    process = self._running()
                    while num_sent < min(num_pages, number + _LOOKAHEAD):
                        num_sent += 1
                        process.send({"task": "text", "path": path, "page": num_sent})
                    message = process.receive(_SECONDS)
                    number += 1
                    if message is None:
                        num_failures += 1
                        num_sent = number  # what was sent after this page is lost
                        yield PdfPageText(number, error=_TOO_MUCH)
                    else:
                        yield _page_text(number, message[0])
            finally:
                if num_sent > number and self._process is not None:
                    self._process.end()  # nobody reads the answers that are to come
        for skipped in range(number + 1, num_pages + 1):
            yield PdfPageText(skipped, error=f"{_MAX_FAILURES} pages before it took too much time.")

    def render(self, source: ImageSource, edge: int | None = None) -> Image.Image:
        """Return the image of a page on white: a `file.pdf#page=3` or a `PdfPage`.

        At 200 dpi, or smaller if its shorter side keeps `edge` pixels; a large page is smaller, so
        that it has 16 million pixels at most. Raises NotFound or BrokenData.
        """
        with self._lock:
            path, page = self._file_and_page(source)
            target = None if edge is None else _OVERSAMPLING * edge
            request = {"task": "render", "path": path, "page": page, "dpi": DPI, "edge": target}
            header, pixels = self._call(request)
        width, height = header["size"]
        image = Image.frombytes("RGB", (width, height), pixels)
        if edge is not None and min(width, height) > edge:
            scale = edge / min(width, height)
            size = max(edge, round(width * scale)), max(edge, round(height * scale))
            image = image.resize(size, Image.Resampling.BOX)
        return image

    def sha256(self, path: str) -> str:
        """Return the SHA-256 of a file, which is read again only if it has changed.

        Raises NotFound or BrokenData.
        """
        path = _checked_path(path)
        try:
            status = os.stat(path)
            key = path, status.st_mtime_ns, status.st_size
            if key not in self._hashes:
                with open(path, "rb") as file:
                    self._hashes[key] = hashlib.file_digest(file, "sha256").hexdigest()
            return self._hashes[key]
        except OSError as error:
            raise BrokenData(f'"{path}" can\'t be read: {error.strerror}.') from None

    def _file_and_page(self, source: ImageSource) -> tuple[str, int]:
        if isinstance(source, PdfPage):
            return self.file_of(source.document), source.page
        location = split_page_path(source)
        assert location is not None
        return _checked_path(location[0]), location[1]

    def file_of(self, document: DocumentBytes) -> str:
        """Return the path of a file in memory, which is written for the child to read."""
        name = document.sha256
        if name not in self._files:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="ravlm-pdf-")
            path = Path(self._folder.name) / f"{name}.pdf"
            path.write_bytes(document.data)
            self._files[name] = str(path)
            if len(self._files) > _MAX_FILES:
                Path(self._files.popitem(last=False)[1]).unlink(missing_ok=True)
        self._files.move_to_end(name)
        return self._files[name]

    def _running(self) -> ChildProcess:
        if self._process is None or not self._process.alive:
            if self._process is not None:
                self._process.end()
            arguments = (str(_MAX_MEMORY), str(_CPU_SECONDS))
            self._process = ChildProcess("ravlm.data.pdf_worker", *arguments)
        return self._process

    def _call(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        message = self._running().call(request, b"", _SECONDS)
        if message is None:
            raise BrokenData(_TOO_MUCH)
        if "error" in message[0]:
            raise BrokenData(message[0]["error"])
        return message


def is_page(source: object) -> bool:
    """Return whether an image source is a page of a PDF."""
    return isinstance(source, PdfPage) or split_page_path(source) is not None


class _SharedReader:
    """One reader of pages for the whole program; its process ends when it is idle."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reader: PdfReader | None = None
        self._pid = 0
        self._timer: threading.Timer | None = None

    @contextmanager
    def open(self) -> Iterator[PdfReader]:
        """Yield the reader to one thread at a time."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._reader is None or self._pid != os.getpid():  # a fork shares the pipes
                self._reader, self._pid = PdfReader(), os.getpid()
            try:
                yield self._reader
            finally:
                self._timer = threading.Timer(_IDLE_SECONDS, self._close)
                self._timer.daemon = True
                self._timer.start()

    def _close(self) -> None:
        with self._lock:
            if self._reader is not None and self._pid == os.getpid():
                self._reader.close()
                self._reader = None


_SHARED = _SharedReader()


def render_page(source: ImageSource, edge: int | None = None) -> Image.Image:
    """Return the image of a page, as `PdfReader.render` does. Raises NotFound or BrokenData."""
    try:
        with _SHARED.open() as reader:
            return reader.render(source, edge)
    except BrokenData as error:
        name = f"Page {source.page} of the PDF" if isinstance(source, PdfPage) else f'"{source!s}"'
        raise BrokenData(f"{name} can't be rendered: {error}") from None


def file_sha256(path: str) -> str:
    """Return the SHA-256 of a PDF, as `PdfReader.sha256` does."""
    with _SHARED.open() as reader:
        return reader.sha256(path)


def _checked_path(path: str | os.PathLike[str]) -> str:
    if not os.path.isfile(path):
        raise NotFound(f'There is no file "{path}"; check the path.')
    return os.path.abspath(path)


def _page_text(number: int, header: dict[str, Any]) -> PdfPageText:
    if "error" in header:
        return PdfPageText(number, error=header["error"])
    regions = []
    for kind, text, box, confidence in header["regions"]:
        region = {"text": text, "box": box, "page": number, "kind": kind}
        regions.append(region if confidence == 1 else {**region, "confidence": confidence})
    return PdfPageText(number, regions, header["blank"])
