"""The store of a base in a folder: entries and parts in one SQLite file, read and written in whole
transactions.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ravlm.knowledge.backend import reencoded_error
from ravlm.knowledge.entry_store import (
    EntryStore,
    damaged_row,
    decode_contents,
    decode_vector,
    invalid_page_mark,
)
from ravlm.knowledge.images import FOLDER, resolve_image, save_image
from ravlm.knowledge.local.image_lock import image_files_locked
from ravlm.knowledge.local.index_source import SqliteIndexSource
from ravlm.knowledge.local.sql import delete, insert, read_state, select_in
from ravlm.knowledge.records import (
    MODALITY_BY_CODE,
    EntryRow,
    Identity,
    PartRow,
    hit_part,
)
from ravlm.knowledge.reports import Page
from ravlm.records import Entry, Modality, Part
from ravlm.search.filters import Filter, to_sql

MAX_MARK_DIGITS = 18
"""Longest page mark: SQLite's numbers end at 2^63."""


class SqliteStore(SqliteIndexSource, EntryStore):
    """A base's SQLite file.

    Each method is one transaction, or part of the caller's `reading()` or `writing()`.
    """

    @classmethod
    def create(
        cls, folder: Path, identity: Identity, canaries: Mapping[Modality, np.ndarray]
    ) -> SqliteStore:
        """Create an empty store in `folder` and open it."""
        cls.create_file(folder, identity, canaries)
        return cls(folder)

    # writing

    def upsert(self, rows: Sequence[EntryRow], identity: Identity) -> int:
        """Store a batch in one transaction, replacing entries of the same ids.

        Returns how many were replaced. Raises Mismatch if the base has another identity.
        """
        self.check_writable()
        has_own_images = any(row.image is not None and row.image.startswith(FOLDER) for row in rows)
        image_lock = image_files_locked(self.folder) if has_own_images else nullcontext()
        with image_lock, self.writing() as (db, change):
            if read_state(db).identity != identity:
                raise reencoded_error(str(self.folder))
            for row in rows:
                save_image(row, self.folder)
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
        """Remove entries in one transaction. Return how many existed."""
        with self.writing() as (db, change):
            return delete(db, ids, change)

    # reading by id

    def count(self, where: Filter | None = None) -> int:
        """Return the number of entries that pass `where`."""
        condition, parameters = _condition(where)
        sql = f"SELECT COUNT(*) FROM entry WHERE {condition}"  # noqa: S608
        with self.reading() as db:
            return int(db.execute(sql, parameters).fetchone()[0])

    def metadata_keys(self) -> list[str]:
        """Return the metadata keys of the entries, sorted; one look-up per key."""
        sql = (
            "WITH RECURSIVE keys (key) AS (SELECT MIN(key) FROM facet UNION ALL "
            "SELECT (SELECT MIN(key) FROM facet WHERE facet.key > keys.key) FROM keys "
            "WHERE keys.key IS NOT NULL) SELECT key FROM keys WHERE key IS NOT NULL"
        )
        with self.reading() as db:
            return [key for (key,) in db.execute(sql)]

    def has_metadata_key(self, key: str) -> bool:
        """Return whether any entry has a value for a metadata key."""
        with self.reading() as db:
            row = db.execute("SELECT 1 FROM facet WHERE key = ? LIMIT 1", (key,)).fetchone()
        return row is not None

    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the digests of those of `ids` that exist, by id."""
        with self.reading() as db:
            return dict(select_in(db, "SELECT id, digest FROM entry WHERE id IN ({})", ids))

    def numbers(self, ids: Iterable[str]) -> dict[str, int]:
        """Return the entry numbers of those of `ids` that exist, by id."""
        with self.reading() as db:
            return dict(select_in(db, "SELECT id, number FROM entry WHERE id IN ({})", ids))

    def entries(self, ids: Iterable[str]) -> dict[str, Entry]:
        """Return those of `ids` that exist, by id."""
        sql = "SELECT id, image, texts, metadata, regions FROM entry WHERE id IN ({})"
        with self.reading() as db:
            return {row[0]: self._entry(*row) for row in list(select_in(db, sql, ids))}

    def page(self, n: int, after: str, where: Filter | None) -> Page:
        """Return the next n entries that pass `where`, in insertion order.

        The page mark is an entry number.
        """
        mark = after or "0"
        if not mark.isdecimal() or len(mark) > MAX_MARK_DIGITS:
            raise invalid_page_mark(after)
        condition, parameters = _condition(where)
        sql = (
            "SELECT number, id, image, texts, metadata, regions FROM entry "  # noqa: S608
            f"WHERE number > ? AND {condition} ORDER BY number LIMIT ?"
        )
        with self.reading() as db:
            rows = db.execute(sql, (int(mark), *parameters, n + 1)).fetchall()
            next_mark = str(rows[n - 1][0]) if len(rows) > n else ""
            return Page(tuple(self._entry(*row[1:]) for row in rows[:n]), next_mark)

    def image_vectors(self, ids: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the image vector (dim,) of each of `ids` that has one, by id."""
        sql = (
            "SELECT id, vector FROM part JOIN entry ON entry.number = part.entry "
            "WHERE modality = 0 AND position = 0 AND id IN ({})"  # the whole image
        )
        with self.reading() as db:
            return {id_: decode_vector(vector) for id_, vector in select_in(db, sql, ids)}

    # reading by number

    def parts(self, numbers: Iterable[int]) -> dict[int, tuple[Entry, Part]]:
        """Return entry and part as hits show them, by part number."""
        sql = (
            "SELECT part.number, modality, position, passage, id, image, texts, metadata, regions "
            "FROM part JOIN entry ON entry.number = part.entry WHERE part.number IN ({})"
        )
        with self.reading() as db:
            rows = list(select_in(db, sql, map(int, numbers)))
            contents = decode_contents([row[-3:] for row in rows])
            parts = {}
            for (number, code, position, passage, id_, image, *_), content in zip(
                rows, contents, strict=True
            ):
                entry = Entry(id_, resolve_image(image, self.folder), *content)
                parts[number] = entry, hit_part(entry, MODALITY_BY_CODE[code], position, passage)
        return parts

    def vectors(self, numbers: Iterable[int]) -> dict[int, tuple[Modality, np.ndarray]]:
        """Return modality and vector, float32 (dim,), by part number."""
        sql = "SELECT number, modality, vector FROM part WHERE number IN ({})"
        with self.reading() as db:
            return {
                number: (MODALITY_BY_CODE[code], decode_vector(vector))
                for number, code, vector in list(select_in(db, sql, map(int, numbers)))
            }

    def tokens(self, numbers: Iterable[int]) -> dict[int, bytes]:
        """Return the token vectors, float16 (tokens, dim), of the parts that have any."""
        sql = "SELECT part, vectors FROM token_vectors WHERE part IN ({})"
        with self.reading() as db:
            return dict(select_in(db, sql, map(int, numbers)))

    # reading everything

    def contents(self) -> Iterator[tuple[str, str | None, str, bytes | None]]:
        """Yield id, image hash, texts and regions as JSON, and perceptual hash of each entry."""
        sql = "SELECT id, image_hash, texts || COALESCE(regions, ''), look FROM entry "
        with self.reading() as db:
            yield from db.execute(f"{sql} ORDER BY number")

    def rows(self, ids: Iterable[str] | None = None) -> Iterator[EntryRow]:
        """Yield all entries with their parts in insertion order, or those of `ids`."""
        condition = "1" if ids is None else "entry.id IN (SELECT value FROM json_each(?))"
        parameters = () if ids is None else (json.dumps(list(ids)),)
        entries = (
            "SELECT number, id, image, image_hash, texts, metadata, digest, look, "  # noqa: S608
            f"regions FROM entry WHERE {condition} ORDER BY number"
        )
        parts = (
            "SELECT entry, modality, position, passage, vector, given, words, vectors "  # noqa: S608
            "FROM part JOIN entry ON entry.number = part.entry "
            f"LEFT JOIN token_vectors ON part = part.number WHERE {condition} "
            "ORDER BY entry, part.number"
        )
        with self.reading() as db:
            groups = groupby(db.execute(parts, parameters), lambda row: row[0])
            owner, group = next(groups, (0, iter(())))
            for row in db.execute(entries, parameters):
                of_entry: list[PartRow] = []
                if owner == row[0]:
                    of_entry = [_part_row(*part[1:]) for part in group]
                    owner, group = next(groups, (0, iter(())))
                yield self._entry_row(row, of_entry)

    def _entry_row(self, row: tuple[Any, ...], parts: Sequence[PartRow]) -> EntryRow:
        _, id_, image, image_hash, texts, metadata, digest, perceptual_hash, regions = row
        entry_row = EntryRow(
            id=id_,
            image=resolve_image(image, self.folder),
            image_hash=image_hash,
            texts=texts,
            metadata=metadata,
            facets=(),
            digest=digest,
            parts=tuple(parts),
            perceptual_hash=perceptual_hash,
            regions=regions,
        )
        _check_types(entry_row)  # the caller's errors are outside of this reading transaction
        return entry_row

    def _entry(
        self, id_: str, image: str | None, texts: str, metadata: str, regions: str | None
    ) -> Entry:
        (content,) = decode_contents([(texts, metadata, regions)])
        return Entry(id_, resolve_image(image, self.folder), *content)


def _check_types(row: EntryRow) -> None:
    """Raise BrokenData for values that nothing of this package stores."""
    texts = [row.id, row.texts, row.metadata, row.digest]
    optional = [row.image, row.image_hash, row.regions]
    for part in row.parts:
        optional += [part.passage, part.words]
    if (
        not all(type(value) is str for value in texts)
        or not all(value is None or type(value) is str for value in optional)
        or not all(type(part.vector) is bytes for part in row.parts)
        or not all(type(part.tokens) in (bytes, type(None)) for part in row.parts)
    ):
        raise damaged_row("a value has the wrong type")


def _part_row(
    code: int,
    position: int,
    passage: str | None,
    vector: bytes,
    precomputed: int,
    words: str | None,
    tokens: bytes | None,
) -> PartRow:
    modality = MODALITY_BY_CODE[code]
    return PartRow(modality, position, passage, vector, bool(precomputed), words, tokens)


def _condition(where: Filter | None) -> tuple[str, list[str | int | float]]:
    return ("1", []) if where is None else to_sql(where)
