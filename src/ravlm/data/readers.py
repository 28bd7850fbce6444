"""Sources to streams of entries or pairs: which reader takes a source, duplicate ids, quarantine.

Knows no file format itself: those are in sources/, one module each, named in `READERS`. To add one,
see docs/adding-a-reader.md."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from ravlm.data.formats import (
    coco,
    csv,
    flickr,
    hf_dataset,
    image_folder,
    jsonl,
    parquet,
    webdataset,
)
from ravlm.data.rows import CONTENT, Quarantined, Row, to_entry, to_pair, wrong_keys
from ravlm.errors import BrokenData, InvalidInput, NotFound, RavlmError
from ravlm.records import Entry, Pair

__all__ = [
    "READERS",
    "EntryStream",
    "PairStream",
    "Quarantined",
    "Reader",
    "Row",
    "read_entries",
    "read_pairs",
]

Record = TypeVar("Record", Entry, Pair)
_HEAD = 65536  # bytes of a file that a reader may look at to recognise it
_ROWS_WITHOUT_KEYS = (
    20  # so many rows at the start without any known key: the names are wrong, not the rows
)


@dataclass(frozen=True)
class Reader:
    """How one kind of source is recognised and read."""

    recognises: Callable[[Path, bytes], bool]
    """(path, first bytes; none of a folder) -> whether this reader takes it."""
    rows: Callable[[Path], Iterator[Row | Quarantined]]
    """path -> its rows, and what of it was refused; anew at each call."""


READERS: dict[
    str, Reader
] = {  # the first that recognises a source takes it: the particular before the general
    "saved dataset (Hugging Face)": Reader(hf_dataset.recognises, hf_dataset.rows),
    "WebDataset shards": Reader(webdataset.recognises, webdataset.rows),
    "folder of pictures": Reader(image_folder.recognises, image_folder.rows),
    "Parquet": Reader(parquet.recognises, parquet.rows),
    "COCO captions": Reader(coco.recognises, coco.rows),
    "JSON lines": Reader(jsonl.recognises, jsonl.rows),
    "Flickr token file": Reader(flickr.recognises, flickr.rows),
    "CSV or TSV with named columns": Reader(csv.recognises, csv.rows),
}


def read_entries(
    source: str | os.PathLike[str], images: str | os.PathLike[str] | None = None
) -> EntryStream:
    """The entries of a source: what it is, is found out from its content (`READERS`); "-" is JSON
    lines from the input.

    `images` is the folder where relative pictures start; without it they start where the source
    lies, and those of a COCO or token file are looked for in the folders in and beside it.

    Nothing is held: each iteration reads the source anew ("-", standard input, can be read once).
    `.quarantine` lists what the running iteration refused, with reason and place: a row that can't
    be read, whose picture is missing, or whose id came before. Pictures are not decoded here.

    Raises NotFound for a source that isn't there or a folder without pictures, InvalidInput for one
    that no reader recognises or whose rows have none of the keys image, text, texts."""
    return EntryStream(source, images)


def read_pairs(
    source: str | os.PathLike[str], images: str | os.PathLike[str] | None = None
) -> PairStream:
    """Like `read_entries`; each row needs a picture and a text, or goes to quarantine."""
    return PairStream(source, images)


class _Stream(Generic[Record]):
    _make: Callable[[Row], Record]

    def __init__(
        self, source: str | os.PathLike[str], images: str | os.PathLike[str] | None = None
    ) -> None:
        if not isinstance(source, str | os.PathLike) or not os.fspath(source):
            raise InvalidInput(f'A source is the path of a folder or file, or "-", not {source!r}.')
        self.source = "-" if os.fspath(source) == "-" else Path(source)
        if images is not None and not Path(images).is_dir():
            raise NotFound(f'There is no folder of pictures "{images}"; check the path.')
        self.images = None if images is None else Path(images)
        self.quarantine: list[Quarantined] = []
        self._taken = False
        self._reader = None if self.source == "-" else _recognise(Path(source))

    def __iter__(self) -> Iterator[Record]:
        self.quarantine = refused = []
        seen: set[int] = set()
        for row in _with_known_keys(self._rows(), self._name):
            if isinstance(row, Quarantined):
                refused.append(row)
                continue
            if self.images is not None:
                row = replace(row, folder=self.images)
            try:
                record = type(self)._make(row)
            except RavlmError as error:
                refused.append(Quarantined(row.place, str(error)))
                continue
            mark = int.from_bytes(hashlib.blake2b(record.id.encode(), digest_size=8).digest())
            if mark in seen:
                reason = f'The id "{record.id}" came before in this source; the first row with it was taken.'
                refused.append(Quarantined(row.place, reason))
                continue
            seen.add(mark)
            yield record
        if not seen and not refused:
            refused.append(Quarantined(self._name, "It has no rows."))

    @property
    def _name(self) -> str:
        return "Standard input" if self.source == "-" else f'"{self.source}"'

    def _rows(self) -> Iterator[Row | Quarantined]:
        if isinstance(self.source, Path):
            if self._reader is None:
                return iter(())
            return self._reader.rows(self.source)
        if self._taken:
            raise InvalidInput(
                "Standard input can be read once; save it to a file to read it again."
            )
        self._taken = True
        return jsonl.rows_of_lines(sys.stdin.buffer, "standard input", Path.cwd())


class EntryStream(_Stream[Entry]):
    """An iterable of Entry; `.quarantine` lists what the running iteration refused."""

    _make = staticmethod(to_entry)


class PairStream(_Stream[Pair]):
    """An iterable of Pair; `.quarantine` lists what the running iteration refused."""

    _make = staticmethod(to_pair)


def _recognise(path: Path) -> Reader | None:
    """The reader for `path`; None for an empty file."""
    head = b""
    if path.is_file():
        try:
            with open(path, "rb") as file:
                head = file.read(_HEAD)
        except OSError as error:
            raise BrokenData(f'"{path}" can\'t be read: {error.strerror}.') from None
        if not head:
            return None
    elif not path.exists():
        raise NotFound(f'There is no file or folder "{path}"; check the path.')
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) and not image_folder.begins_like_a_picture(head):
        raise InvalidInput(f'"{path}" is text in UTF-16; save it as UTF-8.')
    for reader in READERS.values():
        if reader.recognises(path, head):
            return reader
    hint = (
        " It is a picture: name the folder it lies in."
        if image_folder.begins_like_a_picture(head)
        else ""
    )
    raise InvalidInput(f'"{path}" is no source that can be read: {", ".join(READERS)}.{hint}')


def _with_known_keys(rows: Iterator[Row | Quarantined], name: str) -> Iterator[Row | Quarantined]:
    """`rows` as they are, unless the first ones have none of the keys that make an entry."""
    waiting: list[Row | Quarantined] = []
    without: list[Row] = []
    for row in rows:
        waiting.append(row)
        if isinstance(row, Row):
            if any(key in row.values for key in CONTENT):
                break
            without.append(row)
            if len(without) == _ROWS_WITHOUT_KEYS:
                break
    if without and len(without) == sum(isinstance(row, Row) for row in waiting):
        raise wrong_keys(without[0].values, name)
    yield from waiting
    yield from rows
