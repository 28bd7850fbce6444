"""Reading connections to the SQLite file of a base, one for each kind of permission.

A process that may write next to the file takes part in the locks of its write-ahead log (WAL). One
that may not can do so only while another process has a log: SQLite cannot create it here.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from ravlm.errors import Busy, RavlmError
from ravlm.knowledge.local.row_checks import UNEXPECTED_ERRORS
from ravlm.knowledge.local.sqlite_errors import FILE, WAIT_SECONDS

MMAP_BYTES = 2**40
"""Bytes read through the memory map, as hits are spread over the file; SQLite stops at 2 GB."""
CHECKPOINT_PAGES = 4000
"""Pages of the log (32 MB) that are copied into the file at a time.

Pages that change often are then copied only once."""
MAX_OPENINGS = 20
"""How often a reader follows a log that appears or vanishes while it opens the file."""


def connect(file: Path, options: str = "") -> sqlite3.Connection:
    """Connect to the file of a base. `options` are SQLite's: "mode=ro", "immutable=1"."""
    db = sqlite3.connect(
        f"file:{quote(str(file))}?{options}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=WAIT_SECONDS,
    )
    try:
        db.execute("PRAGMA synchronous = FULL")  # reads the file, and so opens its log
        db.execute("PRAGMA secure_delete = OFF")  # `compact` rewrites the file
        db.execute("PRAGMA cache_size = -65536")
        db.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        db.execute(f"PRAGMA mmap_size = {MMAP_BYTES}")
    except BaseException:
        db.close()
        raise
    return db


def is_writable(folder: Path) -> bool:
    """Return whether this process may write to the base in a folder."""
    return os.access(folder, os.W_OK) and os.access(folder / FILE, os.W_OK)


def open_reader(folder: Path) -> Reader:
    """Return a reader of the base in `folder` for the permissions of this process."""
    kind = Reader if is_writable(folder) else UnprivilegedReader
    return kind(folder / FILE)


class Reader:
    """A connection that reads; writers and checkpoints of all processes see its locks."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.db = connect(file)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection in a transaction that sees one state."""
        self.db.execute("BEGIN")
        try:
            yield self.db
        finally:
            self.db.execute("ROLLBACK")

    def close(self) -> None:
        """Close the connection; this may be done twice."""
        self.db.close()


class UnprivilegedReader(Reader):
    """Reads a base in a folder that this process may not write to.

    While a log exists, the connection shares its locks. Without one the file is opened as
    immutable, for one transaction: SQLite then takes no locks and keeps what it has read, which is
    right as long as nobody writes. If somebody did, the transaction ends with an error.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._log = file.with_name(f"{file.name}-wal")
        self._has_locks = False
        self._version: object = None
        self._open()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that sees one state. Raises Busy if the file changed meanwhile."""
        if not (self._has_locks and self._log.exists()):
            self.close()
            self._open()
        try:
            with super().transaction():
                yield self.db
        except (RavlmError, sqlite3.Error, *UNEXPECTED_ERRORS):
            self._check_unchanged()  # half of the pages may be new
            raise
        self._check_unchanged()

    def _open(self) -> None:
        """Connect in the way that the log allows now."""
        for _ in range(MAX_OPENINGS):
            version = _version(self.file)
            has_log = self._log.exists()
            try:
                db = connect(self.file, "mode=ro" if has_log else "immutable=1")
            except sqlite3.OperationalError:
                if not has_log or self._log.exists():
                    raise
                continue  # the last writer has just folded its log into the file
            self.db, self._has_locks, self._version = db, has_log, version
            if has_log or _version(self.file) == version:
                return
            db.close()
        raise self._changed_error()

    def _check_unchanged(self) -> None:
        if not self._has_locks and _version(self.file) != self._version:
            raise self._changed_error()

    def _changed_error(self) -> Busy:
        return Busy(
            f'Another process wrote to the knowledge base "{self.file.parent}" while it was read '
            "here without permission to write, and so without locks. Try again."
        )


def _version(file: Path) -> tuple[int, int, int]:
    """Return what differs after a file was written."""
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
