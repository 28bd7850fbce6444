"""Compaction and re-encoding of a base in a folder.

Searches continue meanwhile; the write lock is held for one batch at a time.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ravlm.knowledge.embed import IngestItem
from ravlm.knowledge.images import FOLDER
from ravlm.knowledge.local.sql import last_number, write_identity
from ravlm.knowledge.local.store import SqliteStore
from ravlm.knowledge.records import MODALITY_CODES, Identity
from ravlm.knowledge.reencode import (
    REENCODE_BATCH,
    ReencodeProgress,
    encode_entries,
    no_content_error,
)
from ravlm.records import Modality

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

# staging table for new parts: an interrupted re-encoding resumes from it
_CREATE_FRESH = """
CREATE TABLE IF NOT EXISTS fresh (
    number INTEGER PRIMARY KEY, entry INTEGER, modality INTEGER, position INTEGER, passage TEXT,
    checksum INTEGER, vector BLOB, words TEXT
)"""
_NOT_ENCODED = (
    "SELECT id FROM entry WHERE number NOT IN (SELECT entry FROM fresh) ORDER BY number LIMIT ?"
)
_WITHOUT_CONTENT = """
SELECT id FROM entry JOIN part ON part.entry = entry.number
WHERE given = 1 AND ((modality = 0 AND image IS NULL) OR (modality = 1 AND texts = '[]')) LIMIT 1
"""
_REPLACE_PARTS = """
INSERT INTO part
SELECT number + ?, entry, modality, position, passage, 0, checksum, ?, vector, words FROM fresh
"""


def compact(store: SqliteStore) -> None:
    """Clear removed rows and keywords, and images that no entry refers to, from disk."""
    with store.writing() as (db, change):
        db.execute("DELETE FROM removed")
        db.execute("UPDATE base SET value = ? WHERE key = 'purged'", (change,))
        rows = db.execute("SELECT image FROM entry WHERE image IS NOT NULL")
        referenced = {store.folder / image for (image,) in rows}
        # reverse order: the contents of a folder before the folder itself
        for path in sorted((store.folder / FOLDER).rglob("*"), reverse=True):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
            elif path.is_file() and path not in referenced:
                path.unlink(missing_ok=True)
    store.vacuum()


def reencode(
    store: SqliteStore,
    encoder: Encoder,
    identity: Identity,
    canaries: Mapping[Modality, np.ndarray],
    progress: ReencodeProgress | None = None,
) -> None:
    """Encode all entries with `encoder` and replace all vectors in one transaction.

    Until then new vectors wait in a staging table: an interrupted run resumes, and searches use the
    old vectors. Raises InvalidInput if a precomputed vector has no content to encode, and the error
    of an image that cannot be read; the base is then unchanged.
    """
    with store.reading() as db:
        row = db.execute(_WITHOUT_CONTENT).fetchone()
    if row is not None:
        raise no_content_error(row[0])
    _prepare_staging(store, encoder)
    while True:
        with store.reading() as db:
            ids = [id_ for (id_,) in db.execute(_NOT_ENCODED, (REENCODE_BATCH,))]
            num_done = db.execute("SELECT COUNT(DISTINCT entry) FROM fresh").fetchone()[0]
            numbers = store.numbers(ids)
            entries = store.entries(ids)
        if progress is not None:
            progress(num_done, store.count())
        if ids:
            items = encode_entries([entries[id_] for id_ in ids], encoder)
            with store.writing() as (db, _):
                _stage(db, items, numbers)
        elif _swap(store, identity, canaries):
            return


def _prepare_staging(store: SqliteStore, encoder: Encoder) -> None:
    """Create the staging table; one of another encoder is dropped."""
    with store.writing() as (db, _):
        row = db.execute("SELECT value FROM base WHERE key = 'fresh'").fetchone()
        if row is not None and row[0] != encoder.fingerprint:
            db.execute("DROP TABLE IF EXISTS fresh")
        db.execute("INSERT OR REPLACE INTO base VALUES ('fresh', ?)", (encoder.fingerprint,))
        db.execute(_CREATE_FRESH)


def _stage(db: sqlite3.Connection, items: Sequence[IngestItem], numbers: Mapping[str, int]) -> None:
    for item in items:
        entry = numbers[item.entry.id]
        rows = [
            (
                entry,
                MODALITY_CODES[part.modality],
                part.position,
                part.passage,
                zlib.crc32(part.vector),
                part.vector,
                part.words,
            )
            for part in item.parts
        ]
        db.executemany("INSERT INTO fresh VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", rows)


def _swap(store: SqliteStore, identity: Identity, canaries: Mapping[Modality, np.ndarray]) -> bool:
    """Replace the parts by the staged ones; return False if an entry was added meanwhile."""
    with store.writing() as (db, change):
        if db.execute(_NOT_ENCODED, (1,)).fetchone():
            return False
        db.execute("DELETE FROM fresh WHERE entry NOT IN (SELECT number FROM entry)")
        db.execute("DELETE FROM part")
        db.execute("DELETE FROM removed")
        db.execute(_REPLACE_PARTS, (last_number(db, "part"), change))
        db.execute("DROP TABLE fresh")
        db.execute("DELETE FROM base WHERE key = 'fresh'")
        db.execute("UPDATE base SET value = ? WHERE key = 'purged'", (change,))
        write_identity(db, identity, canaries)
    return True
