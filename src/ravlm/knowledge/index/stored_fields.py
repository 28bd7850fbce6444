"""Cards: what hits show of entries, in one memory-mapped file, so that those of many hits are read
at once.

Derived from the store and a part of its snapshot. An entry's card never changes, as a changed entry
gets a new number; of a removed one nobody asks. Knows no SQL and no vectors."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

IMAGE_POSITION, NO_POSITION = -1, -2
"""Positions of parts that are no whole text of their entry: a picture, and a passage, which the
store knows."""
NAMES = ("cards.json", "cards-starts.npy", "cards-positions.npy")


Columns: TypeAlias = "tuple[list[str], list[str | None], list[list[str]], list[dict[str, Any]]]"
"""Ids, images, texts and metadata of entries, as the store has them."""


class Cards:
    """Cards of the entries and positions of the parts up to some number; none at first."""

    def __init__(self, data: Any = None, starts: np.ndarray | None = None,
                 positions: np.ndarray | None = None) -> None:  # fmt: skip
        """`data`: a buffer of bytes; the card of entry n lies from starts[n] to starts[n + 1];
        positions by part."""
        self.data = memoryview(data if data is not None else b"")
        self.starts = np.zeros(1, np.int64) if starts is None else starts
        self.positions = np.zeros(0, np.int32) if positions is None else positions

    def position(self, parts: np.ndarray) -> np.ndarray:
        """Which of its entry's texts each part is, or IMAGE_POSITION or NO_POSITION."""
        if len(parts) and parts.max() < len(self.positions):
            return self.positions[parts]
        found = np.full(len(parts), NO_POSITION, np.int32)
        here = parts < len(self.positions)
        found[here] = self.positions[parts[here]]
        return found

    def read(self, entries: np.ndarray) -> Columns:
        """The cards of these entries, all of which must be here. Raises ValueError where the file
        is damaged."""
        data = self.data
        bounds = zip(self.starts[entries].tolist(), self.starts[entries + 1].tolist(), strict=True)
        flat = json.loads(b"[" + b",".join([data[start:end] for start, end in bounds]) + b"]")
        if len(flat) != 4 * len(entries):
            raise ValueError("A card is missing.")
        return flat[0::4], flat[1::4], flat[2::4], flat[3::4]


def write(
    folder: Path,
    cards: Iterable[tuple[int, str, str | None, str, str]],
    parts: np.ndarray,
    positions: np.ndarray,
) -> None:
    """Write cards (entry's number, id, image, texts and metadata as JSON), ascending, and where
    parts stand."""
    starts, at = [0], 0
    with open(folder / NAMES[0], "wb") as file:
        for number, id_, image, texts, metadata in cards:
            starts.extend([at] * (number + 1 - len(starts)))
            at += file.write(f"{json.dumps(id_)},{json.dumps(image)},{texts},{metadata}".encode())
            starts.append(at)
    np.save(folder / NAMES[1], np.array(starts, np.int64))
    by_part = np.full(int(parts.max(initial=-1)) + 1, NO_POSITION, np.int32)
    by_part[parts] = positions
    np.save(folder / NAMES[2], by_part)


def read(folder: Path) -> Cards:
    """What `write` wrote, memory-mapped. Raises OSError or ValueError where it can't be read."""
    size = (folder / NAMES[0]).stat().st_size
    data = np.memmap(folder / NAMES[0], np.uint8, "r") if size else None
    starts, positions = (
        np.load(folder / name, mmap_mode="r").view(np.ndarray) for name in NAMES[1:]
    )
    return Cards(data, starts, positions)
