"""JSON lines: an object a line. A file that is one JSON array of objects is taken too (and held in
memory whole).

UTF-8, with or without a mark at the start. Knows nothing of what the keys mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from ravlm.data.rows import Quarantined, Row
from ravlm.errors import BrokenData

_MARK = b"\xef\xbb\xbf"


def recognises(path: Path, head: bytes) -> bool:
    """Whether the content begins with an object or an array."""
    return head.removeprefix(_MARK).lstrip()[:1] in (b"{", b"[")


def rows(path: Path) -> Iterator[Row | Quarantined]:
    """A row an object."""
    with open(path, "rb") as file:
        if file.read(4096).removeprefix(_MARK).lstrip()[:1] == b"[":
            yield from _rows_of_array(path)
            return
        file.seek(0)
        yield from rows_of_lines(file, str(path), path.parent)


def rows_of_lines(lines: Iterable[bytes], name: str, folder: Path) -> Iterator[Row | Quarantined]:
    """A row a line of an open file called `name` in messages; empty lines are skipped."""
    for number, line in enumerate(lines, 1):
        place = f"{name}, line {number}"
        if number == 1:
            line = line.removeprefix(_MARK)
        if not line.strip():
            continue
        try:
            values = _parse(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            reason = f"The line is not UTF-8 (byte {line[error.start]:#04x} at {error.start}); save the file as UTF-8."
            yield Quarantined(place, reason)
        except (ValueError, RecursionError) as error:
            yield Quarantined(place, f"The line is not JSON: {error}.")
        else:
            yield _row(values, place, folder)


def _rows_of_array(path: Path) -> Iterator[Row | Quarantined]:
    try:
        items = _parse(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BrokenData(
            f'"{path}" begins like a JSON array and is none: {error}; write an object a line.'
        ) from None
    for number, values in enumerate(items, 1):
        yield _row(values, f"{path}, item {number}", path.parent)


def _row(values: Any, place: str, folder: Path) -> Row | Quarantined:
    if isinstance(values, dict):
        return Row(place, values, folder)
    return Quarantined(
        place, f"The row is of type {type(values).__name__}; an object with keys is needed."
    )


def _parse(text: str) -> Any:
    return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")
