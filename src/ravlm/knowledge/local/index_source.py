"""What indexes read from the SQLite file: rows newer than those they cover, and removed ones."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from ravlm.knowledge.index.stored_fields import IMAGE_POSITION, NO_POSITION
from ravlm.knowledge.local.connection import SqliteConnection
from ravlm.knowledge.local.sql import last_number, read_state
from ravlm.knowledge.records import MODALITY_CODES, StoreState
from ravlm.records import Modality

NUM_CHECKSUMS = 32
"""Newest parts whose checksums identify a history."""
# NO_POSITION: passages, and entries with regions, are read from the store
_PARTS_AFTER = f"""
SELECT part.number, entry, modality, vector, checksum,
    CASE WHEN passage NOTNULL OR regions NOTNULL THEN {NO_POSITION}
         WHEN modality = {MODALITY_CODES["image"]} THEN {IMAGE_POSITION}
         ELSE position END
FROM part LEFT JOIN entry ON entry.number = part.entry WHERE part.number > ? ORDER BY part.number
"""  # noqa: S608


class SqliteIndexSource(SqliteConnection):
    """Reads rows by number; implements `IndexSource`."""

    def reopen(self) -> SqliteIndexSource:
        """Return the same store on a connection of its own."""
        return SqliteIndexSource(self.folder)

    def state(self) -> StoreState:
        """Return the last change and the identity of the base."""
        with self.reading() as db:
            return read_state(db)

    def canaries(self) -> dict[Modality, np.ndarray]:
        """Return the stored vectors of the canaries, float32 (n, dim) per modality."""
        sql = "SELECT vector FROM canary WHERE modality = ? ORDER BY position"
        with self.reading() as db:
            blobs = {
                modality: [row[0] for row in db.execute(sql, (code,))]
                for modality, code in MODALITY_CODES.items()
            }
            return {
                modality: np.array([np.frombuffer(blob, "<f4") for blob in of_modality], np.float32)
                for modality, of_modality in blobs.items()
            }

    def last_entry(self) -> int:
        """Return the highest number ever assigned to an entry."""
        with self.reading() as db:
            return last_number(db, "entry")

    def parts_after(self, last_part: int) -> Iterator[tuple[int, int, int, bytes, int, int]]:
        """Yield newer parts, within `reading()`.

        A row is number, entry number, modality code, vector, checksum, and the position that
        `StoredFields` keeps.
        """
        return iter(self._reader.execute(_PARTS_AFTER, (last_part,)))

    def tokens_after(self, last_part: int) -> Iterator[tuple[int, int, bytes, int]]:
        """Yield the token vectors of newer parts, within `reading()`.

        A row is number, modality code, float16 (tokens, dim), and checksum.
        """
        sql = (
            "SELECT part, modality, vectors, token_vectors.checksum "
            "FROM token_vectors JOIN part ON part.number = part WHERE part > ? ORDER BY part"
        )
        return iter(self._reader.execute(sql, (last_part,)))

    def stored_fields(self) -> Iterator[tuple[int, str, str | None, str, str]]:
        """Yield number, id, image, texts and metadata of each entry, within `reading()`."""
        sql = "SELECT number, id, image, texts, metadata FROM entry ORDER BY number"
        return iter(self._reader.execute(sql))

    def num_text_parts(self) -> int:
        """Return the number of parts with words."""
        with self.reading() as db:
            row = db.execute("SELECT COUNT(*) FROM part WHERE words IS NOT NULL").fetchone()
        return int(row[0])

    def words_after(self, last_part: int) -> list[tuple[int, int, str]]:
        """Return newer text parts as (number, entry number, words)."""
        sql = (
            "SELECT number, entry, words FROM part WHERE number > ? AND words IS NOT NULL "
            "ORDER BY number"
        )
        with self.reading() as db:
            return db.execute(sql, (last_part,)).fetchall()

    def facets_after(self, last_entry: int) -> tuple[list[tuple[str, int, Any, int]], int]:
        """Return facets of newer entries (key, kind, value, entry number), and the last number."""
        sql = "SELECT key, kind, value, entry FROM facet WHERE entry > ?"
        with self.reading() as db:
            return db.execute(sql, (last_entry,)).fetchall(), last_number(db, "entry")

    def removed_since(self, change: int) -> list[int]:
        """Return the numbers of parts removed after `change`."""
        with self.reading() as db:
            rows = db.execute("SELECT part FROM removed WHERE change > ?", (change,)).fetchall()
        return [part for (part,) in rows]

    def checksum(self, part: int) -> int | None:
        """Return the checksum of a part's vector; None if the part does not exist."""
        with self.reading() as db:
            row = db.execute("SELECT checksum FROM part WHERE number = ?", (part,)).fetchone()
        return None if row is None else int(row[0])

    def newest_checksums(self) -> list[tuple[int, int]]:
        """Return (number, checksum) of the newest parts, newest first."""
        sql = "SELECT number, checksum FROM part ORDER BY number DESC LIMIT ?"
        with self.reading() as db:
            return db.execute(sql, (NUM_CHECKSUMS,)).fetchall()

    def index_choice(self) -> tuple[str | None, float | None]:
        """Return the index kind and recall selected by `tune`; None if it never ran."""
        with self.reading() as db:
            row = db.execute("SELECT value FROM base WHERE key = 'index'").fetchone()
        try:
            kind, recall = json.loads(row[0]) if row else (None, None)
        except (TypeError, ValueError):
            return None, None
        is_valid = isinstance(kind, str) and isinstance(recall, float | int)
        return (kind, recall) if is_valid else (None, None)

    def choose_index(self, kind: str, recall: float) -> None:
        """Store the index kind and recall selected by `tune`."""
        sql = "INSERT OR REPLACE INTO base VALUES ('index', ?)"
        with self.writing() as (db, _):
            db.execute(sql, (json.dumps([kind, recall]),))
