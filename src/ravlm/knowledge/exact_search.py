"""Exact search over rows in memory: the default of a backend without indexes of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np

from ravlm.encoders.token_vectors import TokenVectors
from ravlm.knowledge.candidates import Candidates, Ranking, best_part_per_entry
from ravlm.knowledge.entry_store import decode_vector, to_entry
from ravlm.knowledge.index.analyzer import query_words
from ravlm.knowledge.index.bm25 import KeywordIndex
from ravlm.knowledge.index.faiss_index import evenly_spaced
from ravlm.knowledge.index.vector_index import decode_tokens
from ravlm.knowledge.records import MODALITY_BY_CODE, MODALITY_CODES, EntryRow, hit_part
from ravlm.knowledge.searcher import MultiVectorSearcher, Selector
from ravlm.records import Entry, Modality, Part
from ravlm.search.filters import Filter, matches
from ravlm.search.maxsim import maxsim

SAMPLE_SIZE = 512
"""Vectors that represent a modality."""


class ExactSearcher(MultiVectorSearcher):
    """Compares a query with every vector. Selectors are boolean arrays over entries."""

    def __init__(self, rows: Iterable[EntryRow], canaries: Mapping[Modality, np.ndarray]) -> None:
        self._rows = list(rows)
        self._canaries = canaries
        self._entries = [to_entry(row) for row in self._rows]
        self._parts = [part for row in self._rows for part in row.parts]
        part_counts = [len(row.parts) for row in self._rows]
        self._owners = np.repeat(np.arange(len(self._rows)), part_counts)  # (parts,)
        self._codes = np.array([MODALITY_CODES[part.modality] for part in self._parts], np.int64)
        dim = canaries["text"].shape[1]
        vectors = [decode_vector(part.vector) for part in self._parts]
        self._vectors = np.array(vectors, np.float32).reshape(len(vectors), dim)

    @cached_property
    def _keywords(self) -> KeywordIndex:
        index = KeywordIndex()
        texts = [
            (number, int(self._owners[number]), part.words)
            for number, part in enumerate(self._parts)
            if part.words is not None
        ]
        index.update(texts, [], 1)
        return index

    def select(self, where: Filter | None, exclude_ids: Sequence[str] = ()) -> Selector:
        """Return which entries pass, bool (entries,)."""
        excluded = set(exclude_ids)
        passes = [
            entry.id not in excluded and (where is None or matches(where, entry.metadata))
            for entry in self._entries
        ]
        return np.array(passes, bool)

    def exclude(self, selector: Selector, entries: np.ndarray) -> Selector:
        """Return the selector without these entries."""
        mask = np.ones(len(self._rows), bool) if selector is None else selector.copy()
        mask[entries] = False
        return mask

    def nearest(
        self, modality: Modality, vectors: np.ndarray, n: int, selector: Selector
    ) -> list[Candidates]:
        """Return the n nearest parts of each vector (q, dim)."""
        parts = self._selected(modality, selector)  # (m,)
        scores = np.minimum(vectors @ self._vectors[parts].T, 1.0)  # (q, m)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :n]
        return [
            Candidates(
                Ranking(parts[best], self._owners[parts[best]], query_scores[best]),
                exhausted=len(best) < n,
            )
            for query_scores, best in zip(scores, order, strict=True)
        ]

    def _selected(self, modality: Modality, selector: Selector) -> np.ndarray:
        """Return the parts of a modality that may be found, (m,)."""
        mask = self._codes == MODALITY_CODES[modality]  # (parts,)
        if selector is not None:
            mask &= selector[self._owners]
        return np.flatnonzero(mask)

    def nearest_by_tokens(
        self, modality: Modality, query: np.ndarray, n: int, selector: Selector
    ) -> Candidates:
        """Return the n best parts for a query (t, dim)."""
        parts = self._selected(modality, selector)
        tokens = self.token_vectors(parts)
        scores = np.minimum(maxsim(query, tokens.vectors, tokens.starts), 1.0)
        best = np.argsort(-scores, kind="stable")[:n]
        ranking = Ranking(parts[best], self._owners[parts[best]], scores[best])
        return Candidates(ranking, exhausted=len(best) < n)

    def token_vectors(self, parts: np.ndarray) -> TokenVectors:
        """Return the vectors of the tokens of parts. Raises DamagedBase."""
        dim = self._vectors.shape[1]
        return decode_tokens([self._parts[part].tokens or b"" for part in parts.tolist()], dim)

    def token_sample(self, modality: Modality) -> TokenVectors:
        """Return the token vectors of evenly spaced parts."""
        return self.token_vectors(self._evenly_spaced(modality))

    def keyword_search(self, text: str, n: int, selector: Selector) -> Candidates:
        """Return the n best text parts for the words of `text`."""
        ranking = self._keywords.search(query_words(text), n, selector)
        return Candidates(best_part_per_entry(ranking), exhausted=len(ranking.parts) < n)

    def sample(self, modality: Modality) -> np.ndarray:
        """Return the canaries and evenly spaced vectors."""
        parts = self._evenly_spaced(modality)
        return np.concatenate([self._canaries[modality], self._vectors[parts]])

    def _evenly_spaced(self, modality: Modality) -> np.ndarray:
        parts = self._selected(modality, None)
        return parts[evenly_spaced(len(parts), SAMPLE_SIZE)]

    def vectors(self, parts: np.ndarray) -> tuple[list[Modality], np.ndarray]:
        """Return the modality of each part and its vector."""
        modalities = [MODALITY_BY_CODE[code] for code in self._codes[parts].tolist()]
        return modalities, self._vectors[parts]

    def read(self, parts: np.ndarray, entries: np.ndarray) -> tuple[list[Entry], list[Part]]:
        """Return the entry and the matched part of each hit."""
        hit_entries = [self._entries[number] for number in entries.tolist()]
        rows = [self._parts[number] for number in parts.tolist()]
        matched = [
            hit_part(entry, row.modality, row.position, row.passage)
            for entry, row in zip(hit_entries, rows, strict=True)
        ]
        return hit_entries, matched
