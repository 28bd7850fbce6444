"""Compaction and re-encoding of a base in a folder.

Searches continue meanwhile; the write lock is held for one batch at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ravlm.knowledge.images import FOLDER, own_reference, remove_unreferenced
from ravlm.knowledge.local.image_lock import image_files_locked
from ravlm.knowledge.local.sql import write_identity
from ravlm.knowledge.local.staging import Staging, clear_staging, open_staging
from ravlm.knowledge.local.store import SqliteStore
from ravlm.knowledge.records import Identity
from ravlm.knowledge.reencode import (
    REENCODE_BATCH,
    ReencodeProgress,
    encode_entries,
    no_content_error,
)
from ravlm.records import Modality

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

_WITHOUT_CONTENT = """
SELECT id FROM entry JOIN part ON part.entry = entry.number
WHERE given = 1 AND (
    (modality = 0 AND image IS NULL) OR (modality = 1 AND texts = '[]' AND regions IS NULL)
) LIMIT 1
"""


def compact(store: SqliteStore, derived: Path) -> bool:
    """Clear removed rows and keywords, images that no entry refers to, and what an interrupted
    re-encoding has staged, from disk.

    Return False if the file still holds them because other processes have been reading it.
    """
    store.check_writable()
    has_images = (store.folder / FOLDER).is_dir()
    with image_files_locked(store.folder) if has_images else nullcontext():
        with store.writing() as (db, change):
            db.execute("DELETE FROM removed")
            db.execute("UPDATE base SET value = ? WHERE key = 'purged'", (change,))
            clear_staging(db, derived)
            _refer_to_own_images(db, store.folder)
        if has_images:
            _remove_images(store)
    return store.vacuum()


def _remove_images(store: SqliteStore) -> None:
    """Remove the images that no entry refers to; after a commit, as `image_lock` explains."""
    with store.reading() as db:
        rows = db.execute("SELECT image FROM entry WHERE image IS NOT NULL")
        remove_unreferenced(store.folder, (image for (image,) in rows))
    for subfolder in (store.folder / FOLDER).glob("*"):
        with suppress(OSError):  # not empty
            subfolder.rmdir()


def _refer_to_own_images(db: sqlite3.Connection, folder: Path) -> None:
    """Make references to the base's own images relative to it.

    Earlier versions stored an absolute path for an entry that was read and added again.
    """
    rows = db.execute("SELECT number, image FROM entry WHERE image LIKE ?", (f"%{FOLDER}_%",))
    for number, image in rows.fetchall():
        reference = own_reference(image, folder)
        if reference is not None and reference != image:
            db.execute("UPDATE entry SET image = ? WHERE number = ?", (reference, number))


def reencode(
    store: SqliteStore,
    derived: Path,
    encoder: Encoder,
    identity: Identity,
    canaries: Mapping[Modality, np.ndarray],
    progress: ReencodeProgress | None = None,
) -> None:
    """Encode all entries with `encoder` and replace all vectors in one transaction.

    Until then new vectors wait in a staging table: an interrupted run resumes, and searches use the
    old vectors. Raises InvalidInput if a precomputed vector has no content to encode, Busy if
    another process re-encodes the base, and the error of an image that cannot be read; the base is
    then unchanged.
    """
    with store.reading() as db:
        row = db.execute(_WITHOUT_CONTENT).fetchone()
    if row is not None:
        raise no_content_error(row[0])
    with open_staging(store, derived, encoder.fingerprint) as table:
        while True:
            with table.reading() as db:
                ids = table.missing(db, REENCODE_BATCH)
                num_done = table.count(db)
                numbers = store.numbers(ids)
                entries = store.entries(ids)
            if progress is not None:
                progress(num_done, store.count())
            if ids:
                items = encode_entries([entries[id_] for id_ in ids], encoder)
                table.add(items, numbers)
            elif _replace(store, table, identity, canaries):
                return


def _replace(
    store: SqliteStore,
    table: Staging,
    identity: Identity,
    canaries: Mapping[Modality, np.ndarray],
) -> bool:
    """Replace the parts by the staged ones; return False if an entry was added meanwhile."""
    with store.writing() as (db, change):
        if not table.replace_parts(db, change):
            return False
        db.execute("UPDATE base SET value = ? WHERE key = 'purged'", (change,))
        write_identity(db, identity, canaries)
    return True
