"""The tables of a store: the format of a knowledge base on disk.

`FORMAT` increases when a table changes its meaning; an older base is then upgraded or refused.
"""

from __future__ import annotations

APPLICATION_ID = 0x7261766C
"""The bytes "ravl" in the SQLite header, where `file` and other tools see them."""
FORMAT = 5
PAGE_SIZE = 8192
"""Vectors of 1,000 half-precision dimensions would fill pages of 4,096 bytes badly."""

TOKENS_TABLE = """
-- of multi-vector encoders; `vector` of the part is then the direction of their mean
CREATE TABLE token_vectors (
    part INTEGER PRIMARY KEY,   -- number of the part
    checksum INTEGER NOT NULL,  -- CRC-32 of the vectors
    vectors BLOB NOT NULL       -- float16 (tokens, dim), little-endian, each of length 1
);"""
TABLES = f"""
CREATE TABLE base (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
-- vectors of fixed texts and images, float32: they identify the encoder this base was built with
CREATE TABLE canary (
    modality INTEGER, position INTEGER, vector BLOB NOT NULL, PRIMARY KEY (modality, position)
) WITHOUT ROWID;
CREATE TABLE entry (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    image TEXT,                 -- an absolute path, an address, or a path in this folder
    image_hash TEXT,            -- SHA-256 of the encoded image
    texts TEXT NOT NULL,        -- JSON list
    metadata TEXT NOT NULL,     -- JSON object
    digest TEXT NOT NULL,       -- hash of the content and of precomputed vectors
    change INTEGER NOT NULL,
    look BLOB,                  -- perceptual hash of its image (see dedup.py)
    regions TEXT                /* JSON list: what is written on the image and where; or NULL */
);
-- never updated: a changed entry gets new parts, so newer parts have higher numbers
CREATE TABLE part (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    entry INTEGER NOT NULL REFERENCES entry (number),
    modality INTEGER NOT NULL,
    position INTEGER NOT NULL,  -- which of the entry's texts, or one more: that of its regions
    passage TEXT,               -- NULL: the whole text
    given INTEGER NOT NULL,     -- 1: the vector was precomputed by the user
    checksum INTEGER NOT NULL,  -- CRC-32 of the vector
    change INTEGER NOT NULL,
    vector BLOB NOT NULL,       -- float16, little-endian, length 1
    words TEXT                  -- terms for keyword search, separated by blanks; NULL for an image
);
CREATE INDEX part_of_entry ON part (entry);
{TOKENS_TABLE}
-- removed parts, for indexes that still contain them
CREATE TABLE removed (change INTEGER, part INTEGER, PRIMARY KEY (change, part)) WITHOUT ROWID;
CREATE TABLE facet (
    key TEXT, kind INTEGER, value, entry INTEGER, PRIMARY KEY (key, kind, value, entry)
) WITHOUT ROWID;
CREATE INDEX facet_of_entry ON facet (entry);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
"""

UPGRADES = {
    1: """
ALTER TABLE part ADD COLUMN words TEXT;
UPDATE part SET words = COALESCE((SELECT words FROM keyword WHERE rowid = part.number), '')
    WHERE modality = 1;
DROP TABLE keyword;
PRAGMA user_version = 2;
""",
    2: """
ALTER TABLE entry ADD COLUMN look BLOB;
PRAGMA user_version = 3;
""",
    3: """
ALTER TABLE entry ADD COLUMN regions TEXT;
PRAGMA user_version = 4;
""",
    4: TOKENS_TABLE
    + """
DROP TABLE IF EXISTS staged;
DELETE FROM base WHERE key = 'staging';
PRAGMA user_version = 5;
""",
}
"""Statements that upgrade each format to the next one."""
