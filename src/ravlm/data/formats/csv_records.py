"""Split a CSV file into records, with strict quoting (RFC 4180).

A cell that begins with a quote ends with one, directly before a delimiter or the end of the line; a
quote within it is doubled. Python's `csv` lets an unclosed quote swallow the following rows, and
cuts cells at 131,072 characters. Here such a line is rejected, and reading continues on the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from ravlm.data.lines import bounded_lines, too_long

_MAX_RECORD = 1 << 26
"""Characters of one record: an unclosed quote must not read a large file into memory."""
_LINE_ENDS = ("\r\n", "\n", "\r")


@dataclass(frozen=True)
class Dialect:
    """How cells are separated."""

    delimiter: str
    skip_space: bool = False
    """Whether delimiters are followed by a space that has no meaning."""


@dataclass(frozen=True)
class Record:
    """The cells of one record, or why its line was rejected."""

    line: int
    """Number of its first line, from 1."""
    cells: tuple[str, ...] = ()
    error: str = ""


def split_records(file: TextIO, dialect: Dialect) -> Iterator[Record]:
    """Yield the records of a file that was opened with `newline=""`, without empty lines."""
    lines = _Lines(file)
    while (line := lines.next()) != "":
        number = lines.number
        if line is None:
            yield Record(number, error=too_long())
            continue
        if '"' not in line:
            cells = [_unquoted(cell, dialect) for cell in _body(line).split(dialect.delimiter)]
            if any(cell.strip() for cell in cells):
                yield Record(number, tuple(cells))
            continue
        parser = _RecordParser(dialect)
        ahead: list[str | None] = []
        try:
            parser.append(line)
            while not parser.finished():
                line = lines.next() if parser.num_characters < _MAX_RECORD else ""
                if line != "":
                    ahead.append(line)
                if not line:
                    raise _QuoteError("it is never closed")
                parser.append(line)
        except _QuoteError as error:
            place = f" on line {lines.number}" if ahead and line else ""
            lines.push_back(ahead)
            reason = f'The line opens a quoted cell, but {error}{place}; write "" for a quote.'
            yield Record(number, error=reason)
            continue
        if any(cell.strip() for cell in parser.cells):
            yield Record(number, tuple(parser.cells))


class _QuoteError(ValueError):
    """The quotes of a record don't match."""


class _Lines:
    """The lines of a file with their numbers; lines that were read ahead can be put back."""

    def __init__(self, file: TextIO) -> None:
        self._lines = bounded_lines(file)
        self._returned: deque[str | None] = deque()
        self.number = 0

    def next(self) -> str | None:
        """Return the next line with its end, "" at the end of the file, None if it is too long."""
        line = self._returned.popleft() if self._returned else next(self._lines, "")
        self.number += line != ""
        return line

    def push_back(self, lines: list[str | None]) -> None:
        self._returned.extendleft(reversed(lines))
        self.number -= len(lines)


class _RecordParser:
    """Parses one record that has quotes, line by line."""

    def __init__(self, dialect: Dialect) -> None:
        self.cells: list[str] = []
        self.num_characters = 0
        self._dialect = dialect
        self._line = ""
        self._pieces: list[str] | None = None  # of an open quoted cell

    def finished(self) -> bool:
        """Return whether all quoted cells are closed."""
        return self._pieces is None

    def append(self, line: str) -> None:
        """Parse the first line of the record, or the next one of an open cell."""
        self._line = line
        self.num_characters += len(line)
        self._parse(0 if self._pieces is None else self._quoted(0))

    def _parse(self, start: int) -> None:
        """Read cells from `start`, which is negative if a quoted cell is still open."""
        body = _body(self._line)
        while start >= 0:
            if self._dialect.skip_space:
                start += len(body) - start - len(body[start:].lstrip(" "))
            if body.startswith('"', start):
                self._pieces = []
                start = self._quoted(start + 1)
                continue
            end = body.find(self._dialect.delimiter, start)
            self.cells.append(body[start:] if end < 0 else body[start:end])
            if end < 0:
                return
            start = end + 1

    def _quoted(self, start: int) -> int:
        """Read a quoted cell on; return where the next cell begins, or -1 if there is none yet."""
        assert self._pieces is not None
        line = self._line
        while True:
            end = line.find('"', start)
            if end < 0:
                self._pieces.append(line[start:])
                return -1
            self._pieces.append(line[start:end])
            if not line.startswith('"', end + 1):
                break
            self._pieces.append('"')
            start = end + 2
        rest = line[end + 1 :]
        if not rest.startswith(self._dialect.delimiter) and rest not in ("", *_LINE_ENDS):
            raise _QuoteError("text follows its closing quote")
        self.cells.append("".join(self._pieces))
        self._pieces = None
        if rest in ("", *_LINE_ENDS):
            return -1
        return end + 2


def _body(line: str) -> str:
    """Return the line without its line end."""
    return line.removesuffix("\n").removesuffix("\r")


def _unquoted(cell: str, dialect: Dialect) -> str:
    return cell.lstrip(" ") if dialect.skip_space else cell
