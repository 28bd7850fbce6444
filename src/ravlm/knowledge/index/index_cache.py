"""In-memory indexes of an open base, refreshed on every search with changes by any process.

Changes come from the store; a snapshot is the starting point if there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ravlm.errors import Mismatch
from ravlm.files import disk_errors
from ravlm.knowledge.index import snapshot_builder, snapshots
from ravlm.knowledge.index.bm25 import KeywordIndex
from ravlm.knowledge.index.facets import FacetIndex
from ravlm.knowledge.index.source import IndexSource
from ravlm.knowledge.index.stored_fields import StoredFields
from ravlm.knowledge.index.tuning import Requirements
from ravlm.knowledge.index.vector_index import VectorIndexes
from ravlm.knowledge.records import Identity, StoreState
from ravlm.knowledge.reports import Trial, TuneReport


class IndexCache:
    """Vectors, keywords and facets of `store`, on top of a snapshot in `derived` if there is one.

    Each index is opened on first use. Every method returns it in the state that the current
    `store.reading()` sees.
    """

    def __init__(self, store: IndexSource, identity: Identity, derived: Path) -> None:
        self.store = store
        self.identity = identity
        self.derived = derived
        self._vectors: VectorIndexes | None = None
        self._keywords: KeywordIndex | None = None
        self._facets: FacetIndex | None = None
        self._stored_fields: StoredFields | None = None
        self._derived_mtime = 0
        self._snapshot_change = 0

    def vectors(self) -> VectorIndexes:
        """Return the vector indexes. Raises Mismatch if the base was re-encoded meanwhile."""
        with self.store.reading():
            state = self.store.state()
            self.check_same(state)
            self._use_newer_snapshot(state.change)
            indexes = self._vectors
            if indexes is None or indexes.change < state.purged:
                self.forget()
                indexes = self._read_snapshot(state.purged, state.change) or self._empty()
                self._snapshot_change = indexes.change
            self._vectors = None  # stays None if the update is interrupted halfway
            if indexes.change != state.change:
                removed = self.store.removed_since(indexes.change)
                rows = self.store.parts_after(indexes.last_part)
                tokens = self.store.tokens_after(indexes.last_part)
                indexes.update(rows, tokens, removed, state.change)
            self._vectors = indexes
            return indexes

    def check_same(self, state: StoreState) -> None:
        """Raise Mismatch if the base was re-encoded since it was opened."""
        if state.identity != self.identity:
            raise Mismatch(
                f'The knowledge base "{self.store.folder}" was re-encoded with '
                f'"{state.identity.encoder}" while it was open here. Open it again.'
            )

    def keywords(self) -> KeywordIndex:
        """Return the keyword index of all text parts."""
        with self.store.reading():
            vectors = self.vectors()
            keywords = self._keywords
            if keywords is None or keywords.change < self.store.state().purged:
                keywords = snapshots.read_keywords(vectors.snapshot)
            self._keywords = None
            if keywords.change != vectors.change:
                removed = self.store.removed_since(keywords.change)
                rows = self.store.words_after(keywords.last_part)
                keywords.update(rows, removed, vectors.change)
            self._keywords = keywords
            return keywords

    def facets(self) -> FacetIndex:
        """Return the facets of all entries."""
        with self.store.reading():
            vectors = self.vectors()
            facets = self._facets or snapshots.read_facets(vectors.snapshot)
            self._facets = None
            facets.update(*self.store.facets_after(facets.last))
            self._facets = facets
            return facets

    def stored_fields(self) -> StoredFields:
        """Return the stored fields in the snapshot; newer entries must be read from the store."""
        if self._stored_fields is None:
            self._stored_fields = snapshots.read_fields(self.vectors().snapshot)
        return self._stored_fields

    def save(self) -> None:
        """Write a snapshot of the current state and search it from now on."""
        with disk_errors(self.derived):
            snapshot_builder.write(self.store, self.derived, self.identity)
        self.forget()
        self.vectors()

    def tune(self, requirements: Requirements, progress: Callable[[Trial], None]) -> TuneReport:
        """Write a snapshot with the best index for `requirements`, and remember its kind."""
        with disk_errors(self.derived):
            report, kind = snapshot_builder.tune(
                self.store, self.derived, self.identity, requirements, progress
            )
        self.store.choose_index(kind, requirements.recall)
        self.forget()
        self.vectors()
        return report

    def forget(self) -> None:
        """Drop everything: the next search starts from the newest snapshot, or from the store."""
        self._vectors = None
        self._keywords = None
        self._facets = None
        self._stored_fields = None

    def _use_newer_snapshot(self, change: int) -> None:
        """Switch to a snapshot that another process wrote, unless it is newer than `change`."""
        try:
            mtime = self.derived.stat().st_mtime_ns
        except OSError:
            return
        if mtime == self._derived_mtime:
            return
        covered = snapshots.covered_change(self.derived)
        if covered <= change:
            self._derived_mtime = mtime
            if covered > self._snapshot_change:
                self.forget()

    def _empty(self) -> VectorIndexes:
        identity = self.identity
        return VectorIndexes(identity.dim, self.store.canaries(), identity.is_multi_vector)

    def _read_snapshot(self, oldest: int, newest: int) -> VectorIndexes | None:
        """Return the newest snapshot with the same history as the store.

        A copied store may have replaced the one that a snapshot was made of: then the checksums of
        the newest parts differ.
        """
        indexes = snapshots.read(self.derived, self._empty, self.identity.base, newest, oldest)
        if indexes is None or indexes.snapshot is None:
            return None
        removed = set(self.store.removed_since(indexes.change))
        for part, checksum in snapshots.read_checksums(indexes.snapshot):
            if part not in removed and self.store.checksum(part) != checksum:
                return None
        return indexes
