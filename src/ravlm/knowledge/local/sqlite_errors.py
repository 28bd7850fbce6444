"""Check and upgrade the format of a store's file, and turn SQLite's errors into clear messages."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ravlm.errors import BrokenData, Busy, Mismatch, NotFound, RavlmError
from ravlm.knowledge.local.schema import APPLICATION_ID, FORMAT, UPGRADES

FILE = "store.sqlite"
WAIT_SECONDS = 60.0
"""How long a writer waits for another one."""


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
    except sqlite3.Error as error:
        raise _translate(file, str(error)) from error


def _translate(file: Path, message: str) -> RavlmError:
    if "locked" in message or "busy" in message:
        return Busy(
            f'Another process has been writing to the knowledge base "{file.parent}" for '
            f"{WAIT_SECONDS:.0f} s; try again."
        )
    if "full" in message:
        return RavlmError(
            f'The disk of the knowledge base "{file.parent}" is full; nothing of this batch was '
            "stored, everything before it was. Free some space and repeat the command."
        )
    if "readonly" in message or "unable to open" in message:
        return RavlmError(
            f'The knowledge base "{file.parent}" cannot be opened or written here ({message}); '
            "copy it to a folder that you can write to."
        )
    return BrokenData(
        f'The store "{file}" is damaged or not a knowledge base ({message}); '
        "restore it from a copy or build it again."
    )
