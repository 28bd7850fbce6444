"""Stored fields (Lucene's term): what hits show of an entry, in one memory-mapped file.

Those of many hits are read at once, without SQL. They are derived from the store and part of its
snapshot. The fields of an entry never change, because a changed entry gets a new number; those of a
removed entry are never asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

IMAGE_POSITION = -1
"""Position of an image part."""
NO_POSITION = -2
"""Position of a part that is not a whole text, such as a passage: it is read from the store."""
DATA_FILE = "cards.json"
STARTS_FILE = "cards-starts.npy"
POSITIONS_FILE = "cards-positions.npy"

StoredFieldRow = tuple[int, str, str | None, str, str]
"""Entry number, id, image, and texts and metadata as JSON."""


class FieldColumns(NamedTuple):
    """The stored fields of several entries, a list per field."""

    ids: list[str]
    images: list[str | None]
    texts: list[list[str]]
    metadata: list[dict[str, Any]]


class StoredFields:
    """The fields of the entries, and the positions of the parts, up to some number."""

    def __init__(
        self,
        data: Any = b"",
        starts: np.ndarray | None = None,
        positions: np.ndarray | None = None,
    ) -> None:
        """Wrap a buffer `data`; the fields of entry n stand at starts[n]:starts[n + 1].

        `positions`, int32 by part number: see `position`.
        """
        self.data = memoryview(data)
        self.starts = np.zeros(1, np.int64) if starts is None else starts
        self.positions = np.zeros(0, np.int32) if positions is None else positions

    def position(self, parts: np.ndarray) -> np.ndarray:
        """Return which of its entry's texts each part is, or IMAGE_POSITION or NO_POSITION."""
        if len(parts) and parts.max() < len(self.positions):
            return self.positions[parts]
        positions = np.full(len(parts), NO_POSITION, np.int32)
        covered = parts < len(self.positions)
        positions[covered] = self.positions[parts[covered]]
        return positions

    def read(self, entries: np.ndarray) -> FieldColumns:
        """Return the fields of these entries, all of which must be covered.

        Raises ValueError if the file is damaged.
        """
        starts = self.starts[entries].tolist()
        ends = self.starts[entries + 1].tolist()
        records = [self.data[start:end] for start, end in zip(starts, ends, strict=True)]
        values = json.loads(b"[" + b",".join(records) + b"]")
        if len(values) != 4 * len(entries):
            raise ValueError("The stored fields of an entry are missing.")
        return FieldColumns(values[0::4], values[1::4], values[2::4], values[3::4])


def write_stored_fields(
    folder: Path, rows: Iterable[StoredFieldRow], parts: np.ndarray, positions: np.ndarray
) -> None:
    """Write the fields of entries, in ascending order, and the positions of their parts."""
    starts = [0]
    offset = 0
    with open(folder / DATA_FILE, "wb") as file:
        for number, id_, image, texts, metadata in rows:
            starts.extend([offset] * (number + 1 - len(starts)))  # numbers without an entry
            record = f"{json.dumps(id_)},{json.dumps(image)},{texts},{metadata}"
            offset += file.write(record.encode())
            starts.append(offset)
    np.save(folder / STARTS_FILE, np.array(starts, np.int64))
    by_part = np.full(int(parts.max(initial=-1)) + 1, NO_POSITION, np.int32)
    by_part[parts] = positions
    np.save(folder / POSITIONS_FILE, by_part)


def read_stored_fields(folder: Path) -> StoredFields:
    """Memory-map the stored fields. Raises OSError or ValueError if they are damaged."""
    size = (folder / DATA_FILE).stat().st_size
    data = np.memmap(folder / DATA_FILE, np.uint8, "r") if size else b""
    starts = np.load(folder / STARTS_FILE, mmap_mode="r").view(np.ndarray)
    positions = np.load(folder / POSITIONS_FILE, mmap_mode="r").view(np.ndarray)
    return StoredFields(data, starts, positions)
