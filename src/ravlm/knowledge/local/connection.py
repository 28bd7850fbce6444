"""Connections to the SQLite file of a base (write-ahead log), and its transactions.

One connection reads and another writes, so a search never waits for a batch that is being stored.
`synchronous` is FULL: an acknowledged batch is on disk and survives a power loss. For a process
that may not write to the folder see `readers`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from ravlm.errors import InvalidInput, NotFound
from ravlm.knowledge.local.readers import connect, is_writable, open_reader
from ravlm.knowledge.local.row_checks import damage_explained
from ravlm.knowledge.local.schema import PAGE_SIZE, TABLES
from ravlm.knowledge.local.sql import num_tables, write_identity
from ravlm.knowledge.local.sqlite_errors import (
    FILE,
    WAIT_SECONDS,
    check_format,
    readable_errors,
)
from ravlm.knowledge.records import Identity
from ravlm.records import Modality


class SqliteConnection:
    """A base's SQLite file with one reading and one writing connection."""

    def __init__(self, folder: Path) -> None:
        """Open the store in `folder`. Raises NotFound, BrokenData, or Mismatch of the format."""
        self.folder = folder
        self.file = folder / FILE
        if not self.file.is_file():
            raise NotFound(
                f'There is no knowledge base in "{folder}"; create one with: '
                f"ravlm build {folder} SOURCE"
            )
        self.writable = is_writable(folder)
        self._read_lock = threading.RLock()
        self._write_lock = threading.RLock()
        self._writer: sqlite3.Connection | None = None
        with readable_errors(self.file):
            self._transactions = open_reader(folder)
            check_format(self._reader, self.folder, self.writable)

    @staticmethod
    def create_file(
        folder: Path, identity: Identity, canaries: Mapping[Modality, np.ndarray]
    ) -> None:
        """Create the file of an empty store; canaries are float32 (n, dim) per modality."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / FILE
        with (
            readable_errors(file),
            closing(sqlite3.connect(file, isolation_level=None, timeout=WAIT_SECONDS)) as db,
        ):
            db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("BEGIN IMMEDIATE")
            if not num_tables(db):  # else another process was faster
                for statement in TABLES.split(";\n"):
                    db.execute(statement)
                db.execute("INSERT INTO base VALUES ('change', 0), ('purged', 0)")
                write_identity(db, identity, canaries)
            db.execute("COMMIT")

    @staticmethod
    def exists(folder: Path) -> bool:
        """Return whether `folder` holds a store that was created completely."""
        file = folder / FILE
        if not file.is_file():
            return False
        with (
            readable_errors(file),
            closing(open_reader(folder)) as reader,
            reader.transaction() as db,
        ):
            return bool(num_tables(db))

    def close(self) -> None:
        """Close the file; the last process that closes folds the write-ahead log into it."""
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        with self._read_lock:
            self._transactions.close()

    @property
    def _reader(self) -> sqlite3.Connection:
        """The connection that reads."""
        return self._transactions.db

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that sees one state until the block ends; blocks may be nested."""
        with self._read_lock, readable_errors(self.file):
            if self._reader.in_transaction:
                yield self._reader
                return
            with self._transactions.transaction() as db, damage_explained(db):
                yield db

    @contextmanager
    def writing(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """Yield a connection and the number of the change.

        The change is committed at the end of the block, or not at all.
        """
        self.check_writable()
        with self._write_lock, readable_errors(self.file):
            db = self._open_writer()
            db.execute("BEGIN IMMEDIATE")
            try:
                row = db.execute(
                    "UPDATE base SET value = value + 1 WHERE key = 'change' RETURNING value"
                ).fetchone()
                with damage_explained(db):
                    yield db, int(row[0])
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def vacuum(self) -> bool:
        """Rewrite the file without removed rows.

        Return False if the old content is still there: a process that was reading it when the
        rewriting ended has not finished within `WAIT_SECONDS`.
        """
        self.check_writable()
        with self._write_lock, readable_errors(self.file):
            db = self._open_writer()
            db.execute("VACUUM")
            is_busy, *_ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not is_busy

    def check_writable(self) -> None:
        """Raise InvalidInput if the base can only be read."""
        if not self.writable:
            raise InvalidInput(
                f'The knowledge base "{self.folder}" is read-only; '
                "copy it to a folder that you can write to."
            )

    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = connect(self.file)
        return self._writer
