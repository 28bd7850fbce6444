"""Verify a base in a folder: file, counts, checksums, indexes, images, and a sample encoded again.

Reads only; each fault is a sentence.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from ravlm.data.images import is_address
from ravlm.data.parallel import batched
from ravlm.data.pdf import image_file
from ravlm.knowledge.images import resolve_image
from ravlm.knowledge.index import snapshots
from ravlm.knowledge.index.index_cache import IndexCache
from ravlm.knowledge.index.vector_index import (
    ROWS_PER_READ,
    TOKEN_ROWS_PER_READ,
    VectorIndexes,
    decode_tokens,
)
from ravlm.knowledge.local.row_checks import find_damaged_rows
from ravlm.knowledge.local.sql import select_in
from ravlm.knowledge.local.store import SqliteStore
from ravlm.knowledge.records import MODALITY_BY_CODE, EntryRow
from ravlm.knowledge.reports import VerifyReport
from ravlm.knowledge.verify import max_parts, missing_image, stored_repeatedly
from ravlm.knowledge.verify_embeddings import find_wrong_embeddings
from ravlm.search.filters import facets

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

MAX_LISTED = 5
"""Faults of one kind that are listed one by one."""
MAX_ROUNDING_ERROR = 0.02
"""Largest deviation of a component from that of the stored vector in the precision of the index:
some steps of one byte, which another processor may round in another way."""
MAX_MISSES = 0.25
"""Largest share of the sample that an approximate index may miss in a search: it is tuned to a
recall, and vectors at the edge of its cells are those that it loses."""
MIN_SELF_COSINE = 0.99
"""Minimum cosine of the best hit when searching for a stored vector."""
SELF_SEARCH_K = 10
_REPEATED = """
SELECT id, texts, position, passage, count FROM entry JOIN (
    SELECT entry, position, passage, COUNT(*) AS count FROM part
    GROUP BY entry, modality, position, passage HAVING COUNT(*) > 1
) AS repeated ON repeated.entry = entry.number
"""
_SAMPLE_ENTRIES = "SELECT id, number FROM entry ORDER BY RANDOM() LIMIT ?"
_SAMPLE_ENCODED = """
SELECT id FROM entry WHERE number IN (SELECT entry FROM part WHERE given = 0)
ORDER BY RANDOM() LIMIT ?
"""


class LocalVerifier:
    """One verification of one state of a base. `sample_size` entries are encoded again."""

    def __init__(
        self,
        store: SqliteStore,
        indexes: IndexCache,
        encoder: Callable[[], Encoder],
        sample_size: int,
    ) -> None:
        self.store = store
        self.indexes = indexes
        self.encoder = encoder
        self.sample_size = sample_size
        self.findings: list[str] = []
        self.checked: dict[str, int] = {}

    def run(self) -> VerifyReport:
        """Run all checks, the cheap ones first."""
        with self.store.reading() as db:
            self._check_file(db)
            if not self.findings:  # the other checks would only repeat damage of the file
                self.findings += find_damaged_rows(db)
            if not self.findings:  # the values of all rows have the right types
                self._check_rows(db)
                self._check_vectors()
                self._check_images(db)
                self._check_embeddings(db)
        return VerifyReport(tuple(self.findings), self.checked)

    def _add_findings(self, faults: Sequence[str]) -> None:
        self.findings += faults[:MAX_LISTED]
        if len(faults) > MAX_LISTED:
            self.findings.append(f"... and {len(faults) - MAX_LISTED:,} more of this kind.")

    def _check_file(self, db: sqlite3.Connection) -> None:
        messages = [row[0] for row in db.execute("PRAGMA quick_check(20)")]
        self._add_findings(
            [f"The store's file is damaged: {line}." for line in messages if line != "ok"]
        )
        vector_bytes = 2 * self.indexes.identity.dim
        truncated = db.execute("SELECT number FROM part WHERE LENGTH(vector) != ?", (vector_bytes,))
        self._add_findings(
            [f"The vector of part {number} has the wrong length." for (number,) in truncated]
        )

    def _check_rows(self, db: sqlite3.Connection) -> None:
        """Check that no part is stored twice, and that filter values are those of the metadata."""
        self._add_findings(
            [
                stored_repeatedly(id_, count)
                for id_, texts, position, passage, count in db.execute(_REPEATED)
                if count > max_parts(texts, position, passage)
            ]
        )
        self.checked["entries"] = self.store.count()
        for id_, number in db.execute(_SAMPLE_ENTRIES, (self.sample_size,)).fetchall():
            rows = db.execute("SELECT key, kind, value FROM facet WHERE entry = ?", (number,))
            if set(rows) != set(facets(self.store.entries([id_])[id_].metadata)):
                self.findings.append(f'The filter values of "{id_}" differ from its metadata.')

    def _check_vectors(self) -> None:
        """Check all vectors by checksum, and that the indexes hold the same vectors."""
        self._add_findings(snapshots.find_damage(self.indexes.derived))
        vectors = self.indexes.vectors()
        num_stored = 0
        damaged: list[str] = []
        different: list[str] = []
        for batch in batched(self.store.parts_after(0), ROWS_PER_READ):
            num_stored += len(batch)
            bad = {row[0] for row in batch if zlib.crc32(row[3]) != row[4]}
            damaged += [f"The vector of part {n} is damaged: its checksum differs." for n in bad]
            different += self._different_vectors(vectors, [r for r in batch if r[0] not in bad])
        self._add_findings(damaged)
        self._add_findings(different)
        if vectors.with_tokens:
            self._check_tokens(vectors)
        num_indexed = sum(len(index) for index in vectors.by_modality.values())
        if num_stored != num_indexed:
            self.findings.append(
                f"The index holds {num_indexed:,} parts, but the store {num_stored:,}."
            )
        self._check_self_search(vectors)
        self._check_keywords()
        self.checked["vectors"] = num_stored

    def _different_vectors(
        self, vectors: VectorIndexes, parts: Sequence[tuple[int, int, int, bytes, int, int]]
    ) -> list[str]:
        """Return a finding for each part whose indexed vector is not the stored one."""
        findings = []
        for code, modality in MODALITY_BY_CODE.items():
            rows = [row for row in parts if row[2] == code]
            numbers = np.array([row[0] for row in rows], np.int64)
            entries = np.array([row[1] for row in rows], np.int64)
            stored = np.frombuffer(b"".join(row[3] for row in rows), "<f2")
            stored = stored.reshape(len(rows), vectors.dim)
            index = vectors.by_modality[modality]
            expected = index.quantized(numbers, stored.astype(np.float32))
            deviation = np.abs(index.vectors(numbers) - expected).max(axis=1, initial=0)
            is_equal = (deviation < MAX_ROUNDING_ERROR) & (index.entries(numbers) == entries)
            findings += [
                f"The {modality} index has another vector for part {number}."
                for number in numbers[~is_equal].tolist()
            ]
        return findings

    def _check_tokens(self, vectors: VectorIndexes) -> None:
        """Check all token vectors by checksum, and that the indexes hold their codes."""
        damaged: list[str] = []
        different: list[str] = []
        num_tokens = 0
        for batch in batched(self.store.tokens_after(0), TOKEN_ROWS_PER_READ):
            bad = {part for part, _, blob, checksum in batch if zlib.crc32(blob) != checksum}
            damaged += [
                f"The token vectors of part {n} are damaged: checksum differs." for n in bad
            ]
            for code, modality in MODALITY_BY_CODE.items():
                rows = [row for row in batch if row[1] == code and row[0] not in bad]
                stored = decode_tokens([row[2] for row in rows], vectors.dim)
                numbers = np.array([row[0] for row in rows], np.int64)
                differing = vectors.by_modality[modality].differing_tokens(numbers, stored)
                different += [
                    f"The {modality} index has other token vectors for part {number}."
                    for number in differing.tolist()
                ]
                num_tokens += len(stored.vectors)
        self._add_findings(damaged)
        self._add_findings(different)
        self.checked["token vectors"] = num_tokens

    def _check_self_search(self, vectors: VectorIndexes) -> None:
        """Check that a search for a part's own vector finds that part or an equal one."""
        for modality, index in vectors.by_modality.items():
            parts = index.parts()
            spaced = np.linspace(0, len(parts) - 1, min(self.sample_size, len(parts)))
            sample = parts[spaced.astype(np.int64)].tolist()
            stored = self.store.vectors(sample)
            queries = np.array([stored[part][1] for part in sample], np.float32)
            queries = queries.reshape(len(sample), index.dim)
            misses = [
                part
                for part, ranking in zip(sample, index.search(queries, SELF_SEARCH_K), strict=True)
                if part not in ranking.parts and ranking.scores[0] < MIN_SELF_COSINE
            ]
            is_approximate = any(segment.index.ann is not None for segment in index.segments)
            if len(misses) > MAX_MISSES * is_approximate * len(sample):
                self._add_findings(
                    [
                        f"A search of the {modality} index for the vector of part {part} misses it."
                        for part in misses
                    ]
                )

    def _check_keywords(self) -> None:
        num_indexed = sum(int(seg.alive.sum()) for seg in self.indexes.keywords().segments)
        num_stored = self.store.num_text_parts()
        if num_indexed != num_stored:
            self.findings.append(
                f"The keyword index holds {num_indexed:,} texts, but the store {num_stored:,}."
            )

    def _check_images(self, db: sqlite3.Connection) -> None:
        """Check that every image file exists."""
        rows = db.execute("SELECT id, image FROM entry WHERE image IS NOT NULL").fetchall()
        missing = {id_: image for id_, image in rows if self._is_missing(image)}
        self.checked["images"] = len(rows)
        self._add_findings(
            [
                missing_image(id_, str(resolve_image(image, self.store.folder)))
                for id_, image in self._images_now(missing)
                if missing[id_] == image and self._is_missing(image)
            ]
        )

    def _is_missing(self, image: str) -> bool:
        path = str(resolve_image(image, self.store.folder))
        return not is_address(path) and not os.path.isfile(image_file(path))

    def _images_now(self, ids: Iterable[str]) -> list[tuple[str, str]]:
        """Return id and image of those of `ids` that exist in the latest state.

        Others may have been removed, and cleared from disk, since this verification began.
        """
        sql = "SELECT id, image FROM entry WHERE id IN ({})"
        with closing(self.store.reopen()) as latest, latest.reading() as db:
            return list(select_in(db, sql, ids))

    def _check_embeddings(self, db: sqlite3.Connection) -> None:
        """Encode a sample of entries again and compare with the stored vectors."""
        ids = [row[0] for row in db.execute(_SAMPLE_ENCODED, (self.sample_size,))]
        if not ids:
            return
        rows = list(self.store.rows(ids))
        canaries = self.store.canaries()
        findings = find_wrong_embeddings(rows, self.encoder, canaries)
        if findings and (lost := self._lost_images(rows)):
            readable_rows = [row for row in rows if row.id not in lost]
            findings = find_wrong_embeddings(readable_rows, self.encoder, canaries)
        self.findings += findings
        self.checked["entries encoded again"] = len(rows)

    def _lost_images(self, rows: Sequence[EntryRow]) -> set[str]:
        """Return the ids of `rows` whose image was removed or replaced meanwhile."""
        missing = {row.id: row.image for row in rows if row.image and self._is_missing(row.image)}
        latest = {
            id_: resolve_image(image, self.store.folder) for id_, image in self._images_now(missing)
        }
        return {id_ for id_, image in missing.items() if latest.get(id_) != image}
