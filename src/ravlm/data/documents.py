"""Expand rows that name a document into one row per page.

A row whose image is a PDF (a path, or the bytes of one in a shard or table) becomes a row per page:
its id is `report.pdf#page=3`, its image is the page, and its regions are the text of the page. A
DOCX, PPTX or HTML file becomes a row per section or slide, with its text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ravlm.data.carried_context import bottom_section, first_kind, page_titles, top_section
from ravlm.data.images import is_address
from ravlm.data.office import OfficeReader, is_office_file
from ravlm.data.pdf import (
    PDF_SUFFIX,
    PdfPageText,
    PdfReader,
    PdfSummary,
    is_pdf,
    is_pdf_file,
    page_path,
    split_page_path,
)
from ravlm.data.rows import Quarantined, Row
from ravlm.data.table_text import with_continued_head
from ravlm.errors import RavlmError
from ravlm.records import DocumentBytes, PdfPage
from ravlm.regions import Region

_MAX_LISTED = 20
"""Blank pages that a note lists."""


def expand_documents(rows: Iterable[Row | Quarantined]) -> Iterator[Row | Quarantined]:
    """Yield `rows`, those that name a document as one row per page.

    A page that can't be read is quarantined, and the others are read.
    """
    with ExitStack() as stack:
        documents = _DocumentExpansion(stack)
        for row in rows:
            if isinstance(row, Quarantined):
                yield row
            else:
                yield from documents.expand(row)


class _DocumentExpansion:
    """Expands rows with one process for all files of a kind, started for the first one."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._pdf: PdfReader | None = None
        self._office: OfficeReader | None = None

    def expand(self, row: Row) -> Iterator[Row | Quarantined]:
        """Yield the pages of a row's document, or the row itself if it has none."""
        image: Any = row.values.get("image")
        if not _is_document(row, image):
            yield row
            return
        try:
            if isinstance(image, str) and is_office_file(image):
                self._office = self._office or self._stack.enter_context(OfficeReader())
                yield from _section_rows(self._office, row, image)
            else:
                self._pdf = self._pdf or self._stack.enter_context(PdfReader())
                yield from _PdfRows(self._pdf, row, image).rows()
        except RavlmError as error:
            is_named = isinstance(image, str) and os.path.basename(image) in row.location
            prefix = "" if is_named else f"{_document_name(row)}: "
            yield Quarantined(row.location, f"{prefix}{error}")


def _is_document(row: Row, image: Any) -> bool:
    """Return whether the image of a row is a document: bytes, its path, or the path of a page whose
    text the row does not have."""
    if isinstance(image, bytes):
        return is_pdf(image)
    if not isinstance(image, str) or is_address(image):
        return False
    path = os.path.join(row.folder, image)
    location = split_page_path(path)
    if location is not None:
        return "regions" not in row.values and is_pdf_file(location[0])
    return (is_office_file(image) or image.lower().endswith(PDF_SUFFIX)) and os.path.isfile(path)


def _document_name(row: Row) -> str:
    image, id_ = row.values.get("image"), row.values.get("id")
    return f'"{image if isinstance(image, str) else id_ or "the PDF"}"'


def _section_rows(reader: OfficeReader, row: Row, image: str) -> Iterator[Row]:
    """Yield a row per section of a DOCX, PPTX or HTML file. Raises as OfficeReader."""
    file = _file_name(row, image)
    name = str(row.values.get("id") or file)
    row_values = {key: value for key, value in row.values.items() if key != "image"}
    title = ""
    for section in reader.sections(os.path.join(row.folder, image)):
        title = title or section.title or Path(file).stem
        values: dict[str, Any] = {"title": title}
        if section.title:
            values["section"] = section.title
        values |= row_values | {"file": file}
        if section.slide is not None:
            values["page"] = section.slide
        part = f"section={section.number}" if section.slide is None else f"slide={section.slide}"
        values["id"] = f"{name}#{part}"
        values["texts"] = [section.text]
        if section.number == 1:
            values["texts"] += _as_list(row.values.get("text"), row.values.get("texts"))
        values.pop("text", None)
        location = f"{row.location}, {part.replace('=', ' ')}"
        yield replace(row, location=location, values=values)


def _as_list(*values: Any) -> list[Any]:
    """Return values as one list; a list counts as its items, None as nothing."""
    items: list[Any] = []
    for value in values:
        items += value if isinstance(value, list | tuple) else [] if value is None else [value]
    return items


def _file_name(row: Row, image: str) -> str:
    """Return the name of a document for its entries: its path as the source has it."""
    name = str(row.values.get("id") or image) if os.path.isabs(image) else image
    return os.path.basename(name) if os.path.isabs(name) else name


class _PdfRows:
    """The rows of the pages of one PDF."""

    def __init__(self, reader: PdfReader, row: Row, image: str | bytes) -> None:
        self.reader = reader
        self.row = row
        self.document = DocumentBytes(image) if isinstance(image, bytes) else None
        self.only_page: int | None = None
        self.path = ""
        if isinstance(image, str):
            path = os.path.abspath(os.path.join(row.folder, image))
            self.path, self.only_page = split_page_path(path) or (path, None)
            if self.only_page is not None:
                image = image.removesuffix(page_path("", self.only_page))
        id_ = row.values.get("id")
        self.name = str(id_) if id_ is not None else image if isinstance(image, str) else ""
        self.file = _file_name(row, image) if isinstance(image, str) else self.name
        self.section = ""
        self.title = ""
        self.previous: Sequence[Mapping[str, Any]] = ()

    def rows(self) -> Iterator[Row | Quarantined]:
        """Yield a row per page; pages that can't be read are quarantined. Raises as PdfReader."""
        path = self.path if self.document is None else self.reader.file_of(self.document)
        summary = self.reader.summary(path)
        self.title = summary.title
        blank: list[int] = []
        failures = _Failures(self.row.location)
        for page in self._pages(path, summary):
            yield from failures.add(page)
            if page.is_blank:
                blank.append(page.number)
            elif not page.error:
                yield self._row(page, summary)
        yield from failures.end()
        if blank:
            listed = ", ".join(map(str, blank[:_MAX_LISTED]))
            more = f" and {len(blank) - _MAX_LISTED} more" if len(blank) > _MAX_LISTED else ""
            reason = f"Blank pages were left out: {listed}{more}."
            yield Quarantined(self.row.location, reason, is_note=True)

    def _pages(self, path: str, summary: PdfSummary) -> Iterator[PdfPageText]:
        if self.only_page is not None:
            yield self.reader.read_page(path, self.only_page)
        else:
            yield from self.reader.read_pages(path, summary.num_pages)

    def _row(self, page: PdfPageText, summary: PdfSummary) -> Row:
        regions = [(region["kind"], region["text"]) for region in page.regions]
        titles = page_titles(regions)
        if not self.title:
            self.title = titles[0] if titles else Path(self.file).stem
        section = self._section(page.number, regions, summary)
        row_values = self._row_values(page.number)
        values: dict[str, Any] = {"title": self.title}
        if section:
            values["section"] = section
        values |= row_values
        location = {"file": self.file, "page": page.number}
        values = location | values if self.only_page else values | location
        if page.regions:
            values["regions"] = self._regions(page, first_kind(regions) == "table")
        return replace(self.row, location=f"{self.row.location}, page {page.number}", values=values)

    def _regions(self, page: PdfPageText, begins_with_table: bool) -> Sequence[Mapping[str, Any]]:
        """Return the regions of a page. A table that continues from the previous page gets the
        names of its columns."""
        previous, self.previous = self.previous, page.regions
        if begins_with_table:
            pages = [[Region.from_dict(v) for v in regions] for regions in (previous, page.regions)]
            self.previous = [region.to_dict() for region in with_continued_head(*pages)]
        return self.previous

    def _section(self, page: int, regions: Sequence[tuple[str, str]], summary: PdfSummary) -> str:
        """Return the section at the top of a page: its bookmark, or the last heading; "" for a scan
        without bookmark, whose text is to be recognized."""
        if summary.outline:
            return summary.section_of(page)
        section = top_section(regions, self.section) if regions else ""
        self.section = bottom_section(regions, self.section)
        return section

    def _row_values(self, page: int) -> Mapping[str, Any]:
        """Return the values of the row for a page; its texts are about the document: page one."""
        values = dict(self.row.values)
        if self.only_page is None and page > 1:
            for key in ("text", "texts"):
                values.pop(key, None)
        if self.only_page is None or "id" not in values:
            values["id"] = page_path(self.name, page)
        if self.document is None:
            values["image"] = page_path(self.path, page)
        else:
            values["image"] = PdfPage(self.document, page)
        return values


class _Failures:
    """Joins pages that can't be read for the same reason, and follow each other, to one item."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._pages: list[int] = []
        self._reason = ""

    def add(self, page: PdfPageText) -> Iterator[Quarantined]:
        """Add a page; yield the previous pages if their reason is another one."""
        if page.error != self._reason:
            yield from self.end()
        if page.error:
            self._reason = page.error
            self._pages.append(page.number)

    def end(self) -> Iterator[Quarantined]:
        """Yield the pages that were collected."""
        if self._pages:
            first, last = self._pages[0], self._pages[-1]
            pages = f"page {first}" if first == last else f"pages {first} to {last}"
            yield Quarantined(f"{self._location}, {pages}", self._reason)
        self._pages, self._reason = [], ""
