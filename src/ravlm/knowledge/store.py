"""The truth of a knowledge base: one SQLite file (write-ahead log), read and written in whole transactions.

One connection reads and another writes, so a search never waits for a batch that is being stored. `synchronous` is
FULL: a batch that was acknowledged is on the disk and survives a power loss. Knows rows, not encoders and not indexes.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from ravlm.checkpoint import written_aside
from ravlm.data.batches import batched
from ravlm.data.images import is_address
from ravlm.errors import InvalidInput, Mismatch, NotFound
from ravlm.knowledge.file import FILE, WAIT, check_format, told
from ravlm.knowledge.schema import CODES, NAMES, PAGE_SIZE, TABLES, EntryRow, Identity, State
from ravlm.records import Entry, Modality, Part
from ravlm.retrieval.filters import Filter, to_sql

MAPPED = 2**40
"""Bytes of the file that are read through the memory map (SQLite itself stops at 2 GB): hits lie all over it."""
NEWEST = 32
"""Newest parts by whose checksums a history is recognised."""


class StoredPart(NamedTuple):
    """A part as it is stored: its number, its entry's number and what a hit shows of it."""

    number: int
    entry_number: int
    entry: Entry
    part: Part


class Store:
    """A base's SQLite file. Each method is one transaction, or part of the caller's `reading()` or `writing()`."""

    def __init__(self, folder: Path) -> None:
        """Open the store in `folder`. Raises NotFound, BrokenData, or Mismatch of the format."""
        self.folder, self.file = folder, folder / FILE
        if not self.file.is_file():
            raise NotFound(f'There is no knowledge base in "{folder}"; make one with: ravlm build {folder} SOURCE')
        self.writable = os.access(folder, os.W_OK) and os.access(self.file, os.W_OK)
        self._read_lock, self._write_lock = threading.RLock(), threading.RLock()
        self._writer: sqlite3.Connection | None = None
        with told(self.file):
            self._reader = self._connect()
            check_format(self._reader, self.folder, self.writable)

    @classmethod
    def create(cls, folder: Path, identity: Identity, canaries: dict[Modality, np.ndarray]) -> Store:
        """Make an empty store in `folder` and open it; canaries (n, dim) float32 for each modality."""
        folder.mkdir(parents=True, exist_ok=True)
        with told(folder / FILE):
            db = sqlite3.connect(folder / FILE, isolation_level=None, timeout=WAIT)
            try:
                db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("BEGIN IMMEDIATE")
                if not _tables(db):  # else another process was faster
                    for statement in TABLES.split(";\n"):
                        db.execute(statement)
                    db.execute("INSERT INTO base VALUES ('change', 0), ('purged', 0)")
                    write_identity(db, identity, canaries)
                db.execute("COMMIT")
            finally:
                db.close()
        return cls(folder)

    @staticmethod
    def is_there(folder: Path) -> bool:
        """Whether `folder` holds a store that was made whole."""
        if not (folder / FILE).is_file():
            return False
        with told(folder / FILE):
            db = sqlite3.connect(f"file:{quote(str(folder / FILE))}?mode=ro", uri=True, timeout=WAIT)
            try:
                return bool(_tables(db))
            finally:
                db.close()

    def close(self) -> None:
        """Give the file back; the last one that closes folds the write-ahead log into it."""
        with self._write_lock:
            if self._writer is not None:
                self._writer.close()
                self._writer = None
        with self._read_lock:
            self._reader.close()

    # transactions

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state until the block ends."""
        with self._read_lock, told(self.file):
            if self._reader.in_transaction:
                yield self._reader
                return
            self._reader.execute("BEGIN")
            try:
                yield self._reader
            finally:
                self._reader.execute("ROLLBACK")

    def check_writable(self) -> None:
        """Raise InvalidInput where the base can only be read."""
        if not self.writable:
            raise InvalidInput(f'The knowledge base "{self.folder}" is read-only; copy it to a folder of your own.')

    @contextmanager
    def writing(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """A connection and the number of the change; all of it is stored at the end of the block, or nothing."""
        self.check_writable()
        with self._write_lock, told(self.file):
            db = self._writer = self._writer or self._connect()
            db.execute("BEGIN IMMEDIATE")
            try:
                row = db.execute("UPDATE base SET value = value + 1 WHERE key = 'change' RETURNING value").fetchone()
                yield db, int(row[0])
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")

    def vacuum(self) -> None:
        """Rewrite the file without what was removed from it."""
        self.check_writable()
        with self._write_lock, told(self.file):
            db = self._writer = self._writer or self._connect()
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _connect(self) -> sqlite3.Connection:
        address = f"file:{quote(str(self.file))}"
        if not self.writable:
            # Without a log beside it the file is complete, and SQLite must not look for one that it can't make.
            address += "?mode=ro" if self.file.with_name(FILE + "-wal").exists() else "?immutable=1"
        db = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False, timeout=WAIT)
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = OFF")  # `compact` rewrites the file
        db.execute("PRAGMA cache_size = -65536")
        db.execute(f"PRAGMA mmap_size = {MAPPED}")
        return db

    # what it is

    def state(self) -> State:
        """Where the store stands."""
        with self.reading() as db:
            return _state(db)

    def canaries(self) -> dict[Modality, np.ndarray]:
        """The stored vectors of the canaries, float32 (n, dim) for each modality."""
        with self.reading() as db:
            rows = db.execute("SELECT modality, vector FROM canary ORDER BY modality, position").fetchall()
        return {
            name: np.array([np.frombuffer(vector, "<f4") for found, vector in rows if found == code], np.float32)
            for name, code in CODES.items()
        }

    # writing

    def put(self, rows: Sequence[EntryRow], identity: Identity) -> int:
        """Store a batch in one transaction; entries of the same ids are replaced. Returns how many were.

        Raises Mismatch where the base's identity isn't the one that the rows were made for.
        """
        with self.writing() as (db, change):
            if _state(db).identity != identity:
                raise Mismatch(f'The knowledge base "{self.folder}" was re-encoded while it was open; open it again.')
            for row in rows:
                if row.picture is not None:
                    self._write_picture(str(row.image), row.picture)
            replaced = _remove(db, [row.id for row in rows if row.known], change)
            db.execute("SAVEPOINT rows")
            try:
                _insert(db, rows, change)
            except sqlite3.IntegrityError:  # another process has just added one of them
                db.execute("ROLLBACK TO rows")
                replaced += _remove(db, [row.id for row in rows], change)
                _insert(db, rows, change)
        return replaced

    def remove(self, ids: Sequence[str]) -> int:
        """Remove entries in one transaction; returns how many there were."""
        with self.writing() as (db, change):
            return _remove(db, ids, change)

    def _write_picture(self, name: str, picture: bytes) -> None:
        if not (self.folder / name).is_file():
            with written_aside(self.folder / name) as aside:
                aside.write_bytes(picture)

    # reading

    def count(self, where: Filter | None = None) -> int:
        """How many entries pass `where`."""
        sql, parameters = ("1", []) if where is None else to_sql(where)
        with self.reading() as db:
            return int(db.execute(f"SELECT COUNT(*) FROM entry WHERE {sql}", parameters).fetchone()[0])  # noqa: S608

    def digests(self, ids: Iterable[str]) -> dict[str, tuple[int, str]]:
        """(number, digest) of those of `ids` that are stored."""
        found = {}
        with self.reading() as db:
            for some in batched(ids, 500):
                sql = f"SELECT id, number, digest FROM entry WHERE id IN ({_marks(some)})"  # noqa: S608
                found.update({id_: (number, digest) for id_, number, digest in db.execute(sql, some)})
        return found

    def entries(self, ids: Iterable[str]) -> dict[str, Entry]:
        """Those of `ids` that are stored, by id."""
        found = {}
        with self.reading() as db:
            for some in batched(ids, 500):
                sql = f"SELECT id, image, texts, metadata FROM entry WHERE id IN ({_marks(some)})"  # noqa: S608
                found.update({row[0]: self._entry(*row) for row in db.execute(sql, some)})
        return found

    def parts(self, numbers: Iterable[int]) -> dict[int, StoredPart]:
        """Parts with their entries, by the part's number."""
        rows: list[tuple[Any, ...]] = []
        with self.reading() as db:
            for some in batched(map(int, numbers), 500):
                rows += db.execute(
                    "SELECT part.number, entry.number, modality, position, passage, id, image, texts, metadata "  # noqa: S608
                    f"FROM part JOIN entry ON entry.number = part.entry WHERE part.number IN ({_marks(some)})",
                    some,
                )
        both = iter(json.loads(f"[{','.join(f'{row[7]},{row[8]}' for row in rows)}]"))  # decoded in one go: many hits
        found = {}
        for number, entry_number, modality, position, passage, id_, image, _, _ in rows:
            entry = Entry(id_, self.image_path(image), tuple(next(both)), next(both))
            found[number] = StoredPart(number, entry_number, entry, _part(entry, modality, position, passage))
        return found

    def image_vectors(self, ids: Iterable[str], dim: int) -> dict[str, np.ndarray]:
        """The picture's vector (dim,) of each of these entries that has one, by id."""
        found = {}
        with self.reading() as db:
            for some in batched(ids, 500):
                sql = (
                    "SELECT id, vector FROM part JOIN entry ON entry.number = part.entry "  # noqa: S608
                    f"WHERE modality = {CODES['image']} AND id IN ({_marks(some)})"
                )
                found.update({id_: np.frombuffer(v, "<f2", dim).astype(np.float32) for id_, v in db.execute(sql, some)})
        return found

    def vectors(self, numbers: Iterable[int]) -> dict[int, tuple[Modality, np.ndarray]]:
        """Modality and vector (dim,) float32 of parts, by number."""
        found = {}
        with self.reading() as db:
            for some in batched(map(int, numbers), 500):
                sql = f"SELECT number, modality, vector FROM part WHERE number IN ({_marks(some)})"  # noqa: S608
                for number, modality, vector in db.execute(sql, some):
                    found[number] = NAMES[modality], np.frombuffer(vector, "<f2").astype(np.float32)
        return found

    def last_entry(self) -> int:
        """The highest number that an entry has or had."""
        with self.reading() as db:
            return _last(db, "entry")

    def parts_after(self, last_part: int) -> Iterator[tuple[int, int, int, bytes, int]]:
        """Parts newer than that one as (number, entry's number, modality code, vector, checksum), in `reading()`."""
        sql = "SELECT number, entry, modality, vector, checksum FROM part WHERE number > ? ORDER BY number"
        return iter(self._reader.execute(sql, (last_part,)))

    def text_parts(self) -> int:
        """How many parts have words."""
        with self.reading() as db:
            return int(db.execute("SELECT COUNT(*) FROM part WHERE words IS NOT NULL").fetchone()[0])

    def words_after(self, last_part: int) -> list[tuple[int, int, str]]:
        """Text parts newer than that one as (number, entry's number, words)."""
        sql = "SELECT number, entry, words FROM part WHERE number > ? AND words IS NOT NULL ORDER BY number"
        with self.reading() as db:
            return db.execute(sql, (last_part,)).fetchall()

    def facets_after(self, last_entry: int) -> tuple[list[tuple[str, int, Any, int]], int]:
        """Facets (key, kind, value, entry's number) of the entries newer than that one, and the newest's number."""
        with self.reading() as db:
            rows = db.execute("SELECT key, kind, value, entry FROM facet WHERE entry > ?", (last_entry,)).fetchall()
            return rows, _last(db, "entry")

    def removed_since(self, change: int) -> list[int]:
        """Numbers of the parts that were removed after that change."""
        with self.reading() as db:
            return [part for (part,) in db.execute("SELECT part FROM removed WHERE change > ?", (change,))]

    def newest_checksums(self) -> list[tuple[int, int]]:
        """(number, checksum) of the newest parts, newest first."""
        with self.reading() as db:
            return db.execute("SELECT number, checksum FROM part ORDER BY number DESC LIMIT ?", (NEWEST,)).fetchall()

    def index_choice(self) -> tuple[str | None, float | None]:
        """The kind of vector index that was chosen by measurement, and the recall wished for; None where none was."""
        with self.reading() as db:
            row = db.execute("SELECT value FROM base WHERE key = 'index'").fetchone()
        return tuple(json.loads(row[0])) if row else (None, None)

    def choose_index(self, kind: str, recall: float) -> None:
        """Remember that choice."""
        with self.writing() as (db, _):
            db.execute("INSERT OR REPLACE INTO base VALUES ('index', ?)", (json.dumps([kind, recall]),))

    def contents(self) -> Iterator[tuple[str, str | None, str, bytes | None]]:
        """Id, hash of the picture, texts as JSON and look of each entry, in `reading()`."""
        return iter(self._reader.execute("SELECT id, image_hash, texts, look FROM entry ORDER BY number"))

    def image_path(self, image: str | None) -> str | None:
        """Where a stored picture lies: as it was stored, or within this folder."""
        if image is None or is_address(image) or os.path.isabs(image):
            return image
        return str(self.folder / image)

    def _entry(self, id_: str, image: str | None, texts: str, metadata: str) -> Entry:
        return Entry(id_, self.image_path(image), tuple(json.loads(texts)), json.loads(metadata))


def _part(entry: Entry, modality: int, position: int, passage: str | None) -> Part:
    if NAMES[modality] == "image":
        return Part("image")
    if passage is None:
        passage = entry.texts[position] if position < len(entry.texts) else ""
    return Part("text", position, passage)


def _insert(db: sqlite3.Connection, rows: Sequence[EntryRow], change: int) -> None:
    next_entry, next_part = _last(db, "entry") + 1, _last(db, "part") + 1
    entries: list[tuple[Any, ...]] = []
    parts: list[tuple[Any, ...]] = []
    tags: list[tuple[Any, ...]] = []
    for number, row in enumerate(rows, next_entry):
        id_, image, image_hash, texts, metadata, facets, digest, of_entry, _, look, _ = row
        entries.append((number, id_, image, image_hash, texts, metadata, digest, change, look))
        tags += [(*facet, number) for facet in facets]
        for at, (modality, position, passage, vector, given, words) in enumerate(of_entry, next_part + len(parts)):
            parts.append((at, number, CODES[modality], position, passage, int(given), zlib.crc32(vector), change,
                          vector, words))  # fmt: skip
    db.executemany("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", entries)
    db.executemany("INSERT INTO part VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", parts)
    db.executemany("INSERT INTO facet VALUES (?, ?, ?, ?)", tags)


def _remove(db: sqlite3.Connection, ids: Sequence[str], change: int) -> int:
    gone = 0
    for some in batched(ids, 500):
        sql = f"SELECT number FROM entry WHERE id IN ({_marks(some)})"  # noqa: S608
        numbers = [number for (number,) in db.execute(sql, some)]
        if not numbers:
            continue
        of_entries = f"entry IN ({_marks(numbers)})"
        parts = [p for (p,) in db.execute(f"SELECT number FROM part WHERE {of_entries}", numbers)]  # noqa: S608
        db.executemany("INSERT INTO removed VALUES (?, ?)", [(change, part) for part in parts])
        db.execute(f"DELETE FROM part WHERE {of_entries}", numbers)  # noqa: S608
        db.execute(f"DELETE FROM facet WHERE {of_entries}", numbers)  # noqa: S608
        db.execute(f"DELETE FROM entry WHERE number IN ({_marks(numbers)})", numbers)  # noqa: S608
        gone += len(numbers)
    return gone


def _last(db: sqlite3.Connection, table: str) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    return int(row[0]) if row else 0


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _tables(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0])


def write_identity(db: sqlite3.Connection, identity: Identity, canaries: dict[Modality, np.ndarray]) -> None:
    """Say whose vectors the base holds."""
    db.execute("INSERT OR REPLACE INTO base VALUES ('identity', ?)", (json.dumps(asdict(identity)),))
    for modality, vectors in canaries.items():
        rows = [(CODES[modality], at, vector.astype("<f4").tobytes()) for at, vector in enumerate(vectors)]
        db.executemany("INSERT OR REPLACE INTO canary VALUES (?, ?, ?)", rows)


def _state(db: sqlite3.Connection) -> State:
    values = dict(db.execute("SELECT key, value FROM base").fetchall())
    return State(values["change"], values["purged"], Identity(**json.loads(values["identity"])))
