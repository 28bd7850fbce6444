"""Search a base in a folder: its state within one reading transaction, with the indexes for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np

from ravlm.encoders.token_vectors import TokenVectors
from ravlm.knowledge.candidates import Candidates, Ranking, best_part_per_entry
from ravlm.knowledge.images import resolve_image
from ravlm.knowledge.index.analyzer import query_words
from ravlm.knowledge.index.index_cache import IndexCache
from ravlm.knowledge.index.maxsim_index import search_depth
from ravlm.knowledge.index.stored_fields import IMAGE_POSITION, NO_POSITION
from ravlm.knowledge.index.vector_index import decode_tokens
from ravlm.knowledge.local.sql import select_in
from ravlm.knowledge.local.store import SqliteStore
from ravlm.knowledge.searcher import MultiVectorSearcher, Selector
from ravlm.records import Entry, Modality, Part
from ravlm.search.filters import Filter, StoredValue
from ravlm.search.maxsim import maxsim

IMAGE_PART = Part("image")


class LocalSearcher(MultiVectorSearcher):
    """The store's state within `reading()`, whose connection is `db`.

    Selectors are boolean arrays by entry number, (last number + 1,).
    """

    def __init__(self, store: SqliteStore, indexes: IndexCache, db: sqlite3.Connection) -> None:
        self.store = store
        self.indexes = indexes
        self.db = db
        self.vector_indexes = indexes.vectors()

    @property
    def modalities(self) -> Sequence[Modality]:
        """Modalities that have parts."""
        by_modality = self.vector_indexes.by_modality
        return [modality for modality, index in by_modality.items() if len(index)]

    def one_part_per_entry(self, modality: Modality) -> bool:
        """Return True if no entry has two parts of this modality."""
        return self.vector_indexes.by_modality[modality].one_part_per_entry

    def select(self, where: Filter | None, exclude_ids: Sequence[str] = ()) -> Selector:
        """Return which entries may be returned; None for all."""
        mask = None if where is None else self.indexes.facets().entry_mask(where)
        excluded = np.array(list(self.store.numbers(exclude_ids).values()), np.int64)
        return self.exclude(mask, excluded)

    def exclude(self, selector: Selector, entries: np.ndarray) -> Selector:
        """Return the selector without these entries."""
        if not len(entries):
            return selector
        mask = np.ones(self.store.last_entry() + 1, bool) if selector is None else selector.copy()
        mask[entries] = False
        return mask

    def nearest(
        self, modality: Modality, vectors: np.ndarray, n: int, selector: Selector
    ) -> list[Candidates]:
        """Return the n nearest parts of each vector (q, dim)."""
        rankings = self.vector_indexes.by_modality[modality].search(vectors, n, selector)
        return [Candidates(ranking, len(ranking.parts) < n) for ranking in rankings]

    def nearest_by_tokens(
        self, modality: Modality, query: np.ndarray, n: int, selector: Selector
    ) -> Candidates:
        """Return the n best parts for a query (t, dim): the best codes, ordered by their vectors in
        the store."""
        index = self.vector_indexes.by_modality[modality]
        ranking = index.search_tokens(query, search_depth(n), selector)
        tokens = self.token_vectors(ranking.parts)
        scores = np.minimum(maxsim(query, tokens.vectors, tokens.starts), 1.0)
        best = ranking._replace(scores=scores).take(np.lexsort((ranking.parts, -scores))[:n])
        return Candidates(best, exhausted=len(ranking.parts) < n)

    def token_vectors(self, parts: np.ndarray) -> TokenVectors:
        """Return the stored vectors of the tokens of parts. Raises DamagedBase."""
        stored = self.store.tokens(parts.tolist())
        blobs = [stored.get(part, b"") for part in parts.tolist()]
        return decode_tokens(blobs, self.vector_indexes.dim)

    def token_sample(self, modality: Modality) -> TokenVectors:
        """Return the token vectors of evenly spaced parts."""
        return self.vector_indexes.by_modality[modality].token_sample()

    def keyword_search(self, text: str, n: int, selector: Selector) -> Candidates:
        """Return the n best text parts for the words of `text`."""
        ranking = self.indexes.keywords().search(query_words(text), n, selector)
        return Candidates(best_part_per_entry(ranking), len(ranking.parts) < n)

    def sample(self, modality: Modality) -> np.ndarray:
        """Return the canaries and evenly spaced vectors."""
        return self.vector_indexes.by_modality[modality].sample()

    def vectors(self, parts: np.ndarray) -> tuple[list[Modality], np.ndarray]:
        """Return the modality of each part and the stored vectors, float32 (n, dim)."""
        numbers = parts.tolist()
        stored = self.store.vectors(numbers)
        modalities = [stored[number][0] for number in numbers]
        vectors = np.array([stored[number][1] for number in numbers], np.float32)
        return modalities, vectors.reshape(len(numbers), self.vector_indexes.dim)

    def has_words(self, ranking: Ranking) -> np.ndarray:
        """Return which entries have words, so that keyword search can return them: bool (n,)."""
        sql = "SELECT DISTINCT entry FROM part WHERE entry IN ({}) AND words <> ''"
        with_words = {entry for (entry,) in select_in(self.db, sql, ranking.entries.tolist())}
        return np.array([entry in with_words for entry in ranking.entries.tolist()], bool)

    def metadata_values(self, ranking: Ranking, key: str) -> list[tuple[int, StoredValue] | None]:
        """Return each entry's value for a metadata key; of several the smallest."""
        sql = "SELECT entry, key, kind, value FROM facet WHERE entry IN ({}) ORDER BY kind, value"
        values: dict[int, tuple[int, StoredValue]] = {}
        for entry, of_key, kind, value in select_in(self.db, sql, ranking.entries.tolist()):
            if of_key == key:
                values.setdefault(entry, (kind, value))
        return [values.get(entry) for entry in ranking.entries.tolist()]

    def read(self, parts: np.ndarray, entries: np.ndarray) -> tuple[list[Entry], list[Part]]:
        """Return what hits show: from the snapshot's stored fields, newer rows from the store."""
        fields = self.indexes.stored_fields()
        positions = fields.position(parts)
        if (positions == NO_POSITION).any():
            return self._read_from_store(parts)
        try:
            ids, images, texts, metadata = fields.read(entries)
        except ValueError:  # the checksum of a large file is not checked when it is opened
            return self._read_from_store(parts)
        if any(images):
            images = [resolve_image(image, self.store.folder) for image in images]
        hit_entries = list(map(Entry, ids, images, texts, metadata))
        matched = [
            IMAGE_PART
            if position == IMAGE_POSITION
            else Part("text", position, of_entry[position] if position < len(of_entry) else "")
            for position, of_entry in zip(positions.tolist(), texts, strict=True)
        ]
        return hit_entries, matched

    def _read_from_store(self, parts: np.ndarray) -> tuple[list[Entry], list[Part]]:
        stored = self.store.parts(dict.fromkeys(parts.tolist()))
        pairs = [stored[part] for part in parts.tolist()]
        return [entry for entry, _ in pairs], [part for _, part in pairs]
