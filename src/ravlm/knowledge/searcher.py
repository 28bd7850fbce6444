"""The search interface of a backend: a point-in-time view of a base."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ravlm.data.page_text import all_texts
from ravlm.encoders.token_vectors import TokenVectors
from ravlm.knowledge.candidates import Candidates, Ranking
from ravlm.knowledge.index.analyzer import index_words
from ravlm.records import MODALITIES, Entry, Modality, Part
from ravlm.search.filters import Filter, StoredValue, facets

Selector: TypeAlias = Any
"""The entries that a search may return, in a backend's own form; None for all entries."""


class Searcher(ABC):
    """One consistent state of a base, for one search.

    Parts and entries are numbers that are valid only within this searcher.
    """

    max_candidates: int | None = None
    """Maximum number of candidates per query; None for no limit."""

    @property
    def modalities(self) -> Sequence[Modality]:
        """Modalities that may have parts."""
        return MODALITIES

    def one_part_per_entry(self, modality: Modality) -> bool:
        """Return True if no entry is known to have two parts of this modality."""
        return False

    @abstractmethod
    def select(self, where: Filter | None, exclude_ids: Sequence[str] = ()) -> Selector:
        """Return a selector of the entries that pass `where`, without `exclude_ids`."""

    @abstractmethod
    def exclude(self, selector: Selector, entries: np.ndarray) -> Selector:
        """Return the selector without the given entry numbers (n,)."""

    @abstractmethod
    def nearest(
        self, modality: Modality, vectors: np.ndarray, n: int, selector: Selector
    ) -> list[Candidates]:
        """Return the n nearest parts of each vector (q, dim); scores are cosines, best first."""

    @abstractmethod
    def keyword_search(self, text: str, n: int, selector: Selector) -> Candidates:
        """Return the n best text parts for the words of `text`; scores are BM25, best first.

        Each entry occurs once.
        """

    @abstractmethod
    def sample(self, modality: Modality) -> np.ndarray:
        """Return vectors (n, dim) that represent a modality, including its canaries."""

    @abstractmethod
    def vectors(self, parts: np.ndarray) -> tuple[list[Modality], np.ndarray]:
        """Return the modality of each part and the stored vectors, float32 (n, dim)."""

    @abstractmethod
    def read(self, parts: np.ndarray, entries: np.ndarray) -> tuple[list[Entry], list[Part]]:
        """Return what hits show of each part; `entries` are the parts' entry numbers."""

    def has_words(self, ranking: Ranking) -> np.ndarray:
        """Return which entries have words, so that keyword search can return them: bool (n,)."""
        entries, _ = self.read(ranking.parts, ranking.entries)
        return np.array([any(map(index_words, all_texts(entry))) for entry in entries], bool)

    def metadata_values(self, ranking: Ranking, key: str) -> list[tuple[int, StoredValue] | None]:
        """Return each entry's value for a metadata key as (kind, value); None if it has none.

        Of several values the smallest counts.
        """
        entries, _ = self.read(ranking.parts, ranking.entries)
        values = []
        for entry in entries:
            of_key = [(kind, value) for path, kind, value in facets(entry.metadata) if path == key]
            values.append(min(of_key) if of_key else None)
        return values


class MultiVectorSearcher(Searcher):
    """A state of a base whose parts may have several vectors, compared by MaxSim.

    Queries (t, dim) are what `ravlm.search.maxsim.weighted_query` returns. The other methods know
    the direction of the mean of a part's vectors.
    """

    @abstractmethod
    def nearest_by_tokens(
        self, modality: Modality, query: np.ndarray, n: int, selector: Selector
    ) -> Candidates:
        """Return the n best parts for a query (t, dim); scores are MaxSim, best first."""

    @abstractmethod
    def token_vectors(self, parts: np.ndarray) -> TokenVectors:
        """Return the stored vectors of the tokens of parts."""

    @abstractmethod
    def token_sample(self, modality: Modality) -> TokenVectors:
        """Return the token vectors of parts that represent a modality."""
