"""How a store's file is met: its format, checked and upgraded, and SQLite's errors as sentences.
Knows no rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ravlm.errors import BrokenData, Busy, Mismatch, NotFound, RavlmError
from ravlm.knowledge.local.schema import APPLICATION, FORMAT, UPGRADES

FILE = "store.sqlite"
WAIT = 60.0
"""Seconds that a writer waits for another one."""


def check_format(db: sqlite3.Connection, folder: Path, writable: bool) -> None:
    """Upgrade an older base. Raises Mismatch where that can't be done, NotFound for what is no
    base."""
    application, version = (
        db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    if application != APPLICATION:
        raise NotFound(
            f'"{folder / FILE}" is an SQLite file, but not a knowledge base of ravlm; name another folder.'
        )
    if version in UPGRADES and writable:
        db.execute("BEGIN IMMEDIATE")
        try:
            if (
                version == db.execute("PRAGMA user_version").fetchone()[0]
            ):  # else another process was faster
                for statement in UPGRADES[version].split(";\n"):
                    db.execute(statement)
            db.execute("COMMIT")
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
        check_format(db, folder, writable)
    elif version != FORMAT:
        way = (
            "install a newer ravlm"
            if version > FORMAT
            else "open it once where it can be written, which upgrades it"
        )
        raise Mismatch(
            f'The knowledge base "{folder}" has the format {version}, and this ravlm reads {FORMAT}; {way}.'
        )


@contextmanager
def told(file: Path) -> Iterator[None]:
    """SQLite's errors as sentences."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        if "closed" not in str(error):
            raise
        raise RavlmError(
            f'The knowledge base "{file.parent}" was closed; open it again.'
        ) from error
    except sqlite3.Error as error:
        what = str(error)
        if "locked" in what or "busy" in what:
            raise Busy(
                f'Another process has been writing to the knowledge base "{file.parent}" for {WAIT:.0f} s; try again.'
            ) from error
        if "full" in what:
            raise RavlmError(
                f'The disk of the knowledge base "{file.parent}" is full; nothing of this batch was stored, all '
                "before it was. Make room and repeat the command."
            ) from error
        if "readonly" in what or "unable to open" in what:
            raise RavlmError(
                f'The knowledge base "{file.parent}" can\'t be opened or written here ({what}); copy it to a folder '
                "that can be written to."
            ) from error
        raise BrokenData(
            f'The store "{file}" is damaged or no knowledge base ({what}); restore it from a copy or build it anew.'
        ) from error
