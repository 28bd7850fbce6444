"""Upkeep of a base on Milvus: what killed writers left is cleared, all vectors made anew, all of it
verified.

Works through the keys a slice at a time. Knows no search but that a vector finds its part again.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ravlm.data.images import is_address
from ravlm.data.parallel import batched
from ravlm.errors import Busy, InvalidInput, Mismatch
from ravlm.knowledge.embed import encode
from ravlm.knowledge.images import FOLDER
from ravlm.knowledge.local.maintenance import item_of
from ravlm.knowledge.records import EntryRow
from ravlm.knowledge.verify_embeddings import encoded_again
from ravlm.knowledge.milvus import schema
from ravlm.knowledge.milvus.client import ASKED, Connection, slices
from ravlm.knowledge.milvus.filters import among
from ravlm.knowledge.milvus.store import MilvusRows, write_kept
from ravlm.knowledge.reports import VerifyReport
from ravlm.records import MODALITIES, Modality
from ravlm.search.filters import facets

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

BATCH = 128
PATIENCE = 3600.0
"""Seconds that the server may take to build its indexes."""
NEAR = 0.99


def leftovers(rows: MilvusRows) -> Iterator[tuple[Modality, list[str]]]:
    """Keys of parts that count no more: a writer was killed before it removed them, or before their
    entry came."""
    for first, last in slices(rows.connection.count(rows.entry)):
        found = rows.connection.slice(rows.entry, ("key", "version"), first, last)
        version = {row["key"]: row["version"] for row in found}
        for modality, collection in rows.collections.items():
            parts = rows.connection.slice(
                collection, ("key", "entry", "version"), first, last, field="entry"
            )
            yield (
                modality,
                [part["key"] for part in parts if version.get(part["entry"]) != part["version"]],
            )


def compact(rows: MilvusRows) -> None:
    """Remove leftovers and pictures that no entry refers to, and ask the server to clear its
    disk."""
    for modality, keys in leftovers(rows):
        for some in batched(keys, ASKED):
            rows.connection.delete(rows.collections[modality], among("key", some))
    if rows.files is not None and rows.files.is_dir():
        kept = {rows.image_path(row.image) for row in rows.rows()}
        for path in (rows.files / FOLDER).rglob("*"):
            if path.is_file() and str(path) not in kept:
                path.unlink(missing_ok=True)
    for collection in (rows.base, rows.entry, *rows.collections.values()):
        with rows.connection.told():
            rows.connection.client.flush(collection)
            rows.connection.client.compact(collection)


def optimize(rows: MilvusRows) -> None:
    """Seal what came lately, and wait until the server has indexed it."""
    for collection in rows.collections.values():
        _await_index(rows.connection, collection)


def _await_index(connection: Connection, collection: str) -> None:
    with connection.told():
        connection.client.flush(collection)
        until = time.monotonic() + PATIENCE
        while int(
            connection.client.describe_index(collection, "vector").get("pending_index_rows", 0)
        ):
            if time.monotonic() > until:
                raise Busy(
                    f'The server has been indexing "{collection}" for {PATIENCE / 60:.0f} minutes; wait for it.'
                )
            time.sleep(1)


def reencode(
    rows: MilvusRows,
    encoder: Encoder,
    canaries: dict[Modality, np.ndarray],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Encode all entries into new collections, and let those count by one row; goes on where it
    stopped.

    Raises InvalidInput where a ready-made vector has no content that could be encoded.
    """
    _refuse_without_content(rows)
    old = rows.kept
    new = replace(old, identity=old.identity.with_encoder(encoder), generation=old.generation + 1)
    collections = {m: schema.part_collection(rows.name, m, new.generation) for m in MODALITIES}
    if rows.value("fresh") != encoder.fingerprint:
        for modality, collection in collections.items():
            rows.connection.make(
                collection, schema.part_fields(encoder.dim, old.worded and modality == "text")
            )
        rows.connection.upsert(rows.base, [schema.base_row("fresh", encoder.fingerprint)])
    for collection in collections.values():
        rows.connection.load(collection)
    for last in (False, True):  # what came while the first round was under way
        if last:
            rows.check_identity(old.identity)
        _encode_missing(rows, encoder, collections, progress)
    write_kept(rows.connection, new, canaries)
    rows.connection.upsert(rows.base, [schema.base_row("fresh", "")])
    before = rows.collections
    rows.kept = new
    for collection in before.values():
        rows.connection.drop(collection)
    rows.tell_change()


def _refuse_without_content(rows: MilvusRows) -> None:
    for row in rows.rows():
        for part in row.parts:
            if part.precomputed and (
                row.image is None if part.modality == "image" else row.texts == "[]"
            ):
                raise InvalidInput(
                    f'The vector of "{row.id}" was given ready-made, without a picture or text that could be encoded; '
                    "remove such entries first, or add them to a new base with vectors of the other encoder."
                )


def _encode_missing(
    rows: MilvusRows,
    encoder: Encoder,
    collections: Mapping[Modality, str],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Encode the entries whose present version has no parts in the new collections."""
    total, done = rows.count(), 0
    for first, last in slices(total):
        versions = {
            (row["entry"], row["version"])
            for collection in collections.values()
            for row in rows.connection.slice(
                collection, ("entry", "version"), first, last, field="entry"
            )
        }
        there = rows.connection.slice(rows.entry, ("key", "version", "body"), first, last)
        missing = [row for row in there if (row["key"], row["version"]) not in versions]
        done += len(there) - len(missing)
        for some in batched(missing, BATCH):
            if progress is not None:
                progress(done, total)
            entries = [rows.entry_of(rows.body_of(row)) for row in some]
            items = [item_of(entry, encoder) for entry in entries]
            encode(items, lambda: encoder)
            for item in items:
                if item.refused:
                    raise Mismatch(
                        f'"{item.entry.id}" can\'t be re-encoded: {item.refused} The base is as it was.'
                    )
            again = [item.row()._replace(facets=facets(item.entry.metadata)) for item in items]
            rows.write_parts(again, [str(row["version"]) for row in some], collections)
            done += len(some)
    if progress is not None:
        progress(total, total)


@dataclass
class Verification:
    """One run over a base. `sample`: how many entries are encoded again, and vectors looked for."""

    rows: MilvusRows
    encoder: Callable[[], Encoder]
    sample: int
    findings: list[str] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)

    def run(self) -> VerifyReport:
        """Rows against each other, checksums, pictures, vectors found again, and a sample encoded
        again."""
        rows, seen = self.rows, 0
        some: list[EntryRow] = []
        for row in rows.rows():
            seen += 1
            self._row(row)
            if len(some) < self.sample and any(not part.precomputed for part in row.parts):
                some.append(row)
        self.checked["entries"] = seen
        if seen != (told := rows.count()):
            self.findings.append(f"There are {told:,} entries, and {seen:,} were read.")
        self._checksums()
        left = sum(len(keys) for _, keys in leftovers(rows))
        if left:
            self.checked["leftovers of writers that were killed"] = left
        if some:
            self.findings += encoded_again(some, self.encoder, rows.canaries())
            self.checked["entries encoded again"] = len(some)
        return VerifyReport(tuple(self.findings), self.checked)

    def _row(self, row: EntryRow) -> None:
        if not row.parts:
            self.findings.append(f'The entry "{row.id}" has no part.')
        if row.image is not None and not is_address(row.image) and not os.path.isfile(row.image):
            self.findings.append(
                f'The picture of "{row.id}" is gone: "{row.image}". Its vectors and texts are there.'
            )

    def _checksums(self) -> None:
        """Every vector is the one that was written, and a search by one of a sample finds it."""
        for modality, collection in self.rows.collections.items():
            found: list[tuple[str, np.ndarray]] = []
            for row in self.rows.connection.scan(collection, ("key", "checksum", "vector")):
                vector = np.asarray(row["vector"], np.float32)
                if zlib.crc32(vector.astype("<f2").tobytes()) != row["checksum"]:
                    self.findings.append(
                        f"The {modality} vector {row['key']} is not the one that was stored."
                    )
                elif len(found) < self.sample:
                    found.append((row["key"], vector))
                self.checked["vectors"] = self.checked.get("vectors", 0) + 1
            if found:
                vectors = np.array([vector for _, vector in found])
                hits = self.rows.connection.search(collection, vectors, 10, "", ("key",))
                for (key, _), best in zip(found, hits, strict=True):
                    if all(row["key"] != key for _, row in best) and (
                        not best or best[0][0] < NEAR
                    ):
                        self.findings.append(f"A search by the {modality} vector {key} misses it.")
