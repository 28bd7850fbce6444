"""Read DOCX, PPTX and HTML files: their sections or slides as Markdown, by markitdown."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ravlm.data.child_process import ChildProcess
from ravlm.errors import BrokenData, MissingExtra, NotFound
from ravlm.runtime import has_packages

OFFICE_SUFFIXES = (".docx", ".pptx", ".html", ".htm")
_MAX_MEMORY = 2_000_000_000
"""Bytes that the child process may allocate."""
_CPU_SECONDS = 60
_SECONDS = 300.0
"""Time of one file, on a machine that does other work."""
_SLIDE = re.compile(r"<!-- Slide number: (\d+) -->")
_HEADING = re.compile(r"^#{1,3} +(.+?)[ #]*$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
_BLANK_LINES = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class DocumentSection:
    """A slide, or the text from one heading to the next."""

    number: int
    """From 1."""
    text: str
    """Markdown, without addresses of links and images."""
    title: str = ""
    """Its heading; "" without one."""
    slide: int | None = None
    """Number of the slide; None in other files."""


def is_office_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is one of those read here, by its suffix."""
    return os.fspath(path).lower().endswith(OFFICE_SUFFIXES)


class OfficeReader:
    """A child process that converts files. Raises MissingExtra without markitdown."""

    def __init__(self) -> None:
        if not has_packages("markitdown"):
            raise MissingExtra("markitdown", "office", "Reading DOCX, PPTX and HTML files")
        self._process: ChildProcess | None = None

    def __enter__(self) -> OfficeReader:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process is not None:
            self._process.end()

    def sections(self, path: str | os.PathLike[str]) -> list[DocumentSection]:
        """Return the sections of a file. Raises NotFound or BrokenData."""
        if not Path(path).is_file():
            raise NotFound(f'There is no file "{path}"; check the path.')
        if self._process is None or not self._process.alive:
            arguments = (str(_MAX_MEMORY), str(_CPU_SECONDS))
            self._process = ChildProcess("ravlm.data.office_worker", *arguments)
        message = self._process.call({"path": os.path.abspath(path)}, b"", _SECONDS)
        if message is None:
            raise BrokenData("It takes too much time or memory to read.")
        header, data = message
        if "error" in header:
            raise BrokenData(f"It can't be read: {header['error']}")
        return list(split_sections(data.decode()))


def split_sections(markdown: str) -> Iterator[DocumentSection]:
    """Yield the sections of a document that have a text.

    >>> [section.title for section in split_sections("Hello.\\n# Use\\nTurn it on.\\n# Care")]
    ['', 'Use', 'Care']
    """
    slides = list(_SLIDE.finditer(markdown))
    marks = slides or list(_HEADING.finditer(markdown))
    starts = [mark.start() for mark in marks]
    if not starts or markdown[: starts[0]].strip():
        starts.insert(0, 0)
        marks = [None, *marks]  # type: ignore[list-item]
    number = 0
    for mark, start, end in zip(marks, starts, [*starts[1:], len(markdown)], strict=True):
        begin = mark.end() if slides and mark is not None else start
        text = _BLANK_LINES.sub("\n\n", _LINK.sub(r"\1", markdown[begin:end])).strip()
        if not text:
            continue
        number += 1
        heading = _HEADING.search(text)
        title = heading[1].strip() if heading and not text[: heading.start()].strip() else ""
        slide = int(mark[1]) if slides and mark is not None else None
        yield DocumentSection(number, text, title, slide)
