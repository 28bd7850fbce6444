"""Check and upgrade the format of a store's file, and turn SQLite's errors into clear messages."""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ravlm.errors import Busy, DamagedBase, DiskError, InvalidInput, Mismatch, NotFound, RavlmError
from ravlm.files import free_bytes, full_disk_error
from ravlm.knowledge.local.schema import APPLICATION_ID, FORMAT, UPGRADES

FILE = "store.sqlite"
WAIT_SECONDS = 60.0
"""How long a writer waits for another one."""
PROBE_BYTES = 2**16
"""Bytes written to a folder to learn why SQLite could not write there."""
DAMAGE = frozenset({
    "SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT", "SQLITE_IOERR_SHORT_READ",
    "SQLITE_IOERR_CORRUPTFS", "SQLITE_IOERR_DATA",
})  # fmt: skip
LOCK_ERRORS = frozenset({
    "SQLITE_IOERR_LOCK", "SQLITE_IOERR_UNLOCK", "SQLITE_IOERR_RDLOCK", "SQLITE_IOERR_SHMLOCK",
    "SQLITE_IOERR_CHECKRESERVEDLOCK", "SQLITE_IOERR_SHMMAP", "SQLITE_IOERR_SHMOPEN",
    "SQLITE_PROTOCOL", "SQLITE_NOLFS",
})  # fmt: skip
TEMPORARY_FOLDERS = ("/var/tmp", "/usr/tmp", "/tmp")  # noqa: S108
"""Where SQLite's VACUUM writes, after the folders of two environment variables."""
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
"""Errors of a file system without locks."""


def check_format(db: sqlite3.Connection, folder: Path, writable: bool) -> None:
    """Upgrade an older base.

    Raises Mismatch if it cannot be upgraded, NotFound if the file is not a base.
    """
    if _pragma(db, "application_id") != APPLICATION_ID:
        raise NotFound(
            f'"{folder / FILE}" is an SQLite file, but not a knowledge base of ravlm; '
            "name another folder."
        )
    version = _pragma(db, "user_version")
    while version in UPGRADES and writable:
        _upgrade(db, version)
        version = _pragma(db, "user_version")
    if version != FORMAT:
        remedy = (
            "install a newer ravlm"
            if version > FORMAT
            else "open it once from where it can be written, which upgrades it"
        )
        raise Mismatch(
            f'The knowledge base "{folder}" has format {version}, but this ravlm reads {FORMAT}; '
            f"{remedy}."
        )


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _upgrade(db: sqlite3.Connection, version: int) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        if _pragma(db, "user_version") == version:  # else another process was faster
            for statement in UPGRADES[version].split(";\n"):
                db.execute(statement)
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


@contextmanager
def readable_errors(file: Path) -> Iterator[None]:
    """Raise SQLite's errors as RavlmError with a clear message."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        if "closed" not in str(error):
            raise
        raise RavlmError(
            f'The knowledge base "{file.parent}" was closed; open it again.'
        ) from error
    except sqlite3.DataError as error:
        raise InvalidInput(f"A text or its metadata is too long for SQLite ({error}).") from error
    except sqlite3.Error as error:
        raise _translate(file, error) from error


def _translate(file: Path, error: sqlite3.Error) -> RavlmError:
    """Return the error for the code of an SQLite error; https://sqlite.org/rescode.html."""
    folder = file.parent
    # Python's own errors, such as that for a text that is not UTF-8, have no code
    name = str(getattr(error, "sqlite_errorname", "SQLITE_CORRUPT"))
    kind = "_".join(name.split("_")[:2])  # SQLITE_IOERR_FSYNC -> SQLITE_IOERR
    if kind in DAMAGE or name in DAMAGE or "no such" in str(error):
        return DamagedBase(
            f'The store "{file}" is damaged or not a knowledge base ({error}); '
            "restore it from a copy or build it again."
        )
    failure = _probe(folder)
    reason = f"{error}, {name}" if failure is None else str(failure.strerror)
    if kind == "SQLITE_FULL":
        return full_disk_error(_fuller_folder(folder))
    if failure is not None and failure.errno in (errno.ENOSPC, errno.EDQUOT):
        return full_disk_error(folder)
    if name in LOCK_ERRORS or (failure is not None and failure.errno in NO_LOCKS):
        return DiskError(
            f'The file system of the knowledge base "{folder}" does not lock files ({reason}), as '
            "on some network drives. Move the base to a local disk."
        )
    if kind in ("SQLITE_BUSY", "SQLITE_LOCKED"):
        return Busy(
            f'Another process has been writing to the knowledge base "{folder}" for '
            f"{WAIT_SECONDS:.0f} s; try again."
        )
    if kind in ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"):
        return RavlmError(
            f'The knowledge base "{folder}" cannot be opened or written here ({reason}); '
            "copy it to a folder that you can write to."
        )
    if kind == "SQLITE_IOERR":
        return DiskError(
            f'The disk of the knowledge base "{folder}" fails ({reason}). What was stored before '
            "is kept. Check the disk and the system's log, then repeat the command."
        )
    if kind == "SQLITE_NOMEM":
        return RavlmError(f'There is too little memory for the knowledge base "{folder}".')
    return RavlmError(f'The knowledge base "{folder}" refuses this ({reason}).')


def _probe(folder: Path) -> OSError | None:
    """Return the error of the system for a file that is written and locked in a folder, if any.

    SQLite reports a quota that is used up as an error of the disk, and missing locks as busy.
    """
    # never the store's own file: closing it would release the locks that SQLite holds
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
            _lock(file)
    except OSError as error:
        return error
    return None


def _lock(file: IO[bytes]) -> None:
    """Lock a new file in the way that SQLite locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _fuller_folder(folder: Path) -> Path:
    """Return the folder of the base, or that of SQLite's temporary files if it has less space."""
    variables = [os.environ.get(name, "") for name in ("SQLITE_TMPDIR", "TMPDIR")]
    candidates = [Path(name) for name in (*variables, *TEMPORARY_FOLDERS) if name]
    temporary = next((path for path in candidates if path.is_dir()), folder)
    return min(folder, temporary, key=free_bytes)
