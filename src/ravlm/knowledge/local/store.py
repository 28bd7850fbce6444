"""The truth of a knowledge base: one SQLite file (write-ahead log), read and written in whole
transactions.

One connection reads and another writes, so a search never waits for a batch that is being stored.
`synchronous` is FULL: a batch that was acknowledged is on the disk and survives a power loss. Knows
rows, not encoders and not indexes."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ravlm.data.images import is_address
from ravlm.data.parallel import batched
from ravlm.errors import InvalidInput, Mismatch, NotFound
from ravlm.files import atomic_write
from ravlm.knowledge.backend import Rows
from ravlm.knowledge.index.stored_fields import NO_POSITION, IMAGE_POSITION
from ravlm.knowledge.local.schema import PAGE_SIZE, TABLES
from ravlm.knowledge.records import EntryRow, Identity, MODALITY_BY_CODE, MODALITY_CODES, PartRow, StoreState, hit_part
from ravlm.knowledge.local.sql import (
    delete,
    insert,
    last_number,
    marks,
    read_state,
    tables,
    write_identity,
)
from ravlm.knowledge.local.sqlite_errors import FILE, WAIT, check_format, told
from ravlm.knowledge.reports import Page
from ravlm.records import Entry, Modality, Part
from ravlm.search.filters import Filter, to_sql

MAPPED = 2**40
"""Bytes of the file that are read through the memory map (SQLite itself stops at 2 GB): hits lie
all over it."""
LOG_PAGES = 4000
"""Pages of the log (32 MB) that are copied into the file at a time: those that change again and
again only once."""
NEWEST = 32
"""Newest parts by whose checksums a history is recognised."""


class Store(Rows):
    """A base's SQLite file. Each method is one transaction, or part of the caller's `reading()` or
    `writing()`."""

    def __init__(self, folder: Path) -> None:
        """Open the store in `folder`. Raises NotFound, BrokenData, or Mismatch of the format."""
        self.folder, self.file = folder, folder / FILE
        if not self.file.is_file():
            raise NotFound(
                f'There is no knowledge base in "{folder}"; make one with: ravlm build {folder} SOURCE'
            )
        self.writable = os.access(folder, os.W_OK) and os.access(self.file, os.W_OK)
        self._read_lock, self._write_lock = threading.RLock(), threading.RLock()
        self._writer: sqlite3.Connection | None = None
        with told(self.file):
            self._reader = self._connect()
            check_format(self._reader, self.folder, self.writable)

    @classmethod
    def create(
        cls, folder: Path, identity: Identity, canaries: dict[Modality, np.ndarray]
    ) -> Store:
        """Make an empty store in `folder` and open it; canaries (n, dim) float32 for each
        modality."""
        folder.mkdir(parents=True, exist_ok=True)
        with told(folder / FILE):
            db = sqlite3.connect(folder / FILE, isolation_level=None, timeout=WAIT)
            try:
                db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("BEGIN IMMEDIATE")
                if not tables(db):  # else another process was faster
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
            db = sqlite3.connect(
                f"file:{quote(str(folder / FILE))}?mode=ro", uri=True, timeout=WAIT
            )
            try:
                return bool(tables(db))
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
            raise InvalidInput(
                f'The knowledge base "{self.folder}" is read-only; copy it to a folder of your own.'
            )

    @contextmanager
    def writing(self) -> Iterator[tuple[sqlite3.Connection, int]]:
        """A connection and the number of the change; all of it is stored at the end of the block,
        or nothing."""
        self.check_writable()
        with self._write_lock, told(self.file):
            db = self._writer = self._writer or self._connect()
            db.execute("BEGIN IMMEDIATE")
            try:
                row = db.execute(
                    "UPDATE base SET value = value + 1 WHERE key = 'change' RETURNING value"
                ).fetchone()
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
            # Without a log beside it the file is complete, and SQLite must not look for one that it
            # can't make.
            address += "?mode=ro" if self.file.with_name(FILE + "-wal").exists() else "?immutable=1"
        db = sqlite3.connect(
            address, uri=True, isolation_level=None, check_same_thread=False, timeout=WAIT
        )
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = OFF")  # `compact` rewrites the file
        db.execute("PRAGMA cache_size = -65536")
        db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        db.execute(f"PRAGMA mmap_size = {MAPPED}")
        return db

    # what it is

    def state(self) -> StoreState:
        """Where the store stands."""
        with self.reading() as db:
            return read_state(db)

    def canaries(self) -> dict[Modality, np.ndarray]:
        """The stored vectors of the canaries, float32 (n, dim) for each modality."""
        with self.reading() as db:
            rows = db.execute(
                "SELECT modality, vector FROM canary ORDER BY modality, position"
            ).fetchall()
        return {
            name: np.array(
                [np.frombuffer(vector, "<f4") for found, vector in rows if found == code],
                np.float32,
            )
            for name, code in MODALITY_CODES.items()
        }

    # writing

    def put(self, rows: Sequence[EntryRow], identity: Identity) -> int:
        """Store a batch in one transaction; entries of the same ids are replaced. Returns how many
        were.

        Raises Mismatch where the base's identity isn't the one that the rows were made for.
        """
        with self.writing() as (db, change):
            if read_state(db).identity != identity:
                raise Mismatch(
                    f'The knowledge base "{self.folder}" was re-encoded while it was open; open it again.'
                )
            for row in rows:
                if row.image_bytes is not None:
                    self._write_picture(str(row.image), row.image_bytes)
            replaced = delete(db, [row.id for row in rows if row.may_exist], change)
            db.execute("SAVEPOINT rows")
            try:
                insert(db, rows, change)
            except sqlite3.IntegrityError:  # another process has just added one of them
                db.execute("ROLLBACK TO rows")
                replaced += delete(db, [row.id for row in rows], change)
                insert(db, rows, change)
        return replaced

    def remove(self, ids: Sequence[str]) -> int:
        """Remove entries in one transaction; returns how many there were."""
        with self.writing() as (db, change):
            return delete(db, ids, change)

    def _write_picture(self, name: str, picture: bytes) -> None:
        if not (self.folder / name).is_file():
            with atomic_write(self.folder / name) as aside:
                aside.write_bytes(picture)

    # reading

    def count(self, where: Filter | None = None) -> int:
        """How many entries pass `where`."""
        sql, parameters = ("1", []) if where is None else to_sql(where)
        with self.reading() as db:
            return int(
                db.execute(f"SELECT COUNT(*) FROM entry WHERE {sql}", parameters).fetchone()[0]
            )  # noqa: S608

    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        """The digests of those of `ids` that are stored, by id."""
        return self._by_id("digest", ids)

    def numbers(self, ids: Iterable[str]) -> dict[str, int]:
        """The numbers of those of `ids` that are stored, by id."""
        return self._by_id("number", ids)

    def _by_id(self, column: str, ids: Iterable[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        with self.reading() as db:
            for some in batched(ids, 500):
                found.update(
                    db.execute(f"SELECT id, {column} FROM entry WHERE id IN ({marks(some)})", some)
                )  # noqa: S608
        return found

    def entries(self, ids: Iterable[str]) -> dict[str, Entry]:
        """Those of `ids` that are stored, by id."""
        found = {}
        with self.reading() as db:
            for some in batched(ids, 500):
                sql = f"SELECT id, image, texts, metadata FROM entry WHERE id IN ({marks(some)})"  # noqa: S608
                found.update({row[0]: self._entry(*row) for row in db.execute(sql, some)})
        return found

    def page(self, n: int, after: str, where: Filter | None) -> Page:
        """The next n entries that pass `where`, in the order in which they came; the place is an
        entry's number."""
        if not (after or "0").isdecimal() or len(after) > 18:
            raise InvalidInput(
                f'after is "{after[:40]}"; give the `next` of the page before, or nothing.'
            )
        sql, parameters = ("1", []) if where is None else to_sql(where)
        with self.reading() as db:
            rows = db.execute(
                f"SELECT number, id, image, texts, metadata FROM entry WHERE number > ? AND {sql} "  # noqa: S608
                "ORDER BY number LIMIT ?",
                (int(after or "0"), *parameters, n + 1),
            ).fetchall()
        more = str(rows[n - 1][0]) if len(rows) > n else ""
        return Page(tuple(self._entry(*row[1:]) for row in rows[:n]), more)

    def parts(self, numbers: Iterable[int]) -> dict[int, tuple[Entry, Part]]:
        """What hits show of parts, by number."""
        rows: list[tuple[Any, ...]] = []
        with self.reading() as db:
            for some in batched(map(int, numbers), 500):
                rows += db.execute(
                    "SELECT part.number, modality, position, passage, id, image, texts, metadata "  # noqa: S608
                    f"FROM part JOIN entry ON entry.number = part.entry WHERE part.number IN ({marks(some)})",
                    some,
                )
        both = iter(
            json.loads(f"[{','.join(f'{row[6]},{row[7]}' for row in rows)}]")
        )  # decoded in one go: many hits
        found = {}
        for number, modality, position, passage, id_, image, _, _ in rows:
            entry = Entry(id_, self.image_path(image), tuple(next(both)), next(both))
            found[number] = entry, hit_part(entry, MODALITY_BY_CODE[modality], position, passage)
        return found

    def image_vectors(self, ids: Iterable[str]) -> dict[str, np.ndarray]:
        """The picture's vector (dim,) of each of these entries that has one, by id."""
        found = {}
        with self.reading() as db:
            for some in batched(ids, 500):
                sql = (
                    "SELECT id, vector FROM part JOIN entry ON entry.number = part.entry "  # noqa: S608
                    f"WHERE modality = {MODALITY_CODES['image']} AND id IN ({marks(some)})"
                )
                found.update(
                    {
                        id_: np.frombuffer(v, "<f2").astype(np.float32)
                        for id_, v in db.execute(sql, some)
                    }
                )
        return found

    def vectors(self, numbers: Iterable[int]) -> dict[int, tuple[Modality, np.ndarray]]:
        """Modality and vector (dim,) float32 of parts, by number."""
        found = {}
        with self.reading() as db:
            for some in batched(map(int, numbers), 500):
                sql = f"SELECT number, modality, vector FROM part WHERE number IN ({marks(some)})"  # noqa: S608
                for number, modality, vector in db.execute(sql, some):
                    found[number] = MODALITY_BY_CODE[modality], np.frombuffer(vector, "<f2").astype(np.float32)
        return found

    def last_entry(self) -> int:
        """The highest number that an entry has or had."""
        with self.reading() as db:
            return last_number(db, "entry")

    def parts_after(self, last_part: int) -> Iterator[tuple[int, int, int, bytes, int, int]]:
        """Parts newer than that one, in `reading()`: number, entry's number, modality code, vector,
        checksum, and position as `cards` has it."""
        sql = (
            f"SELECT number, entry, modality, vector, checksum, CASE WHEN modality = {MODALITY_CODES['image']} THEN {IMAGE_POSITION} "  # noqa: S608
            f"WHEN passage NOTNULL THEN {NO_POSITION} ELSE position END FROM part WHERE number > ? ORDER BY number"
        )
        return iter(self._reader.execute(sql, (last_part,)))

    def stored_fields(self) -> Iterator[tuple[int, str, str | None, str, str]]:
        """Number, id, image, texts and metadata of each entry, in `reading()`."""
        return iter(
            self._reader.execute(
                "SELECT number, id, image, texts, metadata FROM entry ORDER BY number"
            )
        )

    def text_parts(self) -> int:
        """How many parts have words."""
        with self.reading() as db:
            return int(
                db.execute("SELECT COUNT(*) FROM part WHERE words IS NOT NULL").fetchone()[0]
            )

    def words_after(self, last_part: int) -> list[tuple[int, int, str]]:
        """Text parts newer than that one as (number, entry's number, words)."""
        sql = "SELECT number, entry, words FROM part WHERE number > ? AND words IS NOT NULL ORDER BY number"
        with self.reading() as db:
            return db.execute(sql, (last_part,)).fetchall()

    def facets_after(self, last_entry: int) -> tuple[list[tuple[str, int, Any, int]], int]:
        """Facets (key, kind, value, entry's number) of the entries newer than that one, and the
        newest's number."""
        with self.reading() as db:
            rows = db.execute(
                "SELECT key, kind, value, entry FROM facet WHERE entry > ?", (last_entry,)
            ).fetchall()
            return rows, last_number(db, "entry")

    def removed_since(self, change: int) -> list[int]:
        """Numbers of the parts that were removed after that change."""
        with self.reading() as db:
            return [
                part
                for (part,) in db.execute("SELECT part FROM removed WHERE change > ?", (change,))
            ]

    def reopen(self) -> Store:
        """Return the same store on a connection of its own."""
        return Store(self.folder)

    def checksum(self, part: int) -> int | None:
        """Return the checksum of a part's vector; None if the part does not exist."""
        with self.reading() as db:
            row = db.execute("SELECT checksum FROM part WHERE number = ?", (part,)).fetchone()
        return None if row is None else int(row[0])

    def newest_checksums(self) -> list[tuple[int, int]]:
        """(number, checksum) of the newest parts, newest first."""
        with self.reading() as db:
            return db.execute(
                "SELECT number, checksum FROM part ORDER BY number DESC LIMIT ?", (NEWEST,)
            ).fetchall()

    def index_choice(self) -> tuple[str | None, float | None]:
        """The kind of vector index that was chosen by measurement, and the recall wished for; None
        where none was."""
        with self.reading() as db:
            row = db.execute("SELECT value FROM base WHERE key = 'index'").fetchone()
        return tuple(json.loads(row[0])) if row else (None, None)

    def choose_index(self, kind: str, recall: float) -> None:
        """Remember that choice."""
        with self.writing() as (db, _):
            db.execute(
                "INSERT OR REPLACE INTO base VALUES ('index', ?)", (json.dumps([kind, recall]),)
            )

    def contents(self) -> Iterator[tuple[str, str | None, str, bytes | None]]:
        """Id, hash of the picture, texts as JSON and look of each entry."""
        with self.reading() as db:
            yield from db.execute("SELECT id, image_hash, texts, look FROM entry ORDER BY number")

    def rows(self, ids: Sequence[str] | None = None) -> Iterator[EntryRow]:
        """All entries with their parts, in the order in which they came; with `ids`, those of them
        only."""
        which = "" if ids is None else "WHERE entry.id IN (SELECT value FROM json_each(?))"
        given = () if ids is None else (json.dumps(list(ids)),)
        entries = (
            "SELECT number, id, image, image_hash, texts, metadata, digest, look "  # noqa: S608
            f"FROM entry {which} ORDER BY number"
        )
        parts = (
            "SELECT entry, modality, position, passage, vector, given, words "  # noqa: S608
            f"FROM part JOIN entry ON entry.number = part.entry {which} ORDER BY entry, part.number"
        )
        with self.reading() as db:
            groups = groupby(db.execute(parts, given), lambda row: row[0])
            owner, group = next(groups, (0, iter(())))
            for number, id_, image, image_hash, texts, metadata, digest, look in db.execute(
                entries, given
            ):
                of_entry: tuple[PartRow, ...] = ()
                if owner == number:
                    of_entry = tuple(
                        PartRow(MODALITY_BY_CODE[m], at, p, v, bool(g), w) for _, m, at, p, v, g, w in group
                    )
                    owner, group = next(groups, (0, iter(())))
                yield EntryRow(
                    id_,
                    self.image_path(image),
                    image_hash,
                    texts,
                    metadata,
                    (),
                    digest,
                    of_entry,
                    None,
                    look,
                )

    def image_path(self, image: str | None) -> str | None:
        """Where a stored picture lies: as it was stored, or within this folder."""
        if image is None or is_address(image) or os.path.isabs(image):
            return image
        return str(self.folder / image)

    def _entry(self, id_: str, image: str | None, texts: str, metadata: str) -> Entry:
        return Entry(id_, self.image_path(image), tuple(json.loads(texts)), json.loads(metadata))
