"""Text from standard input and from the command line, which may be in another encoding."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterator

from ravlm.cli.output import note


def read_line() -> str | None:
    """Return the next line of stdin without its line end; None at the end.

    A line that is not UTF-8 is named on stderr and skipped: the lines after it are read.
    """
    stream = sys.stdin.buffer if isinstance(sys.stdin, io.TextIOWrapper) else sys.stdin
    while line := stream.readline():
        if isinstance(line, str):
            return line.rstrip("\r\n")
        try:
            return line.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError:
            text = line.decode("utf-8", "backslashreplace").strip()
            note(f'The line "{text}" is not UTF-8 and was skipped; save the text as UTF-8.')
    return None


def lines() -> Iterator[str]:
    """Yield the lines of stdin that are not blank."""
    while (line := read_line()) is not None:
        if line.strip():
            yield line


def utf8_argument(value: str) -> str:
    """Return an argument that is a text, not a path, as it was typed.

    In a C locale, Python can't decode the characters of another language. Raises ArgumentTypeError
    if the bytes are not UTF-8.
    """
    if value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value):
        return value
    try:
        data = os.fsencode(value)
        return data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that stand for no byte
        text = ascii(value)
    raise argparse.ArgumentTypeError(f'"{text}" is not UTF-8; set the terminal to UTF-8')
