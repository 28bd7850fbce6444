"""A base on a Milvus server or in a file of Milvus Lite, as a backend."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.knowledge.backend import Backend, NewIdentity, SampledParts
from ravlm.knowledge.milvus import maintenance, schema
from ravlm.knowledge.milvus.address import parse_address
from ravlm.knowledge.milvus.client import KEY_SPACE, MilvusConnection
from ravlm.knowledge.milvus.descriptor import (
    FORMAT,
    BaseDescriptor,
    find_descriptor,
    write_descriptor,
)
from ravlm.knowledge.milvus.search import MilvusSearcher
from ravlm.knowledge.milvus.store import MilvusStore, parse_body
from ravlm.knowledge.records import Identity, hit_part
from ravlm.knowledge.reencode import ReencodeProgress
from ravlm.knowledge.reports import Info, Trial, TuneReport, VerifyReport
from ravlm.records import MODALITIES, Modality

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder
    from ravlm.knowledge.index.tuning import Requirements

SAMPLE_SIZE = 512
"""Vectors that represent a modality."""
SAMPLE_MAX_AGE = 10.0
"""Seconds after which they are drawn again."""


class _CachedSample(NamedTuple):
    time: float
    num_writes: int
    vectors: np.ndarray

    def is_fresh(self, num_writes: int) -> bool:
        is_recent = time.monotonic() - self.time <= SAMPLE_MAX_AGE
        return is_recent and self.num_writes == num_writes


class MilvusBackend(Backend):
    """One base on one server."""

    format = FORMAT
    store: MilvusStore

    def __init__(self, store: MilvusStore, created: bool = False) -> None:
        """For `open` and `create`."""
        super().__init__(store.connection.address.text, store, store.descriptor.identity, created)
        self.connection = store.connection
        self._samples: dict[Modality, _CachedSample] = {}

    @staticmethod
    def exists(path: str | os.PathLike[str]) -> bool:
        """Return whether there is a complete base at the address."""
        connection = MilvusConnection(parse_address(str(path)))
        try:
            return find_descriptor(connection) is not None
        finally:
            connection.close()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> MilvusBackend:
        """Open the base at an address."""
        connection = MilvusConnection(parse_address(str(path)))
        try:
            return cls(MilvusStore(connection))
        except BaseException:
            connection.close()
            raise

    @classmethod
    def create(cls, path: str | os.PathLike[str], new_identity: NewIdentity) -> MilvusBackend:
        """Create an empty base; the remains of an interrupted creation are replaced."""
        connection = MilvusConnection(parse_address(str(path)))
        try:
            identity, canaries = new_identity()
            _check_single_vectors(identity)
            files = connection.address.files
            descriptor = BaseDescriptor(
                identity,
                has_keywords=connection.has_keyword_search,
                files=None if files is None else str(files),
            )
            try:
                _create_collections(connection, descriptor)
                write_descriptor(connection, descriptor, canaries)
                return cls(MilvusStore(connection), created=True)
            except BaseException:
                _drop_collections(connection)
                raise
        except BaseException:
            connection.close()
            raise

    def drop(self) -> None:
        """Delete the base; its own collection first, so that it is never incomplete."""
        for collection in self.store.all_collections():
            self.connection.drop_collection(collection)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    def change(self) -> int:
        """Return when the last change was committed, in nanoseconds since 1970."""
        return self.store.change()

    def check_current(self) -> None:
        """Raise Mismatch if the base was re-encoded since it was opened."""
        self.store.check_identity(self.identity)

    @contextmanager
    def searcher(self) -> Iterator[MilvusSearcher]:
        """Open what the server shows now; dropped collections tell of a re-encoding."""
        yield MilvusSearcher(self.store, self._sample_vectors)

    def _sample_vectors(self, modality: Modality) -> np.ndarray:
        """Return canaries and random vectors; drawn again after a change or some seconds."""
        cached = self._samples.get(modality)
        num_writes = self.store.num_writes
        if cached is not None and cached.is_fresh(num_writes):
            return cached.vectors
        rows = self._random_rows(SAMPLE_SIZE, modality, 0, ("vector",))
        random_vectors = np.array([row["vector"] for row in rows], np.float32)
        random_vectors = random_vectors.reshape(len(rows), self.identity.dim)
        vectors = np.concatenate([self.store.canaries()[modality], random_vectors])
        self._samples[modality] = _CachedSample(time.monotonic(), num_writes, vectors)
        return vectors

    def _random_rows(
        self, n: int, modality: Modality, seed: int, fields: tuple[str, ...]
    ) -> list[dict[str, object]]:
        """Return up to n random parts: those after a random key, as keys are hashes."""
        collection = self.store.part_collections[modality]
        total = self.connection.count(collection)
        if not total or n < 1:
            return []
        start = int.from_bytes(hashlib.sha256(f"draw {seed}".encode()).digest()[:8], "big")
        step = min(KEY_SPACE, max(1, int(1.5 * KEY_SPACE * min(n, 1000) / total)))
        sampled_rows: list[dict[str, object]] = []
        for first in range(start, start + KEY_SPACE, step):
            for low, high in _wrap_around(first, min(first + step, start + KEY_SPACE)):
                rows = self.connection.slice(collection, ("key", *fields), low, high)
                sampled_rows += sorted(map(dict, rows), key=lambda row: str(row["key"]))
            if len(sampled_rows) >= n:
                break
        return sampled_rows[:n]

    def info(self) -> Info:
        """Return size, encoder and state; the server does not tell its disk usage."""
        change = self.change()
        identity = self.store.descriptor.identity
        return Info(
            path=self.name,
            entries=self.store.count(),
            parts={
                modality: self.connection.count(collection)
                for modality, collection in self.store.part_collections.items()
            },
            encoder=identity.encoder,
            fingerprint=identity.fingerprint,
            dim=identity.dim,
            format=FORMAT,
            change=change,
            indexed_change=change,
        )

    def sample_parts(self, n: int, modality: Modality, seed: int) -> SampledParts:
        """Return up to n random parts of a modality."""
        fields = ("entry", "version", "position", "passage", "vector")
        parts = self._random_rows(n, modality, seed, fields)
        keys = {str(part["entry"]) for part in parts}
        rows = self.store.rows_by_key(self.store.entry_collection, keys, ("key", "version", "body"))
        entries = {row["key"]: row for row in rows}
        sample = []
        for part in parts:
            row = entries.get(part["entry"])
            if row is not None and row["version"] == part["version"]:
                entry = self.store.to_entry(parse_body(row))
                position, passage = int(str(part["position"])), str(part["passage"]) or None
                matched = hit_part(entry, modality, position, passage)
                sample.append((entry, matched, np.asarray(part["vector"], np.float32)))
        return sample

    def optimize(self) -> None:
        """Seal recent rows, and return when the server has indexed them."""
        maintenance.optimize(self.store)

    def tune(self, requirements: Requirements, progress: Callable[[Trial], None]) -> TuneReport:
        """Raise InvalidInput: the server builds its own indexes."""
        raise InvalidInput(
            f'"{self.name}" is on a Milvus server, which builds its own indexes (HNSW); '
            "`tune` measures those of a base in a folder."
        )

    def compact(self) -> None:
        """Remove leftovers, and ask the server to clear its disk, which takes some time."""
        maintenance.compact(self.store)

    def verify(self, encoder: Callable[[], Encoder], sample_size: int) -> VerifyReport:
        """Check rows, checksums and images, and encode a sample again."""
        return maintenance.MilvusVerifier(self.store, encoder, sample_size).run()

    def reencode(
        self,
        encoder: Encoder,
        canaries: Mapping[Modality, np.ndarray],
        progress: ReencodeProgress | None,
    ) -> None:
        """Encode into new collections, and switch to them by writing one row."""
        _check_single_vectors(self.identity.with_encoder(encoder))
        maintenance.reencode(self.store, encoder, canaries, progress)
        self.identity = self.store.descriptor.identity
        self._samples = {}


def _check_single_vectors(identity: Identity) -> None:
    """Raise InvalidInput for a multi-vector encoder: most servers search one vector per row."""
    if identity.is_multi_vector:
        raise InvalidInput(
            f'The encoder "{identity.encoder}" gives several vectors per image, which a base on '
            "Milvus does not store; build the base in a folder, or use another encoder."
        )


def _create_collections(connection: MilvusConnection, descriptor: BaseDescriptor) -> None:
    name = connection.address.name
    connection.create_collection(schema.entry_collection(name), schema.ENTRY_FIELDS)
    for modality in MODALITIES:
        with_words = descriptor.has_keywords and modality == "text"
        fields = schema.part_fields(descriptor.identity.dim, with_words)
        collection = schema.part_collection(name, modality, descriptor.generation)
        connection.create_collection(collection, fields)
    connection.create_collection(schema.base_collection(name), schema.BASE_FIELDS)
    connection.load_collection(schema.base_collection(name))


def _drop_collections(connection: MilvusConnection) -> None:
    name = connection.address.name
    connection.drop_collection(schema.base_collection(name))  # first: then there is no base
    connection.drop_collection(schema.entry_collection(name))
    for modality in MODALITIES:
        connection.drop_collection(schema.part_collection(name, modality, 1))


def _wrap_around(first: int, last: int) -> list[tuple[int, int]]:
    """Return a range of keys on a circle as one or two ranges."""
    start = first % KEY_SPACE
    end = start + last - first
    return [(start, end)] if end <= KEY_SPACE else [(start, KEY_SPACE), (0, end - KEY_SPACE)]
