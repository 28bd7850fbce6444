"""A base's rows on Milvus: written so that an entry is there whole or not at all (see `layout`),
and read.

A batch is not one transaction: what of it was written before the writer died stays, whole entries
all of it. Knows no search and no encoder."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ravlm.data.images import is_address
from ravlm.data.parallel import batched
from ravlm.errors import InvalidInput, Mismatch, NotFound
from ravlm.files import atomic_write
from ravlm.knowledge.backend import Rows
from ravlm.knowledge.index.bm25 import TermHashes
from ravlm.knowledge.ingest import json_texts
from ravlm.knowledge.records import EntryRow, Identity
from ravlm.knowledge.milvus import schema
from ravlm.knowledge.milvus.client import ASKED, Connection, slices
from ravlm.knowledge.milvus.filters import among, expression
from ravlm.knowledge.reports import Page
from ravlm.records import MODALITIES, Entry, Modality
from ravlm.search.filters import Filter

FORMAT = 1
_PART = ("entry", "version", "number", "position", "passage", "given", "checksum", "vector")


@dataclass(frozen=True)
class Kept:
    """What a base says of itself."""

    identity: Identity
    generation: int = 1
    """Counted up by a re-encoding; the collections of parts are named by it."""
    worded: bool = True
    """Whether texts are found by their words here."""
    files: str | None = None
    """Where pictures lie that came as bytes."""
    format: int = FORMAT


class MilvusRows(Rows):
    """The rows of one base, as of one generation of its parts."""

    def __init__(self, connection: Connection) -> None:
        """Raises NotFound where there is no base that was made whole, Mismatch for one of another
        format."""
        self.connection, self.name = connection, connection.address.name
        self.base, self.entry = (
            schema.base_collection(self.name),
            schema.entry_collection(self.name),
        )
        kept = read_kept(connection)
        if kept is None:
            text = connection.address.text
            raise NotFound(
                f'There is no knowledge base at "{text}"; make one with: ravlm build {text} SOURCE'
            )
        self.kept = kept
        self.files = connection.address.files or (Path(kept.files) if kept.files else None)
        self.writes = 0
        """Changes that were made here."""
        for collection in (self.base, self.entry, *self.collections.values()):
            connection.load(collection)

    @property
    def collections(self) -> dict[Modality, str]:
        """Where the parts of each modality lie."""
        return {
            modality: schema.part_collection(self.name, modality, self.kept.generation)
            for modality in MODALITIES
        }

    # what it is

    def canaries(self) -> dict[Modality, np.ndarray]:
        """The stored vectors of the canaries."""
        return {
            modality: schema.unpacked(self.value(f"canaries {modality}")) for modality in MODALITIES
        }

    def value(self, key: str) -> str:
        """A value of the base's own collection."""
        return _value(self.connection, self.base, key) or ""

    def tell_change(self) -> None:
        """Let the change have a number that it did not have before."""
        self.writes += 1
        self.connection.upsert(self.base, [schema.base_row("change", str(time.time_ns()))])

    def image_path(self, image: str | None) -> str | None:
        """Where a stored picture lies."""
        if image is None or is_address(image) or Path(image).is_absolute() or self.files is None:
            return image
        return str(self.files / image)

    # reading

    def count(self, where: Filter | None = None) -> int:
        """How many entries pass `where`."""
        return self.connection.count(self.entry, "" if where is None else expression(where))

    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        """The digests of those of `ids` that are stored, by id."""
        keys = {schema.entry_key(id_): id_ for id_ in ids}
        return {
            keys[row["key"]]: str(row["digest"])
            for row in self.by_key(self.entry, keys, ("key", "digest"))
        }

    def entries(self, ids: Iterable[str]) -> dict[str, Entry]:
        """Those of `ids` that are stored, by id."""
        keys = [schema.entry_key(id_) for id_ in ids]
        found = [
            self.entry_of(self.body_of(row)) for row in self.by_key(self.entry, keys, ("body",))
        ]
        return {entry.id: entry for entry in found}

    def entry_of(self, body: Mapping[str, Any]) -> Entry:
        """The entry of a stored body."""
        return Entry(
            body["id"], self.image_path(body["image"]), tuple(body["texts"]), body["metadata"]
        )

    def body_of(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The stored body of an entry's row."""
        body: dict[str, Any] = json.loads(row["body"])
        return body

    def by_key(
        self, collection: str, keys: Iterable[str], fields: Sequence[str]
    ) -> list[Mapping[str, Any]]:
        """The rows of these keys, in any order."""
        found: list[Mapping[str, Any]] = []
        for some in batched(keys, ASKED):
            found += self.connection.query(collection, among("key", some), fields)
        return found

    def image_vectors(self, ids: Iterable[str]) -> dict[str, np.ndarray]:
        """The picture's vector of each of these entries that has one, by id."""
        keys = {schema.entry_key(id_): id_ for id_ in ids}
        found = {}
        for some in batched(keys, ASKED):
            version = {
                row["key"]: row["version"]
                for row in self.by_key(self.entry, some, ("key", "version"))
            }
            fields = ("entry", "version", "vector")
            for row in self.connection.query(
                self.collections["image"], among("entry", some), fields
            ):
                if version.get(row["entry"]) == row["version"]:
                    found[keys[row["entry"]]] = np.asarray(row["vector"], np.float32)
        return found

    def page(self, n: int, after: str, where: Filter | None) -> Page:
        """The next n entries that pass `where`, in the order of their keys, which are hashes; the
        place is a key."""
        if not re.fullmatch("[0-9a-f]*", after):
            raise InvalidInput(
                f'after is "{after[:40]}"; give the `next` of the page before, or nothing.'
            )
        within = "" if where is None else expression(where)
        found: list[tuple[str, Mapping[str, Any]]] = []
        for first, last in slices(self.connection.count(self.entry)):
            if f"{last - 1:016x}" >= after[:16] and len(found) <= n:
                rows = self.connection.slice(self.entry, ("key", "body"), first, last, within)
                found += sorted((str(row["key"]), row) for row in rows if str(row["key"]) > after)
        entries = tuple(self.entry_of(self.body_of(row)) for _, row in found[:n])
        return Page(entries, found[n - 1][0] if len(found) > n else "")

    def contents(self) -> Iterator[tuple[str, str | None, str, bytes | None]]:
        """Id, hash of the picture, texts as JSON and look of each entry."""
        for row in self.connection.scan(self.entry, ("body",)):
            body = self.body_of(row)
            look = bytes.fromhex(body["look"]) if body["look"] else None
            yield body["id"], body["image_hash"], json_texts(body["texts"]), look

    def rows(self) -> Iterator[EntryRow]:
        """All entries with their parts, a slice at a time, each of one state."""
        for first, last in slices(self.connection.count(self.entry)):
            entries = self.connection.slice(
                self.entry, ("key", "version", "digest", "body"), first, last
            )
            parts: list[tuple[Modality, Mapping[str, Any]]] = []
            for modality, collection in self.collections.items():
                found = self.connection.slice(collection, _PART, first, last, field="entry")
                parts += [(modality, row) for row in found]
            parts.sort(key=lambda part: (part[1]["entry"], part[1]["version"], part[1]["number"]))
            of = {
                key: list(group)
                for key, group in groupby(parts, lambda p: (p[1]["entry"], p[1]["version"]))
            }
            for row in entries:
                body = self.body_of(row)
                texts = tuple(body["texts"])
                mine = of.get((row["key"], row["version"]), [])
                yield EntryRow(
                    id=body["id"], image=self.image_path(body["image"]), image_hash=body["image_hash"],
                    texts=json.dumps(texts, ensure_ascii=False),
                    metadata=json.dumps(body["metadata"], ensure_ascii=False),
                    facets=(), digest=row["digest"],
                    parts=tuple(schema.part_row(values, modality, texts) for modality, values in mine),
                    perceptual_hash=bytes.fromhex(body["look"]) if body["look"] else None,
                )  # fmt: skip

    # writing

    def fault(self, row: EntryRow) -> str:
        """Why this entry can't be stored: Milvus has limits, and no place for pictures."""
        if row.image_bytes is not None and self.files is None:
            return (
                "Its picture came as bytes, and a Milvus base keeps none; name a folder that all its readers see: "
                f"{self.connection.address.text}?files=/shared/folder"
            )
        return schema.fault(row, self.kept.worded)

    def put(self, rows: Sequence[EntryRow], identity: Identity) -> int:
        """Store a batch, parts first; entries of the same ids are replaced. Returns how many
        were."""
        self.check_identity(identity)
        for row in rows:
            if (
                row.image_bytes is not None
                and self.files is not None
                and not (self.files / str(row.image)).is_file()
            ):
                with atomic_write(self.files / str(row.image)) as aside:
                    aside.write_bytes(row.image_bytes)
        keys, version = [schema.entry_key(row.id) for row in rows], uuid.uuid4().hex
        known = [key for key, row in zip(keys, rows, strict=True) if row.may_exist]
        replaced = [str(row["key"]) for row in self.by_key(self.entry, known, ("key",))]
        self.write_parts(rows, [version] * len(rows), self.collections)
        self.connection.upsert(self.entry, [schema.entry_row(row, version) for row in rows])
        self._drop_parts(replaced, f'version != "{version}"')
        self.tell_change()
        try:
            self.check_identity(identity)
        except Mismatch:
            for some in batched(keys, ASKED):
                self.connection.delete(
                    self.entry, f'({among("key", some)}) and (version == "{version}")'
                )
            raise
        return len(replaced)

    def write_parts(
        self, rows: Sequence[EntryRow], versions: Sequence[str], collections: Mapping[Modality, str]
    ) -> None:
        """Write the parts of entries under these versions of them."""
        terms = TermHashes() if self.kept.worded else None
        of: dict[Modality, list[dict[str, Any]]] = {modality: [] for modality in collections}
        for row, version in zip(rows, versions, strict=True):
            for modality, values in schema.part_rows(row, version, terms):
                of[modality].append(values)
        for modality, some in of.items():
            self.connection.insert(collections[modality], some)

    def remove(self, ids: Sequence[str]) -> int:
        """Remove entries: their own rows first, so that no search finds them from then on."""
        keys = [schema.entry_key(id_) for id_ in ids]
        there = [str(row["key"]) for row in self.by_key(self.entry, keys, ("key",))]
        for some in batched(there, ASKED):
            self.connection.delete(self.entry, among("key", some))
        self._drop_parts(there)
        if there:
            self.tell_change()
        return len(there)

    def _drop_parts(self, entries: Sequence[str], and_: str = "") -> None:
        for some in batched(entries, ASKED):
            where = f"({among('entry', some)}) and ({and_})" if and_ else among("entry", some)
            for collection in self.collections.values():
                self.connection.delete(collection, where)

    def check_identity(self, identity: Identity) -> None:
        """Raise Mismatch where the base isn't the one that was opened."""
        kept = _kept(self.connection, self.base)
        if kept is None or kept.identity != identity or kept.generation != self.kept.generation:
            raise Mismatch(
                f'The knowledge base "{self.connection.address.text}" was re-encoded while it was open; open it again.'
            )


def read_kept(connection: Connection) -> Kept | None:
    """What the base at the connection's address says of itself; None where there is none, or none
    that is whole.

    Raises Mismatch where a newer ravlm made it.
    """
    base = schema.base_collection(connection.address.name)
    if not connection.has(base):
        return None
    connection.load(base)
    return _kept(connection, base)


def _kept(connection: Connection, base: str) -> Kept | None:
    text = _value(connection, base, "kept")
    if text is None:
        return None
    values = json.loads(text)
    if values["format"] != FORMAT:
        raise Mismatch(
            f'The knowledge base "{connection.address.text}" has the format {values["format"]}, and this ravlm reads '
            f"{FORMAT}; install a newer ravlm."
        )
    return replace(Kept(**values), identity=Identity(**values["identity"]))


def write_kept(connection: Connection, kept: Kept, canaries: Mapping[Modality, np.ndarray]) -> None:
    """Say whose vectors the base holds; that comes last, so a base that says it is whole."""
    base = schema.base_collection(connection.address.name)
    rows = [
        schema.base_row(f"canaries {modality}", schema.packed(v))
        for modality, v in canaries.items()
    ]
    connection.upsert(base, rows)
    connection.upsert(base, [schema.base_row("kept", json.dumps(asdict(kept)))])


def _value(connection: Connection, collection: str, key: str) -> str | None:
    found = connection.query(collection, f'key == "{key}"', ("value",))
    return str(found[0]["value"]) if found else None
