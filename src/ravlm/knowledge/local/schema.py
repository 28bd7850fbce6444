"""The store's tables: what a knowledge base is on disk, and the rows that are written to it.

Knows no connection. `FORMAT` goes up when a table changes its meaning; an older base is then
upgraded or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING



APPLICATION = 0x7261766C  # "ravl": what `file` and others see in the SQLite header
FORMAT = 3
PAGE_SIZE = 8192
"""Two parts of 1,000 half-precision dimensions fill a page of 4,096 bytes badly."""
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
