"""The store's statements: rows written and removed within a transaction, and what a base says of
itself.

Knows no connection of its own, and no transaction.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np

from ravlm.data.parallel import batched
from ravlm.knowledge.records import EntryRow, Identity, MODALITY_CODES, StoreState
from ravlm.records import Modality

TOGETHER = 64
"""Rows that one statement inserts; SQLite takes thousands of values in one."""


def insert(db: sqlite3.Connection, rows: Sequence[EntryRow], change: int) -> None:
    """Insert entries with their parts and facets."""
    next_entry, next_part = last_number(db, "entry") + 1, last_number(db, "part") + 1
    entries: list[tuple[Any, ...]] = []
    parts: list[tuple[Any, ...]] = []
    tags: list[tuple[Any, ...]] = []
    for number, row in enumerate(rows, next_entry):
        id_, image, image_hash, texts, metadata, facets, digest, of_entry, _, look, _ = row
        entries.append((number, id_, image, image_hash, texts, metadata, digest, change, look))
        tags += [(*facet, number) for facet in facets]
        for at, (modality, position, passage, vector, given, words) in enumerate(
            of_entry, next_part + len(parts)
        ):
            parts.append((at, number, MODALITY_CODES[modality], position, passage, int(given), zlib.crc32(vector), change,
                          vector, words))  # fmt: skip
    _insert_together(db, "entry", entries)
    _insert_together(db, "part", parts)
    db.executemany("INSERT INTO facet VALUES (?, ?, ?, ?)", tags)


def _insert_together(db: sqlite3.Connection, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, many with each statement: a third faster than one by one."""
    for start in range(0, len(rows), TOGETHER):
        some = rows[start : start + TOGETHER]
        values = ", ".join([f"({marks(rows[0])})"] * len(some))
        db.execute(f"INSERT INTO {table} VALUES {values}", [*chain.from_iterable(some)])  # noqa: S608


def delete(db: sqlite3.Connection, ids: Sequence[str], change: int) -> int:
    """Remove entries with all that is theirs, and remember their parts; returns how many there
    were."""
    gone = 0
    for some in batched(ids, 500):
        sql = f"SELECT number FROM entry WHERE id IN ({marks(some)})"  # noqa: S608
        numbers = [number for (number,) in db.execute(sql, some)]
        if not numbers:
            continue
        of_entries = f"entry IN ({marks(numbers)})"
        parts = [p for (p,) in db.execute(f"SELECT number FROM part WHERE {of_entries}", numbers)]  # noqa: S608
        db.executemany("INSERT INTO removed VALUES (?, ?)", [(change, part) for part in parts])
        db.execute(f"DELETE FROM part WHERE {of_entries}", numbers)  # noqa: S608
        db.execute(f"DELETE FROM facet WHERE {of_entries}", numbers)  # noqa: S608
        db.execute(f"DELETE FROM entry WHERE number IN ({marks(numbers)})", numbers)  # noqa: S608
        gone += len(numbers)
    return gone


def last_number(db: sqlite3.Connection, table: str) -> int:
    """The highest number that a row of the table has or had."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return int(row[0]) if row else 0


def marks(values: Sequence[Any]) -> str:
    """Question marks for so many values."""
    return ", ".join("?" * len(values))


def tables(db: sqlite3.Connection) -> int:
    """How many tables there are."""
    return int(db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0])


def write_identity(
    db: sqlite3.Connection, identity: Identity, canaries: dict[Modality, np.ndarray]
) -> None:
    """Say whose vectors the base holds."""
    db.execute(
        "INSERT OR REPLACE INTO base VALUES ('identity', ?)", (json.dumps(asdict(identity)),)
    )
    for modality, vectors in canaries.items():
        rows = [
            (MODALITY_CODES[modality], at, vector.astype("<f4").tobytes())
            for at, vector in enumerate(vectors)
        ]
        db.executemany("INSERT OR REPLACE INTO canary VALUES (?, ?, ?)", rows)


def read_state(db: sqlite3.Connection) -> StoreState:
    """Where the store stands."""
    values = dict(db.execute("SELECT key, value FROM base").fetchall())
    return StoreState(values["change"], values["purged"], Identity(**json.loads(values["identity"])))
