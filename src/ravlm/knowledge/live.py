"""The index of an open base, kept fresh: at each search it takes over what was committed since, by whomever.

Knows how the store tells its changes and where snapshots lie; knows no queries.
"""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path

import numpy as np

from ravlm.errors import Mismatch
from ravlm.knowledge import snapshots
from ravlm.knowledge.schema import Identity
from ravlm.knowledge.store import Store
from ravlm.knowledge.vectors import Index

PROBES = 32
"""Newest rows of a snapshot that are compared with the store before it is used."""


class LiveIndex:
    """The vectors of `store` in memory, over a snapshot in `derived` where there is one."""

    def __init__(self, store: Store, identity: Identity, derived: Path) -> None:
        self.store, self.identity, self.derived = store, identity, derived
        self._index: Index | None = None

    def fresh(self) -> Index:
        """The index in the state that the current `reading()` sees. Raises Mismatch after a re-encoding."""
        with self.store.reading() as db:
            state = self.store.state()
            if state.identity != self.identity:
                raise Mismatch(
                    f'The knowledge base "{self.store.folder}" was re-encoded with "{state.identity.encoder}" while it '
                    "was open here; open it again."
                )
            index = self._index
            if index is None or index.change < state.purged:
                index = self._snapshot(db, state.purged, state.change) or self._empty()
            self._index = None  # stays so where the following is interrupted
            if index.change != state.change:
                removed = self.store.removed_since(index.change)
                index.update(self.store.parts_after(index.last_part), removed, state.change)
            self._index = index
            return index

    def save(self) -> None:
        """Write a snapshot of the present state, and search it from now on."""
        with self.store.reading():
            index = self.fresh()
            snapshots.write(self.derived, index, self.identity.base)
            self.forget()
            self.fresh()

    def forget(self) -> None:
        """Start anew at the next search: from the newest snapshot, or from the store."""
        self._index = None

    def _empty(self) -> Index:
        return Index(self.identity.dim, self.store.canaries())

    def _snapshot(self, db: sqlite3.Connection, oldest: int, newest: int) -> Index | None:
        """The newest snapshot, unless it tells another history than the store (which a copy may have replaced)."""
        index = snapshots.read(self.derived, self._empty, self.identity.base, newest, oldest)
        if index is None:
            return None
        gone = set(self.store.removed_since(index.change))
        for found in index.of.values():
            parts = np.array([part for part in found.parts()[-PROBES:].tolist() if part not in gone], np.int64)
            for part, vector in zip(parts.tolist(), found.vectors(parts), strict=True):
                row = db.execute("SELECT checksum FROM part WHERE number = ?", (part,)).fetchone()
                if row is None or row[0] != zlib.crc32(vector.astype("<f2").tobytes()):
                    return None
        return index
