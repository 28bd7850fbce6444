"""The store's tables: what a knowledge base is on disk, and the rows that are written to it.

Knows no connection. `FORMAT` goes up when a table changes its meaning; an older base is then
upgraded or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ravlm.records import Entry, Modality, Part

if TYPE_CHECKING:
    from ravlm.encoders.base import DualEncoder

APPLICATION = 0x7261766C  # "ravl": what `file` and others see in the SQLite header
FORMAT = 3
PAGE_SIZE = 8192
"""Two parts of 1,000 half-precision dimensions fill a page of 4,096 bytes badly."""
CODES: dict[Modality, int] = {"image": 0, "text": 1}
"""How a modality is written in the store."""
NAMES: dict[int, Modality] = {code: modality for modality, code in CODES.items()}

TABLES = f"""
CREATE TABLE base (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
-- vectors of fixed texts and drawn images, float32: the proof that an encoder is the one this base was built with
CREATE TABLE canary (modality INTEGER, position INTEGER, vector BLOB NOT NULL, PRIMARY KEY (modality, position))
    WITHOUT ROWID;
CREATE TABLE entry (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    image TEXT,                 -- an absolute path, an address, or a path in this folder
    image_hash TEXT,            -- SHA-256 of the encoded picture
    texts TEXT NOT NULL,        -- JSON list
    metadata TEXT NOT NULL,     -- JSON object
    digest TEXT NOT NULL,       -- of all the above and of given vectors: an equal entry is not encoded again
    change INTEGER NOT NULL,
    look BLOB                   /* what its picture looks like (see duplicates.py), where it was decoded here */
);
-- never updated: a changed entry gets new parts with higher numbers, so "newer than" is a comparison of numbers
CREATE TABLE part (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    entry INTEGER NOT NULL REFERENCES entry (number),
    modality INTEGER NOT NULL,
    position INTEGER NOT NULL,  -- which of the entry's texts
    passage TEXT,               -- NULL: the whole text
    given INTEGER NOT NULL,     -- 1: the vector came ready-made
    checksum INTEGER NOT NULL,  -- CRC-32 of the vector
    change INTEGER NOT NULL,
    vector BLOB NOT NULL,       -- float16, little-endian, length 1
    words TEXT                  -- what keyword search finds it by, separated by blanks; NULL for a picture
);
CREATE INDEX part_of_entry ON part (entry);
-- parts that are gone, for indexes that still hold them
CREATE TABLE removed (change INTEGER, part INTEGER, PRIMARY KEY (change, part)) WITHOUT ROWID;
CREATE TABLE facet (key TEXT, kind INTEGER, value, entry INTEGER, PRIMARY KEY (key, kind, value, entry))
    WITHOUT ROWID;
CREATE INDEX facet_of_entry ON facet (entry);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
"""

UPGRADES = {
    1: """
ALTER TABLE part ADD COLUMN words TEXT;
UPDATE part SET words = COALESCE((SELECT words FROM keyword WHERE rowid = part.number), '') WHERE modality = 1;
DROP TABLE keyword;
PRAGMA user_version = 2;
""",
    2: """
ALTER TABLE entry ADD COLUMN look BLOB;
PRAGMA user_version = 3;
""",
}
"""By format: what makes the next one of it."""


@dataclass(frozen=True)
class Identity:
    """Whose vectors a base holds, and which base it is."""

    base: str
    """Random, given when the base was made: a snapshot of another base is not mistaken for one of
    this."""
    encoder: str
    """What `DualEncoder.load` takes."""
    fingerprint: str
    dim: int

    def of(self, encoder: DualEncoder) -> Identity:
        """The same base with another encoder."""
        return Identity(self.base, encoder.name, encoder.fingerprint, encoder.dim)


class State(NamedTuple):
    """Where a store stands: the last change, the change up to which tombstones were cleared away,
    and its identity."""

    change: int
    purged: int
    identity: Identity


class PartRow(NamedTuple):
    """A part to store. `words`: what keyword search finds it by, separated by blanks."""

    modality: Modality
    position: int
    passage: str | None
    vector: bytes
    given: bool
    words: str | None = None


class EntryRow(NamedTuple):
    """An entry to store, checked and encoded. `picture`: bytes to be written to `image`, a path in
    the base."""

    id: str
    image: str | None
    image_hash: str | None
    texts: str
    metadata: str
    """As JSON, both."""
    facets: Sequence[tuple[str, int, str | int | float]]
    digest: str
    parts: tuple[PartRow, ...]
    picture: bytes | None = None
    look: bytes | None = None
    known: bool = True
    """Whether an entry of this id was there when it was looked for: then it is looked for again to
    be replaced."""


def part_of(entry: Entry, modality: Modality, position: int, passage: str | None) -> Part:
    """What a hit shows of a part that is stored so."""
    if modality == "image":
        return Part("image")
    if passage is None:
        passage = entry.texts[position] if position < len(entry.texts) else ""
    return Part("text", position, passage)
