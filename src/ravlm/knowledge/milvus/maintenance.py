"""Compact, index, re-encode and verify a base on Milvus, one slice of keys at a time.

Compaction also removes what killed writers left.
"""

from __future__ import annotations

import time
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ravlm.data.parallel import batched
from ravlm.errors import Busy
from ravlm.knowledge.images import remove_unreferenced
from ravlm.knowledge.milvus import schema
from ravlm.knowledge.milvus.client import KEY_BATCH, MilvusConnection, key_slices
from ravlm.knowledge.milvus.descriptor import write_descriptor
from ravlm.knowledge.milvus.filters import one_of
from ravlm.knowledge.milvus.store import MilvusStore, parse_body
from ravlm.knowledge.reencode import (
    REENCODE_BATCH,
    ReencodeProgress,
    check_reencodable,
    displaced_error,
    encode_entries,
)
from ravlm.knowledge.verify import RowVerifier
from ravlm.records import MODALITIES, Modality
from ravlm.search.filters import facets

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

INDEX_TIMEOUT = 3600.0
"""Seconds that the server may take to build its indexes."""
MIN_SELF_COSINE = 0.99
"""Minimum cosine of the best hit when searching for a stored vector."""
SELF_SEARCH_K = 10
_RUN = "fresh"
"""Key of the run that owns a re-encoding: fingerprint of the encoder, id, and generation."""


def find_leftovers(store: MilvusStore) -> Iterator[tuple[Modality, list[str]]]:
    """Yield keys of parts that do not count, by modality.

    Their writer was killed before it stored their entry, or before it removed them.
    """
    for first, last in key_slices(store.connection.count(store.entry_collection)):
        rows = store.connection.slice(store.entry_collection, ("key", "version"), first, last)
        versions = {row["key"]: row["version"] for row in rows}
        fields = ("key", "entry", "version")
        for modality, collection in store.part_collections.items():
            parts = store.connection.slice(collection, fields, first, last, field="entry")
            leftovers = [
                part["key"] for part in parts if versions.get(part["entry"]) != part["version"]
            ]
            yield modality, leftovers


def compact(store: MilvusStore) -> None:
    """Remove leftovers and unused images, and ask the server to clear its disk."""
    for modality, keys in find_leftovers(store):
        for batch in batched(keys, KEY_BATCH):
            store.connection.delete(store.part_collections[modality], one_of("key", batch))
    if store.files is not None and store.files.is_dir():
        remove_unreferenced(store.files, (row.image for row in store.rows() if row.image))
    for collection in store.all_collections():
        with store.connection.readable_errors():
            store.connection.client.flush(collection)
            store.connection.client.compact(collection)


def optimize(store: MilvusStore) -> None:
    """Seal recent rows, and wait until the server has indexed them."""
    for collection in store.part_collections.values():
        _await_index(store.connection, collection)


def _await_index(connection: MilvusConnection, collection: str) -> None:
    with connection.readable_errors():
        connection.client.flush(collection)
        deadline = time.monotonic() + INDEX_TIMEOUT
        while _num_pending(connection, collection):
            if time.monotonic() > deadline:
                raise Busy(
                    f'The server has been indexing "{collection}" for '
                    f"{INDEX_TIMEOUT / 60:.0f} minutes; try again later."
                )
            time.sleep(1)


def _num_pending(connection: MilvusConnection, collection: str) -> int:
    description = connection.client.describe_index(collection, "vector")
    return int(description.get("pending_index_rows", 0))


def reencode(
    store: MilvusStore,
    encoder: Encoder,
    canaries: Mapping[Modality, np.ndarray],
    progress: ReencodeProgress | None,
) -> None:
    """Encode all entries into new collections, and switch to them by writing one row.

    An interrupted run resumes. Raises InvalidInput if a precomputed vector has no content to
    encode, Busy if another run has displaced this one.
    """
    check_reencodable(store.rows())
    old = store.descriptor
    run = _start_run(store, encoder)
    _encode_missing(store, encoder, run, progress)
    # a second round encodes entries that were added during the first
    store.check_identity(old.identity)
    _encode_missing(store, encoder, run, progress)
    store.check_identity(old.identity)
    run.check_owner(store)
    identity = old.identity.with_encoder(encoder)
    new = replace(old, identity=identity, generation=run.generation)
    write_descriptor(store.connection, new, canaries)
    store.connection.upsert(store.base_collection, [schema.base_row(_RUN, "")])
    old_collections = store.part_collections
    store.descriptor = new
    for collection in old_collections.values():
        store.connection.drop_collection(collection)
    store.mark_changed()


@dataclass(frozen=True)
class _Run:
    """One run of a re-encoding, and the generation of the collections that it fills.

    A server has no lock that a killed run releases. So a later run displaces an earlier one, which
    stops before its next write; for another encoder it fills collections of its own.
    """

    fingerprint: str
    id: str
    generation: int

    def collections(self, store: MilvusStore) -> dict[Modality, str]:
        """Return the new collections by modality."""
        return {m: schema.part_collection(store.name, m, self.generation) for m in MODALITIES}

    def to_text(self) -> str:
        """Return the run as the base names its owner."""
        return f"{self.fingerprint} {self.id} {self.generation}"

    def check_owner(self, store: MilvusStore) -> None:
        """Raise Busy if another run has displaced this one."""
        if store.value(_RUN) != self.to_text():
            raise displaced_error(store.connection.address.text)


def _start_run(store: MilvusStore, encoder: Encoder) -> _Run:
    """Take over the collections of an interrupted run for this encoder, or create new ones."""
    generation = store.descriptor.generation + 1
    fingerprint, _, last = (store.value(_RUN).split() + [""] * 3)[:3]
    is_unfinished = bool(fingerprint) and int(last or generation) >= generation
    previous = _Run(fingerprint, "", int(last or generation))
    is_displaced = is_unfinished and fingerprint != encoder.fingerprint
    if is_unfinished:
        generation = previous.generation + is_displaced
    run = _Run(encoder.fingerprint, uuid.uuid4().hex, generation)
    store.connection.upsert(store.base_collection, [schema.base_row(_RUN, run.to_text())])
    if is_displaced:
        for collection in previous.collections(store).values():
            store.connection.drop_collection(collection)
    for modality, collection in run.collections(store).items():
        if is_displaced or not is_unfinished or not store.connection.has_collection(collection):
            with_words = store.descriptor.has_keywords and modality == "text"
            fields = schema.part_fields(encoder.dim, with_words)
            store.connection.create_collection(collection, fields)
        store.connection.load_collection(collection)
    return run


def _encode_missing(
    store: MilvusStore,
    encoder: Encoder,
    run: _Run,
    progress: ReencodeProgress | None,
) -> None:
    """Encode the entries whose current version has no parts in the new collections."""
    collections = run.collections(store)
    total = store.count()
    num_done = 0
    fields = ("key", "version", "body")
    for first, last in key_slices(total):
        encoded = {
            (row["entry"], row["version"])
            for collection in collections.values()
            for row in store.connection.slice(
                collection, ("entry", "version"), first, last, field="entry"
            )
        }
        rows = store.connection.slice(store.entry_collection, fields, first, last)
        missing = [row for row in rows if (row["key"], row["version"]) not in encoded]
        num_done += len(rows) - len(missing)
        for batch in batched(missing, REENCODE_BATCH):
            if progress is not None:
                progress(num_done, total)
            entries = [store.to_entry(parse_body(row)) for row in batch]
            new_rows = [
                item.to_row()._replace(facets=facets(item.entry.metadata))
                for item in encode_entries(entries, encoder)
            ]
            run.check_owner(store)
            store.write_parts(new_rows, [str(row["version"]) for row in batch], collections)
            num_done += len(batch)
    if progress is not None:
        progress(total, total)


class MilvusVerifier(RowVerifier):
    """Verifies rows, images and a sample as every backend, and vectors by their checksums."""

    store: MilvusStore

    def check_vectors(self) -> None:
        """Check every vector's checksum, and that a search for one of a sample finds it."""
        self.checked["vectors"] = 0
        for modality, collection in self.store.part_collections.items():
            self._check_collection(modality, collection)
        num_leftovers = sum(len(keys) for _, keys in find_leftovers(self.store))
        if num_leftovers:
            self.checked["leftovers of killed writers"] = num_leftovers

    def _check_collection(self, modality: Modality, collection: str) -> None:
        keys: list[str] = []
        sample: list[np.ndarray] = []
        for row in self.store.connection.scan(collection, ("key", "checksum", "vector")):
            self.checked["vectors"] += 1
            vector = np.asarray(row["vector"], np.float32)
            if zlib.crc32(vector.astype("<f2").tobytes()) != row["checksum"]:
                self.findings.append(
                    f"The {modality} vector {row['key']} is damaged: its checksum differs."
                )
            elif len(keys) < self.sample_size:
                keys.append(row["key"])
                sample.append(vector)
        if keys:
            self._check_self_search(modality, collection, keys, np.array(sample))

    def _check_self_search(
        self, modality: Modality, collection: str, keys: list[str], vectors: np.ndarray
    ) -> None:
        results = self.store.connection.vector_search(
            collection, vectors, SELF_SEARCH_K, "", ("key",)
        )
        for key, rows in zip(keys, results, strict=True):
            is_found = any(row["key"] == key for _, row in rows)
            if not is_found and not (rows and rows[0][0] >= MIN_SELF_COSINE):
                self.findings.append(f"A search for the {modality} vector {key} misses it.")
