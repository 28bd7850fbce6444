"""CSV and TSV: the first line names the columns.

The delimiter (comma, semicolon, tab or bar) is detected. A cell has no type, so a metadata column
in which every value is a number (or true / false) becomes numbers (booleans), and any other column
stays text, as written: 007 stays 007. The file is read twice for that. An empty cell is no value. A
`texts` cell may hold a JSON list of strings. Ids are text, but a column of 1.0, 2.0, ... becomes 1,
2, ...: pandas writes it so if an id is missing. Quoting is strict (see csv_records.py).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ravlm.data.formats.csv_records import Dialect, Record, split_records
from ravlm.data.layouts import CAPTION_KEYS
from ravlm.data.rows import MAX_KEYS, RESERVED_KEYS, Quarantined, Row, check_column_names
from ravlm.errors import BrokenData

_DELIMITERS = ",;\t|"
_HEAD_BYTES = 65536
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,15})?(?:[eE][+-]?\d{1,2})?")
_UNDECODED = re.compile("[\udc80-\udcff]")  # what "surrogateescape" makes of invalid UTF-8
_WHOLE_FLOAT = re.compile(r"(?:0|[1-9]\d*)\.0")
_MAX_NULS = 0.3
"""Share of NUL bytes above which a file is not text; a row with one is rejected by itself."""
_BOOLEANS = {"true": True, "false": False}


def _parse_texts(cell: str) -> Any:
    if cell.lstrip().startswith("["):
        with suppress(ValueError):
            return json.loads(cell)
    return cell


_CELL_PARSERS: dict[str, Callable[[str], Any]] = {
    "text": str,
    "texts": _parse_texts,
    "number": json.loads,
    "boolean": lambda cell: _BOOLEANS[cell.lower()],
    "whole float": lambda cell: cell.removesuffix(".0"),
}


def recognizes(path: Path, head: bytes) -> bool:
    """Return whether the first line is text with several columns, or one with a known name."""
    line = _first_line(head)
    has_control = any(character < " " and character != "\t" for character in line)
    if has_control or head.count(0) > len(head) * _MAX_NULS:
        return False
    return line.strip() in RESERVED_KEYS or any(delimiter in line for delimiter in _DELIMITERS)


def read_rows(path: Path) -> Iterator[Row | Quarantined]:
    """Yield one row per record. Raises InvalidInput if two columns have the same name."""
    with open(path, "rb") as file:
        dialect = _detect_dialect(_first_line(file.read(_HEAD_BYTES)))
    parsers = _column_parsers(path, dialect)
    for record in _records(path, dialect):
        if isinstance(record, Quarantined):
            yield record
            continue
        location, cells = record
        values = {name: parsers[name](cell) for name, cell in cells.items() if cell != ""}
        yield Row(location, values, path.parent)


def _first_line(head: bytes) -> str:
    text = head.decode("utf-8-sig", errors="replace").lstrip("\r\n")
    return re.split("[\r\n]", text, maxsplit=1)[0]


def _detect_dialect(line: str) -> Dialect:
    """Choose the delimiter that gives the most known columns, then the most columns."""

    def num_columns(delimiter: str) -> tuple[int, int]:
        first = next(split_records(io.StringIO(line), Dialect(delimiter)), Record(1))
        names = line.split(delimiter) if first.error else first.cells
        num_known = len({name.strip() for name in names} & {*RESERVED_KEYS, *CAPTION_KEYS})
        return num_known, len(names)

    delimiter = max(_DELIMITERS, key=num_columns)
    return Dialect(delimiter, skip_space=f"{delimiter} " in line)


def _column_parsers(path: Path, dialect: Dialect) -> dict[str, Callable[[str], Any]]:
    """Read the whole file to find the type of each column, and return the columns' parsers."""
    types: dict[str, str] = {}
    has_whole_ids = True
    for record in _records(path, dialect):
        if isinstance(record, Quarantined):
            continue
        for name, cell in record[1].items():
            if cell != "" and types.get(name) != "text":
                cell_type = _cell_type(cell)
                types[name] = cell_type if types.get(name, cell_type) == cell_type else "text"
        id_ = record[1].get("id", "")
        has_whole_ids = has_whole_ids and (id_ == "" or _WHOLE_FLOAT.fullmatch(id_) is not None)
    types |= dict.fromkeys((*RESERVED_KEYS, *CAPTION_KEYS), "text")
    types |= {
        "texts": "texts",
        "captions": "texts",
        "id": "whole float" if has_whole_ids else "text",
    }
    return {name: _CELL_PARSERS[column_type] for name, column_type in types.items()}


def _cell_type(cell: str) -> str:
    if _NUMBER.fullmatch(cell):
        return "number"
    return "boolean" if cell.lower() in _BOOLEANS else "text"


def _records(path: Path, dialect: Dialect) -> Iterator[tuple[str, dict[str, str]] | Quarantined]:
    """Yield the location and the cells by column of each record."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        columns: list[str] | None = None
        for record in split_records(file, dialect):
            if columns is not None:
                yield _record(f"{path}, line {record.line}", record, columns)
            elif record.error:
                raise BrokenData(f'"{path}" names no columns, line {record.line}: {record.error}')
            else:
                columns = _column_names(record.cells, path)


def _record(
    location: str, record: Record, columns: list[str]
) -> tuple[str, dict[str, str]] | Quarantined:
    cells = record.cells
    if record.error:
        return Quarantined(location, record.error)
    if len(cells) != len(columns):
        reason = f"The row has {len(cells)} values; the first line names {len(columns)} columns."
        return Quarantined(location, reason)
    if any(map(_UNDECODED.search, cells)):
        return Quarantined(location, "The line is not UTF-8; save the file as UTF-8.")
    if any("\0" in cell for cell in cells):
        return Quarantined(location, "The row has a NUL character; remove it.")
    return location, {name: cell for name, cell in zip(columns, cells, strict=True) if name}


def _column_names(cells: tuple[str, ...], path: Path) -> list[str]:
    if len(cells) > MAX_KEYS:
        raise BrokenData(f'"{path}" has {len(cells):,} columns; at most {MAX_KEYS:,} are read.')
    names = [cell.strip() for cell in cells]
    check_column_names(names, path)
    return names
