"""What keeps a base small and current: compaction, and all its vectors made anew by another
encoder.

Knows the store's tables; searches go on meanwhile, and the write lock is held for a batch only.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ravlm.errors import BrokenData, InvalidInput, Mismatch, NotFound
from ravlm.knowledge.embed import Item, encode
from ravlm.knowledge.images import FOLDER, opened
from ravlm.knowledge.records import Identity, MODALITY_CODES
from ravlm.knowledge.local.sql import write_identity
from ravlm.knowledge.local.store import Store
from ravlm.records import Entry, Modality

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

BATCH = 128
_FRESH = """CREATE TABLE IF NOT EXISTS fresh (number INTEGER PRIMARY KEY, entry INTEGER, modality INTEGER,
    position INTEGER, passage TEXT, checksum INTEGER, vector BLOB, words TEXT)"""
_MISSING = (
    "SELECT id FROM entry WHERE number NOT IN (SELECT entry FROM fresh) ORDER BY number LIMIT ?"
)


def compact(store: Store) -> None:
    """Clear what was removed from the disk: rows, keywords, tombstones, pictures that no entry
    refers to."""
    with store.writing() as (db, change):
        db.execute("DELETE FROM removed")
        db.execute("UPDATE base SET value = ? WHERE key = 'purged'", (change,))
        kept = {
            store.folder / image
            for (image,) in db.execute("SELECT image FROM entry WHERE image IS NOT NULL")
        }
        for path in sorted(
            (store.folder / FOLDER).rglob("*"), reverse=True
        ):  # what is in a folder before itself
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
            elif path.is_file() and path not in kept:
                path.unlink(missing_ok=True)
    store.vacuum()


def reencode(
    store: Store,
    encoder: Encoder,
    identity: Identity,
    canaries: dict[Modality, np.ndarray],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encode all entries with `encoder`, and let its vectors take the place of the present ones in
    one transaction.

    Until then they wait in a table beside, so an interrupted run goes on where it stopped, and the
    base is searched with the old ones. Raises InvalidInput where a ready-made vector has no content
    that could be encoded, and the picture's own error where one can't be read; nothing is changed
    then."""
    _refuse_without_content(store)
    with store.writing() as (db, _):
        row = db.execute("SELECT value FROM base WHERE key = 'fresh'").fetchone()
        if row is not None and row[0] != encoder.fingerprint:
            db.execute("DROP TABLE IF EXISTS fresh")
        db.execute("INSERT OR REPLACE INTO base VALUES ('fresh', ?)", (encoder.fingerprint,))
        db.execute(_FRESH)
    while True:
        with store.reading() as db:
            ids = [id_ for (id_,) in db.execute(_MISSING, (BATCH,))]
            done = db.execute("SELECT COUNT(DISTINCT entry) FROM fresh").fetchone()[0]
            numbers, entries = store.numbers(ids), store.entries(ids)
        if progress is not None:
            progress(done, store.count())
        if ids:
            items = [item_of(entries[id_], encoder) for id_ in ids]
            encode(items, lambda: encoder)
            with store.writing() as (db, _):
                _stage(db, items, numbers)
        elif _swap(store, identity, canaries):
            return


def _refuse_without_content(store: Store) -> None:
    sql = (
        "SELECT id FROM entry JOIN part ON part.entry = entry.number WHERE given = 1 AND "
        "((modality = 0 AND image IS NULL) OR (modality = 1 AND texts = '[]')) LIMIT 1"
    )
    with store.reading() as db:
        row = db.execute(sql).fetchone()
    if row is not None:
        raise InvalidInput(
            f'The vector of "{row[0]}" was given ready-made, without a picture or text that could be encoded; '
            "remove such entries first, or add them to a new base with vectors of the other encoder."
        )


def item_of(entry: Entry, encoder: Encoder) -> Item:
    """A stored entry to be encoded again. Raises the picture's own error where it can't be read."""
    item = Item(entry, entry.id)
    if entry.image is not None:
        try:
            item.pixels = opened(entry.image, encoder)
        except (NotFound, BrokenData) as error:
            raise type(error)(
                f'The entry "{entry.id}" can\'t be re-encoded: {error} Put the picture back or remove the entry, and '
                "repeat; the base still has its old vectors."
            ) from error
    return item


def _stage(db: sqlite3.Connection, items: list[Item], numbers: dict[str, int]) -> None:
    for item in items:
        if item.refused:
            raise Mismatch(
                f'"{item.entry.id}" can\'t be re-encoded: {item.refused} The base has its old vectors.'
            )
        number = numbers[item.entry.id]
        db.executemany(
            "INSERT INTO fresh VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    number,
                    MODALITY_CODES[p.modality],
                    p.position,
                    p.passage,
                    zlib.crc32(p.vector),
                    p.vector,
                    p.words,
                )
                for p in item.parts
            ],
        )


def _swap(store: Store, identity: Identity, canaries: dict[Modality, np.ndarray]) -> bool:
    """Put the fresh vectors in place; False where an entry came meanwhile that has none yet."""
    with store.writing() as (db, change):
        if db.execute(_MISSING, (1,)).fetchone():
            return False
        db.execute("DELETE FROM fresh WHERE entry NOT IN (SELECT number FROM entry)")
        for table in ("part", "removed"):
            db.execute(f"DELETE FROM {table}")  # noqa: S608
        first = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'part'").fetchone() or (0,)
        db.execute(
            "INSERT INTO part SELECT number + ?, entry, modality, position, passage, 0, checksum, ?, vector, words "
            "FROM fresh",
            (first[0], change),
        )
        db.execute("DROP TABLE fresh")
        db.execute("DELETE FROM base WHERE key = 'fresh'")
        db.execute("UPDATE base SET value = ? WHERE key = 'purged'", (change,))
        write_identity(db, identity, canaries)
    return True
