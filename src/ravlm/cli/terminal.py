"""Text on terminals: the control characters of entries are shown, not carried out."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What moves the cursor, sets titles and clipboards (ESC and the C1 controls), and what reverses
the direction of text. Line ends and tabs are not among them."""


def visible(text: str) -> str:
    r"""Return a text whose control characters are escaped.

    >>> visible("a cat\x1b[2J")
    'a cat\\x1b[2J'
    """
    return _CONTROL.sub(_escape, text)


def visible_json(text: str) -> str:
    r"""The same for a line of JSON, in its own escapes: "\u009b"."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class VisibleStream:
    """A text stream that escapes the control characters written to it."""

    def __init__(self, stream: Any) -> None:
        self.unfiltered = stream

    def write(self, text: str) -> int:
        """Write a text."""
        self.unfiltered.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unfiltered, name)


def unfiltered(stream: Any) -> Any:
    """Return the stream below a `VisibleStream`, for control characters of our own."""
    return getattr(stream, "unfiltered", stream)


@contextmanager
def visible_output() -> Iterator[None]:
    """Escape the control characters of all that is printed within the block."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (VisibleStream(stream) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
