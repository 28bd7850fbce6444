"""The store of a base on Milvus; every entry is stored completely or not at all (see `schema`).

A batch is not one transaction: if its writer dies, the entries written so far stay, each complete.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ravlm.data.parallel import batched
from ravlm.errors import Mismatch, NotFound
from ravlm.knowledge.backend import reencoded_error
from ravlm.knowledge.entry_store import EntryStore, decode_regions, invalid_page_mark
from ravlm.knowledge.images import resolve_image, save_image
from ravlm.knowledge.index.terms import TermHashes
from ravlm.knowledge.ingest import json_texts
from ravlm.knowledge.milvus import schema
from ravlm.knowledge.milvus.client import KEY_BATCH, MilvusConnection, key_slices
from ravlm.knowledge.milvus.descriptor import find_descriptor, read_descriptor, read_value
from ravlm.knowledge.milvus.filters import expression, has_key, one_of
from ravlm.knowledge.records import EntryRow, Identity, StoreState
from ravlm.knowledge.reports import Page
from ravlm.records import MODALITIES, Entry, Modality
from ravlm.search.filters import Filter, facets

_PART_FIELDS = ("entry", "version", "number", "position", "passage", "given", "checksum", "vector")
KEYS_SAMPLE = 1000
"""Entries whose metadata keys an error lists."""
_PartsByVersion = dict[tuple[str, str], list[tuple[Modality, Mapping[str, Any]]]]


class MilvusStore(EntryStore):
    """The rows of one base, in one generation of its parts."""

    def __init__(self, connection: MilvusConnection) -> None:
        """Raises NotFound if there is no complete base, Mismatch for another format."""
        self.connection = connection
        self.name = connection.address.name
        self.base_collection = schema.base_collection(self.name)
        self.entry_collection = schema.entry_collection(self.name)
        descriptor = find_descriptor(connection)
        if descriptor is None:
            address = connection.address.text
            raise NotFound(
                f'There is no knowledge base at "{address}"; create one with: '
                f"ravlm build {address} SOURCE"
            )
        self.descriptor = descriptor
        self.files = connection.address.files
        if self.files is None and descriptor.files:
            self.files = Path(descriptor.files)
        self.num_writes = 0
        """Number of changes by this handle."""
        for collection in self.all_collections():
            connection.load_collection(collection)

    @property
    def part_collections(self) -> dict[Modality, str]:
        """The collections of parts by modality."""
        generation = self.descriptor.generation
        return {name: schema.part_collection(self.name, name, generation) for name in MODALITIES}

    def all_collections(self) -> list[str]:
        """Return the names of all collections of the base."""
        return [self.base_collection, self.entry_collection, *self.part_collections.values()]

    @property
    def can_embed_images(self) -> bool:
        """Whether the base has a folder for images that come as bytes."""
        return self.files is not None

    # state

    def state(self) -> StoreState:
        """Return the last change and the identity of the base."""
        descriptor = read_descriptor(self.connection) or self.descriptor
        return StoreState(self.change(), descriptor.identity)

    def change(self) -> int:
        """Return when the last change was committed, in nanoseconds since 1970."""
        return int(self.value("change") or 0)

    def mark_changed(self) -> None:
        """Give the change a new number."""
        self.num_writes += 1
        row = schema.base_row("change", str(time.time_ns()))
        self.connection.upsert(self.base_collection, [row])

    def canaries(self) -> dict[Modality, np.ndarray]:
        """Return the stored vectors of the canaries."""
        return {
            modality: schema.decode_vectors(self.value(f"canaries {modality}"))
            for modality in MODALITIES
        }

    def value(self, key: str) -> str:
        """Return a value of the base's own collection; an empty string if it is not set."""
        return read_value(self.connection, key) or ""

    def check_identity(self, identity: Identity) -> None:
        """Raise Mismatch if the base was re-encoded since it was opened."""
        current = read_descriptor(self.connection)
        expected = (identity, self.descriptor.generation)
        if current is None or (current.identity, current.generation) != expected:
            raise reencoded_error(self.connection.address.text)

    # reading

    def image_path(self, image: str | None) -> str | None:
        """Return a stored reference as a path or address that can be opened."""
        return image if self.files is None else resolve_image(image, self.files)

    def count(self, where: Filter | None = None) -> int:
        """Return the number of entries that pass `where`."""
        condition = "" if where is None else expression(where)
        return self.connection.count(self.entry_collection, condition)

    def metadata_keys(self) -> list[str]:
        """Return the metadata keys of the first entries, sorted; the server knows only hashes."""
        entries = self.page(KEYS_SAMPLE, "", None).entries
        return sorted({path for entry in entries for path, _, _ in facets(entry.metadata)})

    def has_metadata_key(self, key: str) -> bool:
        """Return whether any entry has a value for a metadata key."""
        return bool(self.connection.query(self.entry_collection, has_key(key), ("key",), limit=1))

    def digests(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the digests of those of `ids` that exist, by id."""
        ids_by_key = {schema.entry_key(id_): id_ for id_ in ids}
        rows = self.rows_by_key(self.entry_collection, ids_by_key, ("key", "digest"))
        return {ids_by_key[row["key"]]: str(row["digest"]) for row in rows}

    def entries(self, ids: Iterable[str]) -> dict[str, Entry]:
        """Return those of `ids` that exist, by id."""
        keys = [schema.entry_key(id_) for id_ in ids]
        rows = self.rows_by_key(self.entry_collection, keys, ("body",))
        entries = [self.to_entry(parse_body(row)) for row in rows]
        return {entry.id: entry for entry in entries}

    def to_entry(self, body: Mapping[str, Any]) -> Entry:
        """Return the entry of a stored body."""
        image = self.image_path(body["image"])
        regions = decode_regions(body.get("regions", []))
        return Entry(body["id"], image, tuple(body["texts"]), body["metadata"], regions)

    def rows_by_key(
        self, collection: str, keys: Iterable[str], fields: Sequence[str]
    ) -> list[Mapping[str, Any]]:
        """Return the rows of these keys, in any order."""
        rows: list[Mapping[str, Any]] = []
        for batch in batched(keys, KEY_BATCH):
            rows += self.connection.query(collection, one_of("key", batch), fields)
        return rows

    def image_vectors(self, ids: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the image vector of each of `ids` that has one, by id."""
        ids_by_key = {schema.entry_key(id_): id_ for id_ in ids}
        collection = self.part_collections["image"]
        fields = ("entry", "version", "position", "vector")
        vectors = {}
        for keys in batched(ids_by_key, KEY_BATCH):
            entries = self.rows_by_key(self.entry_collection, keys, ("key", "version"))
            versions = {row["key"]: row["version"] for row in entries}
            for row in self.connection.query(collection, one_of("entry", keys), fields):
                if versions.get(row["entry"]) == row["version"] and not row["position"]:
                    vectors[ids_by_key[row["entry"]]] = np.asarray(row["vector"], np.float32)
        return vectors

    def page(self, n: int, after: str, where: Filter | None) -> Page:
        """Return the next n entries that pass `where`, in the order of their hashed keys.

        The page mark is a key.
        """
        if not re.fullmatch("[0-9a-f]*", after):
            raise invalid_page_mark(after)
        condition = "" if where is None else expression(where)
        rows: list[tuple[str, Mapping[str, Any]]] = []
        for first, last in key_slices(self.connection.count(self.entry_collection)):
            if len(rows) > n or f"{last - 1:016x}" < after[:16]:
                continue
            in_slice = self.connection.slice(
                self.entry_collection, ("key", "body"), first, last, condition
            )
            keyed = [(str(row["key"]), row) for row in in_slice]
            rows += sorted((key, row) for key, row in keyed if key > after)
        entries = tuple(self.to_entry(parse_body(row)) for _, row in rows[:n])
        return Page(entries, rows[n - 1][0] if len(rows) > n else "")

    def contents(self) -> Iterator[tuple[str, str | None, str, bytes | None]]:
        """Yield id, image hash, texts and regions as JSON, and perceptual hash of each entry."""
        for row in self.connection.scan(self.entry_collection, ("body",)):
            body = parse_body(row)
            texts = json_texts(body["texts"]) + (_regions(body) or "")
            yield body["id"], body["image_hash"], texts, _perceptual_hash(body)

    def rows(self, ids: Iterable[str] | None = None) -> Iterator[EntryRow]:
        """Yield all entries with their parts, or those of `ids`; one slice of keys at a time."""
        keys = None if ids is None else {schema.entry_key(id_) for id_ in ids}
        fields = ("key", "version", "digest", "body")
        for first, last in key_slices(self.connection.count(self.entry_collection)):
            entries = self.connection.slice(self.entry_collection, fields, first, last)
            parts = self._parts_by_version(first, last)
            for row in entries:
                if keys is None or row["key"] in keys:
                    yield self._entry_row(row, parts[row["key"], row["version"]])

    def _parts_by_version(self, first: int, last: int) -> _PartsByVersion:
        """Return the parts of a slice by entry key and version, in their order in the entry."""
        parts: _PartsByVersion = defaultdict(list)
        for modality, collection in self.part_collections.items():
            rows = self.connection.slice(collection, _PART_FIELDS, first, last, field="entry")
            for row in rows:
                parts[row["entry"], row["version"]].append((modality, row))
        for of_entry in parts.values():
            of_entry.sort(key=lambda part: part[1]["number"])
        return parts

    def _entry_row(
        self, row: Mapping[str, Any], parts: Sequence[tuple[Modality, Mapping[str, Any]]]
    ) -> EntryRow:
        body = parse_body(row)
        entry = self.to_entry(body)
        return EntryRow(
            id=body["id"],
            image=self.image_path(body["image"]),
            image_hash=body["image_hash"],
            texts=json.dumps(entry.texts, ensure_ascii=False),
            metadata=json.dumps(body["metadata"], ensure_ascii=False),
            facets=(),
            digest=row["digest"],
            parts=tuple(schema.part_row(values, modality, entry) for modality, values in parts),
            perceptual_hash=_perceptual_hash(body),
            regions=_regions(body),
        )

    # writing

    def rejection_reason(self, row: EntryRow) -> str:
        """Return why an entry cannot be stored: Milvus has size limits, and keeps no images."""
        if row.image_bytes is not None and not self.can_embed_images:
            return (
                "Its image came as bytes, which Milvus does not store; name a folder that all "
                f"readers see: {self.connection.address.text}?files=/shared/folder"
            )
        return schema.size_error(row, self.descriptor.has_keywords)

    def upsert(self, rows: Sequence[EntryRow], identity: Identity) -> int:
        """Store a batch, parts first, replacing entries of the same ids.

        Returns how many were replaced.
        """
        self.check_identity(identity)
        if self.files is not None:
            for row in rows:
                save_image(row, self.files)
        version = uuid.uuid4().hex
        possible = [schema.entry_key(row.id) for row in rows if row.may_exist]
        existing = self.rows_by_key(self.entry_collection, possible, ("key",))
        replaced = [str(row["key"]) for row in existing]
        self.write_parts(rows, [version] * len(rows), self.part_collections)
        values = [schema.entry_values(row, version) for row in rows]
        self.connection.upsert(self.entry_collection, values)
        self._delete_parts(replaced, f'version != "{version}"')
        self.mark_changed()
        try:
            self.check_identity(identity)
        except Mismatch:
            for keys in batched([row["key"] for row in values], KEY_BATCH):
                new_rows = f'({one_of("key", keys)}) and (version == "{version}")'
                self.connection.delete(self.entry_collection, new_rows)
            raise
        return len(replaced)

    def write_parts(
        self, rows: Sequence[EntryRow], versions: Sequence[str], collections: Mapping[Modality, str]
    ) -> None:
        """Write the parts of entries under the given versions."""
        hashes = TermHashes() if self.descriptor.has_keywords else None
        by_modality: dict[Modality, list[dict[str, Any]]] = {name: [] for name in collections}
        for row, version in zip(rows, versions, strict=True):
            for modality, values in schema.part_values(row, version, hashes):
                by_modality[modality].append(values)
        for modality, part_rows in by_modality.items():
            self.connection.insert(collections[modality], part_rows)

    def remove(self, ids: Sequence[str]) -> int:
        """Remove entries: their own rows first, so that no search finds them from then on."""
        keys = [schema.entry_key(id_) for id_ in ids]
        rows = self.rows_by_key(self.entry_collection, keys, ("key",))
        existing = [str(row["key"]) for row in rows]
        for batch in batched(existing, KEY_BATCH):
            self.connection.delete(self.entry_collection, one_of("key", batch))
        self._delete_parts(existing)
        if existing:
            self.mark_changed()
        return len(existing)

    def _delete_parts(self, entries: Sequence[str], condition: str = "") -> None:
        for keys in batched(entries, KEY_BATCH):
            where = one_of("entry", keys)
            if condition:
                where = f"({where}) and ({condition})"
            for collection in self.part_collections.values():
                self.connection.delete(collection, where)


def parse_body(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored body of an entry's row."""
    body: dict[str, Any] = json.loads(row["body"])
    return body


def _regions(body: Mapping[str, Any]) -> str | None:
    return json.dumps(body["regions"], ensure_ascii=False) if body.get("regions") else None


def _perceptual_hash(body: Mapping[str, Any]) -> bytes | None:
    return bytes.fromhex(body["look"]) if body["look"] else None
