"""CSV and TSV: the first line names the columns; comma, semicolon, tab or bar between them is found
out.

A cell holds no type, so a metadata column whose every value is a number (or true / false) gives
numbers (booleans), and any other gives strings: 007 stays 007. For that the file is read twice. An
empty cell is no value. A `texts` cell may be a JSON list of strings. Knows nothing else of what the
columns mean."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravlm.data.rows import KEYS, Quarantined, Row
from ravlm.errors import InvalidInput

_DELIMITERS = ",;\t|"
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?(?:[eE][+-]?\d{1,2})?")
_UNDECODED = re.compile(
    "[\udc80-\udcff]"
)  # what "surrogateescape" makes of bytes that are no UTF-8
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class _Layout:
    delimiter: str
    blanks: bool
    """Whether a blank follows each delimiter and means nothing."""


def _texts(cell: str) -> Any:
    if cell.lstrip().startswith("["):
        with suppress(ValueError):
            return json.loads(cell)
    return cell


_CELLS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "texts": _texts,
    "number": json.loads,
    "truth": lambda cell: _TRUTH[cell.lower()],
}


def recognises(path: Path, head: bytes) -> bool:
    """Whether the content is text whose first line has several columns, or one that we know."""
    line = _first_line(head)
    if b"\x00" in head or any(character < " " and character != "\t" for character in line):
        return False
    return line.strip() in KEYS or any(delimiter in line for delimiter in _DELIMITERS)


def rows(path: Path) -> Iterator[Row | Quarantined]:
    """A row a record. Raises InvalidInput where two columns have one name."""
    with open(path, "rb") as file:
        layout = _layout(_first_line(file.read(65536)))
    kinds = _kinds(path, layout)
    for place, item in _records(path, layout):
        if isinstance(item, str):
            yield Quarantined(place, item)
        else:
            yield Row(
                place,
                {name: kinds[name](cell) for name, cell in item.items() if cell != ""},
                path.parent,
            )


def _first_line(head: bytes) -> str:
    return head.decode("utf-8-sig", errors="replace").lstrip("\r\n").split("\n", 1)[0].rstrip("\r")


def _layout(line: str) -> _Layout:
    """The delimiter that yields the most columns that we know, then the most columns; blanks after
    it or not."""

    def columns(delimiter: str) -> tuple[int, int]:
        names = next(csv.reader([line], delimiter=delimiter), [])
        return len({name.strip() for name in names} & set(KEYS)), len(names)

    delimiter = max(_DELIMITERS, key=columns)
    return _Layout(delimiter, f"{delimiter} " in line)


def _kinds(path: Path, layout: _Layout) -> dict[str, Callable[[str], Any]]:
    """How the cells of each column are read: found out in a pass of its own."""
    found: dict[str, str] = {}
    for _, item in _records(path, layout):
        for name, cell in item.items() if isinstance(item, dict) else ():
            if cell != "" and found.get(name) != "text":
                kind = (
                    "number"
                    if _NUMBER.fullmatch(cell)
                    else "truth"
                    if cell.lower() in _TRUTH
                    else "text"
                )
                found[name] = kind if found.get(name, kind) == kind else "text"
    found |= dict.fromkeys(KEYS, "text") | {"texts": "texts"}
    return {name: _CELLS[kind] for name, kind in found.items()}


def _records(path: Path, layout: _Layout) -> Iterator[tuple[str, dict[str, str] | str]]:
    """Each record with its place: its cells by column, or the reason why it has none."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=layout.delimiter, skipinitialspace=layout.blanks)
        names: list[str] | None = None
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield f"{path}, line {reader.line_num}", f"The line is no CSV: {error}."
                continue
            place = f"{path}, line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = _names(cells, path)
            elif len(cells) != len(names):
                yield (
                    place,
                    f"The row has {len(cells)} values; the first line names {len(names)} columns.",
                )
            elif any(map(_UNDECODED.search, cells)):
                yield place, "The line is not UTF-8; save the file as UTF-8."
            else:
                yield place, {name: cell for name, cell in zip(names, cells, strict=True) if name}


def _names(cells: list[str], path: Path) -> list[str]:
    names = [cell.strip() for cell in cells]
    for name in names:
        if name and names.count(name) > 1:
            raise InvalidInput(
                f'"{path}" has two columns called "{name}"; give each a name of its own.'
            )
    return names
