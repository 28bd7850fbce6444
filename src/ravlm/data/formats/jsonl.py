"""JSON Lines: one object per line. A file that is one JSON array of objects is read as well.

UTF-8, with or without a byte order mark. An array is held in memory as a whole.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from ravlm.data.lines import bounded_lines, too_long
from ravlm.data.rows import Quarantined, Row
from ravlm.errors import BrokenData

MAX_ARRAY_BYTES = 1 << 28
"""Size of a file that is one array: its objects take up to twenty times as much memory."""
_BOM = b"\xef\xbb\xbf"


def recognizes(path: Path, head: bytes) -> bool:
    """Return whether the content begins with an object or an array."""
    return head.removeprefix(_BOM).lstrip()[:1] in (b"{", b"[")


def read_rows(path: Path) -> Iterator[Row | Quarantined]:
    """Yield one row per object."""
    with open(path, "rb") as file:
        if file.read(4096).removeprefix(_BOM).lstrip()[:1] == b"[":
            yield from _rows_of_array(path)
            return
        file.seek(0)
        yield from rows_of_lines(file, str(path), path.parent)


def rows_of_lines(file: IO[bytes], name: str, folder: Path) -> Iterator[Row | Quarantined]:
    """Yield one row per line of an open file; skip empty lines.

    `name` stands for the file in messages. `folder` is where relative images start.
    """
    for number, line in enumerate(bounded_lines(file), 1):
        location = f"{name}, line {number}"
        if line is None:
            yield Quarantined(location, too_long())
            continue
        if number == 1:
            line = line.removeprefix(_BOM)
        if not line.strip():
            continue
        try:
            values = _parse(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            byte = f"byte {line[error.start]:#04x} at {error.start}"
            reason = f"The line is not UTF-8 ({byte}); save the file as UTF-8."
            yield Quarantined(location, reason)
        except (ValueError, RecursionError) as error:
            yield Quarantined(location, f"The line is not JSON: {error}.")
        else:
            yield _row(values, location, folder)


def _rows_of_array(path: Path) -> Iterator[Row | Quarantined]:
    size = path.stat().st_size
    if size > MAX_ARRAY_BYTES:
        raise BrokenData(
            f'"{path}" is a JSON array of {size:,} bytes; at most {MAX_ARRAY_BYTES:,} are read as '
            "one. Write one object per line."
        )
    try:
        items = _parse(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BrokenData(
            f'"{path}" begins like a JSON array but is not valid JSON: {error}; '
            "write one object per line."
        ) from None
    for number, values in enumerate(items, 1):
        yield _row(values, f"{path}, item {number}", path.parent)


def _row(values: Any, location: str, folder: Path) -> Row | Quarantined:
    if isinstance(values, dict):
        return Row(location, values, folder)
    kind = type(values).__name__
    return Quarantined(location, f"The row is of type {kind}; it must be an object with keys.")


def _parse(text: str) -> Any:
    return json.loads(
        text, parse_constant=_refuse_constant, object_pairs_hook=_object_of_unique_keys
    )


def _object_of_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; Python would keep the last of two values of one key."""
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        duplicate = next(key for key, count in counts.items() if count > 1)
        raise ValueError(f'the key "{duplicate}" occurs twice')
    return values


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")
