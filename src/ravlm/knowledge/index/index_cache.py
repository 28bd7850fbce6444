"""The indexes of an open base, kept fresh: at each search they take over what was committed since,
by whomever.

Knows how the store tells its changes and where snapshots lie; knows no queries.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ravlm.errors import Mismatch
from ravlm.knowledge.index import snapshot_builder, snapshots
from ravlm.knowledge.index.bm25 import KeywordIndex
from ravlm.knowledge.index.facets import FacetIndex
from ravlm.knowledge.index.source import IndexSource
from ravlm.knowledge.index.stored_fields import Cards
from ravlm.knowledge.index.tuning import Requirements
from ravlm.knowledge.index.vector_index import VectorIndexes
from ravlm.knowledge.records import Identity, StoreState
from ravlm.knowledge.reports import Trial, TuneReport


class IndexCache:
    """Vectors, words and facets of `store` in memory, over a snapshot in `derived` where there is
    one.

    Each is made or opened when it is first asked for.
    """

    def __init__(self, store: IndexSource, identity: Identity, derived: Path) -> None:
        self.store, self.identity, self.derived = store, identity, derived
        self._index: VectorIndexes | None = None
        self._words: KeywordIndex | None = None
        self._facets: FacetIndex | None = None
        self._cards: Cards | None = None
        self._seen = self._covered = 0

    def vectors(self) -> VectorIndexes:
        """The vectors in the state that the current `reading()` sees. Raises Mismatch after a
        re-encoding."""
        with self.store.reading():
            state = self.store.state()
            self.check_same(state)
            self._look_for_a_newer_snapshot(state.change)
            index = self._index
            if index is None or index.change < state.purged:
                self.forget()
                index = self._snapshot(state.purged, state.change) or self._empty()
                self._covered = index.change
            self._index = None  # stays so where the following is interrupted
            if index.change != state.change:
                removed = self.store.removed_since(index.change)
                index.update(self.store.parts_after(index.last_part), removed, state.change)
            self._index = index
            return index

    def check_same(self, state: StoreState) -> None:
        """Raise Mismatch where that is the state of a base that was re-encoded since it was
        opened."""
        if state.identity != self.identity:
            raise Mismatch(
                f'The knowledge base "{self.store.folder}" was re-encoded with "{state.identity.encoder}" while it was '
                "open here; open it again."
            )

    def keywords(self) -> KeywordIndex:
        """The words of all text parts, in the same state."""
        with self.store.reading():
            index = self.vectors()
            words = self._words
            if words is None or words.change < self.store.state().purged:
                words = snapshots.read_words(index.snapshot)
            self._words = None
            if words.change != index.change:
                removed = self.store.removed_since(words.change)
                words.update(self.store.words_after(words.last_part), removed, index.change)
            self._words = words
            return words

    def facets(self) -> FacetIndex:
        """The facets of all entries, in the same state."""
        with self.store.reading():
            index = self.vectors()
            facets = self._facets or snapshots.read_facets(index.snapshot)
            self._facets = None
            facets.update(*self.store.facets_after(facets.last))
            self._facets = facets
            return facets

    def stored_fields(self) -> Cards:
        """What the snapshot knows of entries to show."""
        if self._cards is None:
            self._cards = snapshots.read_cards(self.vectors().snapshot)
        return self._cards

    def save(self) -> None:
        """Write a snapshot of the present state, and search it from now on."""
        snapshot_builder.write(self.store, self.derived, self.identity)
        self.forget()
        self.vectors()

    def tune(self, wishes: Requirements, told: Callable[[Trial], None]) -> TuneReport:
        """Write a snapshot with the index that does best what is wished, and remember its kind."""
        report, kind = snapshot_builder.tune(
            self.store, self.derived, self.identity, wishes, told
        )
        self.store.choose_index(kind, wishes.recall)
        self.forget()
        self.vectors()
        return report

    def forget(self) -> None:
        """Start anew at the next search: from the newest snapshot, or from the store."""
        self._index = self._words = self._facets = self._cards = None

    def _look_for_a_newer_snapshot(self, change: int) -> None:
        """Begin anew from one that another process has written, if it is not newer than what
        `reading()` sees."""
        try:
            now = self.derived.stat().st_mtime_ns
        except OSError:
            return
        if now != self._seen:
            covered = snapshots.covered_change(self.derived)
            if covered <= change:
                self._seen = now
                if covered > self._covered:
                    self.forget()

    def _empty(self) -> VectorIndexes:
        return VectorIndexes(self.identity.dim, self.store.canaries())

    def _snapshot(self, oldest: int, newest: int) -> VectorIndexes | None:
        """The newest snapshot, unless it tells another history than the store (which a copy may
        have replaced)."""
        index = snapshots.read(self.derived, self._empty, self.identity.base, newest, oldest)
        if index is None or index.snapshot is None:
            return None
        gone = set(self.store.removed_since(index.change))
        for part, checksum in snapshots.checksums(index.snapshot):
            if part not in gone and self.store.checksum(part) != checksum:
                return None
        return index
