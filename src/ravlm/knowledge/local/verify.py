"""Proofs that a base is what it should be: file, counts, checksums, vectors re-encoded, canaries,
index, pictures.

Reads only. Each fault is a sentence; knows no way to mend them.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ravlm.data.images import is_address
from ravlm.data.parallel import batched
from ravlm.knowledge.index import snapshots
from ravlm.knowledge.index.index_cache import IndexCache
from ravlm.knowledge.index.vector_index import ROWS_PER_READ, VectorIndexes
from ravlm.knowledge.records import MODALITY_BY_CODE
from ravlm.knowledge.local.store import Store
from ravlm.knowledge.verify_embeddings import encoded_again
from ravlm.knowledge.reports import VerifyReport
from ravlm.search.filters import facets

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

NAMED = 5
"""Faults of one kind that are told one by one."""
ROUNDED, NEAR = 0.02, 0.99
"""How far a number of a vector may be from the stored one in an index that keeps a byte for it, and
how near (cosine) the best hit of a search by a stored vector must be."""


class Verification:
    """One run over one state of a base. `sample`: how many entries are encoded again."""

    def __init__(
        self, store: Store, live: IndexCache, encoder: Callable[[], Encoder], sample: int
    ) -> None:
        self.store, self.live, self.encoder, self.sample = store, live, encoder, sample
        self.findings: list[str] = []
        self.checked: dict[str, int] = {}

    def run(self) -> VerifyReport:
        """All checks, the cheap ones first."""
        with self.store.reading() as db:
            self._file(db)
            if not self.findings:  # else the rest would only repeat it
                self._rows(db)
                self._vectors()
                self._pictures(db)
                self._meaning(db)
        return VerifyReport(tuple(self.findings), self.checked)

    def _tell(self, faults: Sequence[str]) -> None:
        self.findings += faults[:NAMED]
        if len(faults) > NAMED:
            self.findings.append(f"... and {len(faults) - NAMED:,} more of this kind.")

    def _file(self, db: sqlite3.Connection) -> None:
        told = [row[0] for row in db.execute("PRAGMA quick_check(20)")]
        self._tell([f"The store's file is damaged: {line}." for line in told if line != "ok"])
        cut = db.execute(
            "SELECT number FROM part WHERE LENGTH(vector) != ?", (2 * self.live.identity.dim,)
        )
        self._tell(
            [
                f"The vector of part {number} has another length than the base's."
                for (number,) in cut
            ]
        )

    def _rows(self, db: sqlite3.Connection) -> None:
        """Every row has those that it belongs with."""
        orphans = {
            "parts without an entry": "SELECT COUNT(*) FROM part WHERE entry NOT IN (SELECT number FROM entry)",
            "entries without a part": "SELECT COUNT(*) FROM entry WHERE number NOT IN (SELECT entry FROM part)",
            "filter values without entry": "SELECT COUNT(*) FROM facet WHERE entry NOT IN (SELECT number FROM entry)",
            "texts without keywords": "SELECT COUNT(*) FROM part WHERE modality = 1 AND words IS NULL",
            "removed parts that are there": "SELECT COUNT(*) FROM removed JOIN part ON part.number = removed.part",
        }
        for what, sql in orphans.items():
            count = db.execute(sql).fetchone()[0]
            if count:
                self.findings.append(f"There are {count:,} {what}.")
        self.checked["entries"] = self.store.count()
        some = db.execute(
            "SELECT id, number FROM entry ORDER BY RANDOM() LIMIT ?", (self.sample,)
        ).fetchall()
        for id_, number in some:
            stored = set(
                db.execute("SELECT key, kind, value FROM facet WHERE entry = ?", (number,))
            )
            if stored != set(facets(self.store.entries([id_])[id_].metadata)):
                self.findings.append(f'The filter values of "{id_}" are not those of its metadata.')

    def _vectors(self) -> None:
        """Every vector is the one that was stored, by its checksum, and the index holds the same
        under its number."""
        self._tell(snapshots.find_damage(self.live.derived))
        index, dim, seen = self.live.vectors(), self.live.identity.dim, 0
        damaged: list[str] = []
        strange: list[str] = []
        for batch in batched(self.store.parts_after(0), ROWS_PER_READ):
            seen += len(batch)
            bad = {
                number
                for number, _, _, vector, checksum, _ in batch
                if zlib.crc32(vector) != checksum
            }
            damaged += [
                f"The vector of part {n} is not the one that was stored: its checksum differs."
                for n in bad
            ]
            for code, modality in MODALITY_BY_CODE.items():
                rows = [row for row in batch if row[2] == code and row[0] not in bad]
                numbers, entries = (np.array([row[at] for row in rows], np.int64) for at in (0, 1))
                stored = np.frombuffer(b"".join(row[3] for row in rows), "<f2").reshape(
                    len(rows), dim
                )
                held = index.by_modality[modality].vectors(numbers)
                equal = (np.abs(held - stored).max(axis=1, initial=0) < ROUNDED) & (
                    index.by_modality[modality].entries(numbers) == entries
                )
                strange += [
                    f"The {modality} index has another vector for part {n}."
                    for n in numbers[~equal].tolist()
                ]
        self._tell(damaged)
        self._tell(strange)
        if seen != (held_now := sum(len(found) for found in index.by_modality.values())):
            self.findings.append(f"The index holds {held_now:,} parts, and the store {seen:,}.")
        self._found_again(index)
        words = sum(int(block.alive.sum()) for block in self.live.keywords().segments)
        if words != (texts := self.store.text_parts()):
            self.findings.append(
                f"The keyword index holds {words:,} texts, and the store {texts:,}."
            )
        self.checked["vectors"] = seen

    def _found_again(self, index: VectorIndexes) -> None:
        """A search by a part's own vector finds that part, or others as near."""
        for modality, found in index.by_modality.items():
            parts = found.parts()
            some = parts[
                np.linspace(0, len(parts) - 1, min(self.sample, len(parts))).astype(np.int64)
            ]
            stored = self.store.vectors(some.tolist())
            vectors = np.array([stored[part][1] for part in some.tolist()], np.float32).reshape(
                len(some), found.dim
            )
            for part, ranking in zip(some.tolist(), found.search(vectors, 10), strict=True):
                if part not in ranking.parts and ranking.scores[0] < NEAR:
                    self.findings.append(
                        f"A search of the {modality} index by the vector of part {part} misses it."
                    )

    def _pictures(self, db: sqlite3.Connection) -> None:
        """Every picture is still there."""
        faults = []
        for id_, image in db.execute("SELECT id, image FROM entry WHERE image IS NOT NULL"):
            path = str(self.store.image_path(image))
            if not is_address(path) and not os.path.isfile(path):
                faults.append(
                    f'The picture of "{id_}" is gone: "{path}". Its vectors and texts are still there.'
                )
        self.checked["pictures"] = db.execute("SELECT COUNT(image) FROM entry").fetchone()[0]
        self._tell(faults)

    def _meaning(self, db: sqlite3.Connection) -> None:
        """Id to row to vector: a sample of entries, encoded again, gives the stored vectors."""
        ids = [row[0] for row in db.execute(
            "SELECT id FROM entry WHERE number IN (SELECT entry FROM part WHERE given = 0) ORDER BY RANDOM() LIMIT ?",
            (self.sample,),
        )]  # fmt: skip
        if not ids:
            return
        rows = list(self.store.rows(ids))
        self.findings += encoded_again(rows, self.encoder, self.store.canaries())
        self.checked["entries encoded again"] = len(rows)
