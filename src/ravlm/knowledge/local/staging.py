"""Staging of a re-encoding: new parts wait in a table until every entry has its own.

One run at a time owns the table. A lock file refuses a second run, and is free again when its
process ends or is killed. Where files cannot be locked, the id of the run in the base takes its
place: each transaction checks it, so a run that another one has displaced stores nothing more.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ravlm.errors import Busy
from ravlm.files import try_lock
from ravlm.knowledge.embed import IngestItem
from ravlm.knowledge.local.sql import last_number
from ravlm.knowledge.local.store import SqliteStore
from ravlm.knowledge.records import MODALITY_CODES
from ravlm.knowledge.reencode import displaced_error

LOCK = "reencode.lock"
"""Lock file in the folder of derived files."""
_OWNER = "staging"
"""Key of [fingerprint of the encoder, id of the run] in the table `base`."""
# `ordinal` counts the parts of an entry: a passage may occur twice in a text
_CREATE = """
CREATE TABLE IF NOT EXISTS staged (
    number INTEGER PRIMARY KEY, entry INTEGER NOT NULL, ordinal INTEGER NOT NULL,
    modality INTEGER NOT NULL, position INTEGER NOT NULL, passage TEXT, checksum INTEGER NOT NULL,
    vector BLOB NOT NULL, words TEXT, tokens BLOB, token_checksum INTEGER, UNIQUE (entry, ordinal)
)"""
_TABLES = "SELECT 1 FROM sqlite_master WHERE name IN ('staged', 'fresh')"
_NOT_STAGED = (
    "SELECT id FROM entry WHERE number NOT IN (SELECT entry FROM staged) ORDER BY number LIMIT ?"
)
_OF_REMOVED = "DELETE FROM staged WHERE entry NOT IN (SELECT number FROM entry)"
_REPLACE_PARTS = """
INSERT INTO part
SELECT number + ?, entry, modality, position, passage, 0, checksum, ?, vector, words FROM staged
"""
_REPLACE_TOKENS = """
INSERT INTO token_vectors
SELECT number + ?, token_checksum, tokens FROM staged WHERE tokens NOTNULL
"""


class Staging:
    """The staging table in the hands of one run. Methods raise Busy once another run owns it."""

    def __init__(self, store: SqliteStore, fingerprint: str) -> None:
        self.store = store
        self.fingerprint = fingerprint
        self.owner = json.dumps([fingerprint, uuid.uuid4().hex])

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that sees one state of entries and staged parts."""
        with self.store.reading() as db:
            self._check_owner(db)
            yield db

    def missing(self, db: sqlite3.Connection, n: int) -> list[str]:
        """Return the ids of the first n entries that are not staged."""
        return [id_ for (id_,) in db.execute(_NOT_STAGED, (n,))]

    def count(self, db: sqlite3.Connection) -> int:
        """Return the number of staged entries."""
        return int(db.execute("SELECT COUNT(DISTINCT entry) FROM staged").fetchone()[0])

    def add(self, items: Sequence[IngestItem], numbers: Mapping[str, int]) -> None:
        """Stage the parts of encoded entries; `numbers` are their numbers by id."""
        rows = [
            (
                numbers[item.entry.id],
                ordinal,
                MODALITY_CODES[part.modality],
                part.position,
                part.passage,
                zlib.crc32(part.vector),
                part.vector,
                part.words,
                part.tokens,
                None if part.tokens is None else zlib.crc32(part.tokens),
            )
            for item in items
            for ordinal, part in enumerate(item.parts)
        ]
        with self.store.writing() as (db, _):
            self._check_owner(db)
            marks = ", ".join("?" * 10)
            db.executemany(f"INSERT INTO staged VALUES (NULL, {marks})", rows)  # noqa: S608

    def replace_parts(self, db: sqlite3.Connection, change: int) -> bool:
        """Replace all parts by the staged ones, which are then gone, within `writing()`.

        Return False, and change nothing, if an entry was added meanwhile.
        """
        self._check_owner(db)
        if self.missing(db, 1):
            return False
        db.execute(_OF_REMOVED)
        db.execute("DELETE FROM token_vectors")
        db.execute("DELETE FROM part")
        db.execute("DELETE FROM removed")
        last_part = last_number(db, "part")
        db.execute(_REPLACE_PARTS, (last_part, change))
        db.execute(_REPLACE_TOKENS, (last_part,))
        _drop(db)
        return True

    def prepare(self) -> None:
        """Take the table over, with what an interrupted run of the same encoder has staged."""
        with self.store.writing() as (db, _):
            previous = _owner(db)
            if previous is None or json.loads(previous)[0] != self.fingerprint:
                _drop(db)
            db.execute(_CREATE)
            db.execute("INSERT OR REPLACE INTO base VALUES (?, ?)", (_OWNER, self.owner))

    def _check_owner(self, db: sqlite3.Connection) -> None:
        if _owner(db) != self.owner:
            raise displaced_error(str(self.store.folder))


@contextmanager
def open_staging(store: SqliteStore, derived: Path, fingerprint: str) -> Iterator[Staging]:
    """Yield the staging table of a new run. Raises Busy while another run owns it."""
    with try_lock(derived / LOCK) as is_locked:
        if is_locked is False:
            raise Busy(
                f'The knowledge base "{store.folder}" is being re-encoded by another process. '
                "Wait until it is done, or stop it; then run this again if it is still needed."
            )
        table = Staging(store, fingerprint)
        table.prepare()
        yield table


def clear_staging(db: sqlite3.Connection, derived: Path) -> None:
    """Remove what an interrupted run has staged; of a run that goes on, only removed entries."""
    if not db.execute(_TABLES).fetchone():
        return
    with try_lock(derived / LOCK) as is_locked:
        if is_locked:
            _drop(db)
        elif _owner(db) is not None:
            db.execute(_OF_REMOVED)


def _owner(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT value FROM base WHERE key = ?", (_OWNER,)).fetchone()
    return None if row is None else str(row[0])


def _drop(db: sqlite3.Connection) -> None:
    db.execute("DROP TABLE IF EXISTS staged")
    db.execute("DROP TABLE IF EXISTS fresh")  # of an earlier version, which did not own it
    db.execute("DELETE FROM base WHERE key IN (?, 'fresh')", (_OWNER,))
