"""Read the lines of a file, none of which may be longer than memory allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, AnyStr

MAX_LINE = 1 << 24
"""Bytes or characters of one line, more than the text of any book. JSON of this length may become
350 MB of objects."""
_SKIPPED = 1 << 20
"""Bytes or characters read at a time to find the end of a line that is left out."""


def bounded_lines(file: IO[AnyStr], max_length: int = MAX_LINE) -> Iterator[AnyStr | None]:
    """Yield the lines of an open file with their ends, and None for each that is too long."""
    while line := file.readline(max_length + 1):
        if len(line) <= max_length:
            yield line
            continue
        yield None
        while line and line[-1:] not in ("\n", b"\n"):
            line = file.readline(_SKIPPED)


def too_long(max_length: int = MAX_LINE) -> str:
    """Return the reason to reject a line that is too long."""
    return f"The line is longer than {max_length:,} characters; at most that many are read."
