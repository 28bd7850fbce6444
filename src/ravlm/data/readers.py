"""Streams of entries or pairs from any source: format detection, duplicate ids, quarantine.

The formats stand in formats/, one module each. `READERS` is the only list of them; to add one, see
docs/how-to/reader.md.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar

from ravlm.data.documents import expand_documents
from ravlm.data.formats import (
    coco,
    csv,
    document,
    flickr,
    hf_dataset,
    image_file,
    image_folder,
    jsonl,
    parquet,
    webdataset,
)
from ravlm.data.layouts import convert_layouts
from ravlm.data.rows import (
    CONTENT_KEYS,
    Quarantined,
    Row,
    missing_keys_error,
    to_entry,
    to_pair,
)
from ravlm.errors import BrokenData, InvalidInput, NotFound, RavlmError
from ravlm.records import Entry, Pair

__all__ = [
    "READERS",
    "EntryStream",
    "PairStream",
    "Quarantined",
    "Row",
    "SourceReader",
    "read_entries",
    "read_pairs",
]

Record = TypeVar("Record", Entry, Pair)
SourcePaths: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"
_HEAD_BYTES = 65536
"""How much of a file a reader sees to recognize it."""
_MAX_ROWS_WITHOUT_CONTENT = 20
"""If the first 20 rows have no content key, the columns are misnamed: raise instead of rejecting
every row."""


class SourceReader(Protocol):
    """The interface of a module in formats/: how one kind of source is recognized and read."""

    def recognizes(self, path: Path, head: bytes, /) -> bool:
        """Return whether this reader takes `path`. `head`: its first bytes, empty for a folder."""

    def read_rows(self, path: Path, /) -> Iterator[Row | Quarantined]:
        """Yield the rows of `path`, and what of it was rejected. Each call reads it again."""


# The first reader that recognizes a source takes it: list the specific before the general.
READERS: dict[str, SourceReader] = {
    "saved dataset (Hugging Face)": hf_dataset,
    "WebDataset shards": webdataset,
    "folder of images": image_folder,
    "image": image_file,
    "document (PDF, DOCX, PPTX, HTML)": document,
    "Parquet": parquet,
    "COCO captions": coco,
    "JSON Lines": jsonl,
    "Flickr token file": flickr,
    "CSV or TSV with named columns": csv,
}


def read_entries(source: SourcePaths, images: str | os.PathLike[str] | None = None) -> EntryStream:
    """Stream the entries of `source`; the format is detected from its content.

    `source` is a file or folder in one of the formats of `READERS`, or "-" for JSON Lines from
    standard input, or a list of them. A PDF, alone, in a folder or in a row, is an entry per page.
    `images` is the folder that relative image paths start from. It defaults to the
    folder of the source; for a COCO or token file, nearby folders are searched as well.

    Each iteration reads the source again (standard input can be read once), and nothing is held in
    memory. `.quarantine` lists what the current iteration rejected, with reason and location: a row
    that can't be read, whose image is missing, or whose id was used before. It also has notes
    (`is_note`) on layouts of other tools that were recognized. Images are not decoded.

        for entry in read_entries("photos.jsonl"):
            print(entry.id, entry.text)

    Raises NotFound if the source does not exist or is a folder without images, and InvalidInput if
    no reader recognizes it or its rows have none of the keys image, text, texts.
    """
    return EntryStream(source, images)


def read_pairs(source: SourcePaths, images: str | os.PathLike[str] | None = None) -> PairStream:
    """Stream the pairs of `source`. As `read_entries`; a row without image or text is rejected."""
    return PairStream(source, images)


class _Stream(Generic[Record]):
    _to_record: Callable[[Row], Record]

    def __init__(self, source: SourcePaths, images: str | os.PathLike[str] | None = None) -> None:
        sources = [source] if isinstance(source, str | os.PathLike) else source
        if not isinstance(sources, Sequence) or not sources:
            raise _not_a_source(source)
        for item in sources:
            if not isinstance(item, str | os.PathLike) or not os.fspath(item):
                raise _not_a_source(item)
        if images is not None and not Path(images).is_dir():
            raise NotFound(f'There is no folder of images "{images}"; check the path.')
        self.sources = ["-" if os.fspath(item) == "-" else Path(item) for item in sources]
        self.images = None if images is None else Path(images)
        self.quarantine: list[Quarantined] = []
        self._stdin_consumed = False
        self._readers = [
            _find_reader(item) if isinstance(item, Path) else None for item in self.sources
        ]

    def __iter__(self) -> Iterator[Record]:
        self.quarantine = quarantine = []
        id_hashes: set[int] = set()
        for row in _require_content_keys(self._converted_rows(), self._name):
            if isinstance(row, Quarantined):
                quarantine.append(row)
                continue
            try:
                record = type(self)._to_record(row)
            except RavlmError as error:
                quarantine.append(Quarantined(row.location, str(error)))
                continue
            id_hash = _hash64(record.id)
            if id_hash in id_hashes:
                reason = f'The id "{record.id}" was used before; the first row with it was kept.'
                quarantine.append(Quarantined(row.location, reason))
                continue
            id_hashes.add(id_hash)
            yield record
        if not id_hashes and all(item.is_note for item in quarantine):
            quarantine.append(Quarantined(self._name, "It has no rows."))

    @property
    def _name(self) -> str:
        names = ["Standard input" if item == "-" else f'"{item}"' for item in self.sources]
        return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"

    def _converted_rows(self) -> Iterator[Row | Quarantined]:
        for source, reader in zip(self.sources, self._readers, strict=True):
            rows: Iterable[Row | Quarantined] = self._rows(source, reader)
            folder = self.images
            if folder is not None:
                rows = (
                    replace(row, folder=folder) if isinstance(row, Row) else row for row in rows
                )
            locate = folder is None and source != "-"
            name = "standard input" if source == "-" else str(source)
            yield from expand_documents(convert_layouts(rows, name, locate))

    def _rows(self, source: Path | str, reader: SourceReader | None) -> Iterator[Row | Quarantined]:
        if isinstance(source, Path):
            return iter(()) if reader is None else reader.read_rows(source)
        if self._stdin_consumed:
            raise InvalidInput(
                "Standard input can be read once; save it to a file to read it again."
            )
        self._stdin_consumed = True
        return jsonl.rows_of_lines(sys.stdin.buffer, "standard input", Path.cwd())


class EntryStream(_Stream[Entry]):
    """An iterable of Entry; `.quarantine` lists what the current iteration rejected."""

    _to_record = staticmethod(to_entry)


class PairStream(_Stream[Pair]):
    """An iterable of Pair; `.quarantine` lists what the current iteration rejected."""

    _to_record = staticmethod(to_pair)


def _not_a_source(source: object) -> InvalidInput:
    return InvalidInput(
        f'source is {source!r}; it must be the path of a folder or file, "-", or a list of them.'
    )


def _hash64(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _find_reader(path: Path) -> SourceReader | None:
    """Return the reader for `path`, or None for an empty file."""
    head = b""
    if path.is_file():
        head = read_head(path)
        if not head:
            return None
    elif not path.exists():
        raise NotFound(f'There is no file or folder "{path}"; check the path.')
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidInput(f'"{path}" is text in UTF-16; save it as UTF-8.')
    for reader in READERS.values():
        if reader.recognizes(path, head):
            return reader
    raise InvalidInput(f'"{path}" is in no known format: {", ".join(READERS)}.')


def read_head(path: Path) -> bytes:
    """Return the beginning of a file, by which its format is recognized. Raises BrokenData."""
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError as error:
        raise BrokenData(f'"{path}" can\'t be read: {error.strerror}.') from None


def _require_content_keys(
    rows: Iterator[Row | Quarantined], source: str
) -> Iterator[Row | Quarantined]:
    """Yield `rows` unchanged. Raise InvalidInput if the first ones have no content key."""
    buffer: list[Row | Quarantined] = []
    without_content: list[Row] = []
    found_content = False
    for row in rows:
        buffer.append(row)
        if isinstance(row, Quarantined):
            continue
        if any(key in row.values for key in CONTENT_KEYS):
            found_content = True
            break
        without_content.append(row)
        if len(without_content) == _MAX_ROWS_WITHOUT_CONTENT:
            break
    if without_content and not found_content:
        raise missing_keys_error(without_content[0].values, source)
    yield from buffer
    yield from rows
