"""A base on a Milvus server, or in a file of Milvus Lite, behind the interface that a folder has
too."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.knowledge.backend import Backend, Drawn
from ravlm.knowledge.records import Identity, hit_part
from ravlm.knowledge.milvus import maintenance, schema
from ravlm.knowledge.milvus.address import read_address
from ravlm.knowledge.milvus.client import KEYS, Connection
from ravlm.knowledge.milvus.search import MilvusView
from ravlm.knowledge.milvus.store import FORMAT, Kept, MilvusRows, read_kept, write_kept
from ravlm.knowledge.reports import Info, Trial, TuneReport, VerifyReport
from ravlm.records import MODALITIES, Modality
from ravlm.runtime import cache_folder

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder
    from ravlm.knowledge.index.tuning import Requirements

SAMPLE, SAMPLE_AGE = 512, 10.0
"""Vectors that stand for a modality, and seconds for which they do."""


class MilvusBackend(Backend):
    """One base on one server."""

    rows: MilvusRows

    def __init__(self, rows: MilvusRows, made: bool = False) -> None:
        """`made`: whether the base is new. Used by `open` and `create`."""
        self.rows, self.connection, self._made = rows, rows.connection, made
        self.name, self.identity = rows.connection.address.text, rows.kept.identity
        self._samples: dict[Modality, tuple[float, int, np.ndarray]] = {}

    @staticmethod
    def is_there(path: str | os.PathLike[str]) -> bool:
        """Whether there is a base at the address that was made whole."""
        connection = Connection(read_address(str(path)))
        try:
            return read_kept(connection) is not None
        finally:
            connection.close()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> MilvusBackend:
        """The base at an address."""
        connection = Connection(read_address(str(path)))
        try:
            return cls(MilvusRows(connection))
        except BaseException:
            connection.close()
            raise

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        identity: Callable[[], tuple[Identity, dict[Modality, np.ndarray]]],
    ) -> MilvusBackend:
        """An empty base; what was left of one that was not made whole is replaced."""
        connection = Connection(read_address(str(path)))
        address = connection.address
        try:
            whose, canaries = identity()
            kept = Kept(
                whose,
                worded=connection.worded,
                files=None if address.files is None else str(address.files),
            )
            try:
                connection.make(schema.entry_collection(address.name), schema.ENTRY_FIELDS)
                for modality in MODALITIES:
                    fields = schema.part_fields(whose.dim, connection.worded and modality == "text")
                    connection.make(schema.part_collection(address.name, modality, 1), fields)
                connection.make(schema.base_collection(address.name), schema.BASE_FIELDS)
                connection.load(schema.base_collection(address.name))
                write_kept(connection, kept, canaries)
                return cls(MilvusRows(connection), made=True)
            except BaseException:
                _drop(connection)
                raise
        except BaseException:
            connection.close()
            raise

    @property
    def place(self) -> str:
        """The address, without a password."""
        return self.name

    @property
    def derived(self) -> Path:
        """A folder of this machine: what is in it may be lost."""
        return (
            cache_folder() / "bases" / hashlib.sha256(self.identity.base.encode()).hexdigest()[:16]
        )

    def change(self) -> int:
        """When the last change was committed, in nanoseconds since 1970."""
        return int(self.rows.value("change") or 0)

    def check_same(self) -> None:
        """Raise Mismatch where the base was re-encoded since it was opened."""
        self.rows.check_identity(self.identity)

    @contextmanager
    def viewing(self) -> Iterator[MilvusView]:
        """What the server shows now."""
        yield MilvusView(self.rows, self._sample)

    def _sample(self, modality: Modality) -> np.ndarray:
        """Canaries and vectors of parts, drawn anew after a change of this handle, or some
        seconds."""
        made, writes, vectors = self._samples.get(modality, (0.0, -1, np.zeros(0)))
        if writes != self.rows.writes or time.monotonic() - made > SAMPLE_AGE:
            drawn = [
                np.asarray(row["vector"], np.float32)
                for row in self._drawn(SAMPLE, modality, 0, ("vector",))
            ]
            vectors = np.concatenate(
                [self.rows.canaries()[modality], np.array(drawn).reshape(-1, self.identity.dim)]
            )
            self._samples[modality] = (
                time.monotonic(),
                self.rows.writes,
                np.asarray(vectors, np.float32),
            )
        return self._samples[modality][2]

    def _drawn(
        self, n: int, modality: Modality, seed: int, fields: tuple[str, ...]
    ) -> list[dict[str, object]]:
        """Rows of up to n parts: keys are hashes, so those from any place on are drawn at
        random."""
        collection = self.rows.collections[modality]
        total = self.connection.count(collection)
        if not total or n < 1:
            return []
        start = int.from_bytes(hashlib.sha256(f"draw {seed}".encode()).digest()[:8], "big")
        step = min(KEYS, max(1, int(1.5 * KEYS * min(n, 1000) / total)))
        found: list[dict[str, object]] = []
        for first in range(start, start + KEYS, step):
            for low, high in _around(first, min(first + step, start + KEYS)):
                rows = self.connection.slice(collection, ("key", *fields), low, high)
                found += sorted(map(dict, rows), key=lambda row: str(row["key"]))
            if len(found) >= n:
                break
        return found[:n]

    def info(self) -> Info:
        """Sizes and state; what it takes on the server's disk is not told."""
        change, kept = self.change(), self.rows.kept
        return Info(
            path=self.name,
            entries=self.rows.count(),
            parts={
                modality: self.connection.count(name)
                for modality, name in self.rows.collections.items()
            },
            encoder=kept.identity.encoder,
            fingerprint=kept.identity.fingerprint,
            dim=kept.identity.dim,
            format=FORMAT,
            change=change,
            indexed_change=change,
            bytes=None,
        )

    def draw(self, n: int, modality: Modality, seed: int) -> Drawn:
        """Up to n parts of a modality, drawn at random."""
        rows = self._drawn(n, modality, seed, ("entry", "version", "position", "passage", "vector"))
        keys = {str(row["entry"]) for row in rows}
        entries = {
            row["key"]: row
            for row in self.rows.by_key(self.rows.entry, keys, ("key", "version", "body"))
        }
        found = []
        for row in rows:
            kept = entries.get(row["entry"])
            if kept is not None and kept["version"] == row["version"]:
                entry = self.rows.entry_of(self.rows.body_of(kept))
                part = hit_part(
                    entry, modality, int(str(row["position"])), str(row["passage"]) or None
                )
                found.append((entry, part, np.asarray(row["vector"], np.float32)))
        return found

    def optimize(self) -> None:
        """Seal what came lately; returns when the server has indexed it."""
        maintenance.optimize(self.rows)

    def tune(self, wishes: Requirements, told: Callable[[Trial], None]) -> TuneReport:
        """Refused: the server indexes by itself."""
        raise InvalidInput(
            f'"{self.name}" lies on a Milvus server, which builds its indexes itself (HNSW); tune measures those of a '
            "base in a folder."
        )

    def compact(self) -> None:
        """Remove what doesn't count, and ask the server to clear its disk, which it does in its own
        time."""
        maintenance.compact(self.rows)

    def verify(self, encoder: Callable[[], Encoder], sample: int) -> VerifyReport:
        """Rows, checksums, pictures, meaning."""
        return maintenance.Verification(self.rows, encoder, sample).run()

    def reencode(
        self,
        encoder: Encoder,
        canaries: dict[Modality, np.ndarray],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """New collections of parts, that one row lets count."""
        maintenance.reencode(self.rows, encoder, canaries, progress)
        self.identity, self._samples = self.rows.kept.identity, {}

    def close(self) -> None:
        """Give the client back."""
        self.connection.close()

    def take_back(self) -> bool:
        """Close the base, and drop it if it was made here and is empty."""
        gone = self._made and self.rows.count() == 0
        if gone:
            _drop(self.connection)
        self.close()
        return gone


def _drop(connection: Connection) -> None:
    name = connection.address.name
    for collection in (
        schema.base_collection(name),  # first: without it there is no base
        schema.entry_collection(name),
        *(schema.part_collection(name, modality, 1) for modality in MODALITIES),
    ):
        connection.drop(collection)


def _around(first: int, last: int) -> list[tuple[int, int]]:
    """A range of keys on the circle, as one or two of the line."""
    first, last = first % KEYS, last - first + first % KEYS
    return [(first, last)] if last <= KEYS else [(first, KEYS), (0, last - KEYS)]
