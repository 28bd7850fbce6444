"""Search a base on Milvus: candidates from the server, with numbers of our own.

Parts and entries are numbered in the order in which they are encountered. A part counts only if its
version is its entry's (see `schema`), so each entry is seen complete, old or new; a search with
several requests does not see one state of all entries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.knowledge.candidates import (
    EMPTY_RANKING,
    Candidates,
    Ranking,
    best_part_per_entry,
)
from ravlm.knowledge.index.analyzer import query_words
from ravlm.knowledge.index.terms import TermHashes
from ravlm.knowledge.milvus import schema
from ravlm.knowledge.milvus.client import MAX_ROWS, ScoredRow
from ravlm.knowledge.milvus.filters import ALL_ROWS, expression, one_of
from ravlm.knowledge.milvus.store import MilvusStore, parse_body
from ravlm.knowledge.records import hit_part
from ravlm.knowledge.searcher import Searcher, Selector
from ravlm.records import MODALITIES, Entry, Modality, Part
from ravlm.search.filters import Filter

_PART_FIELDS = ("key", "entry", "version", "position", "passage")


class MatchedPart(NamedTuple):
    """A part that a search encountered, with its entry's body."""

    modality: Modality
    key: str
    position: int
    passage: str | None
    body: Mapping[str, Any]


class EntryVersion(NamedTuple):
    """An entry's current version and body."""

    version: str
    body: Mapping[str, Any]


class MilvusSearcher(Searcher):
    """Everything encountered within one search. Selectors are Milvus expressions.

    `sample_vectors` returns vectors that represent a modality.
    """

    max_candidates = MAX_ROWS

    def __init__(
        self, store: MilvusStore, sample_vectors: Callable[[Modality], np.ndarray]
    ) -> None:
        self.store = store
        self.connection = store.connection
        self.sample_vectors = sample_vectors
        self._parts: list[MatchedPart] = []
        self._part_numbers: dict[str, int] = {}  # by key
        self._entry_keys: list[str] = []
        self._entry_numbers: dict[str, int] = {}  # by key
        self._entries: dict[str, EntryVersion | None] = {}  # by key; None: no longer exists

    def one_part_per_entry(self, modality: Modality) -> bool:
        """Return False: an entry may have several texts, and tiles of its image."""
        return False

    def select(self, where: Filter | None, exclude_ids: Sequence[str] = ()) -> Selector:
        """Return the filter as an expression."""
        selector = None if where is None else expression(where)
        return _without(selector, [schema.entry_key(id_) for id_ in exclude_ids])

    def exclude(self, selector: Selector, entries: np.ndarray) -> Selector:
        """Return the selector without these entries."""
        keys = [self._entry_keys[entry] for entry in dict.fromkeys(entries.tolist())]
        return _without(selector, keys)

    def nearest(
        self, modality: Modality, vectors: np.ndarray, n: int, selector: Selector
    ) -> list[Candidates]:
        """Return the n nearest parts of each vector (q, dim)."""
        limit = min(n, MAX_ROWS)
        results = self.connection.vector_search(
            self.store.part_collections[modality],
            np.asarray(vectors, np.float32),
            limit,
            selector or "",
            _PART_FIELDS,
        )
        clipped = [[(min(score, 1.0), row) for score, row in rows] for rows in results]
        return self._candidates(modality, clipped, limit)

    def keyword_search(self, text: str, n: int, selector: Selector) -> Candidates:
        """Return the n best text parts for the words of `text`, by the server's BM25."""
        if not self.store.descriptor.has_keywords:
            raise InvalidInput(
                f'The server of "{self.connection.address.text}" has version '
                f"{self.connection.version}, which has no keyword search (needs 2.5 or newer); "
                'use method="dense".'
            )
        hashes = TermHashes()
        words = schema.term_text(hashes.query_terms(query_words(text), hashes.markers))
        if not words:
            return Candidates(EMPTY_RANKING, exhausted=True)
        limit = min(n, MAX_ROWS)
        rows = self.connection.keyword_search(
            self.store.part_collections["text"], words, limit, selector or "", _PART_FIELDS
        )
        (candidates,) = self._candidates("text", [rows], limit)
        return candidates._replace(ranking=best_part_per_entry(candidates.ranking))

    def sample(self, modality: Modality) -> np.ndarray:
        """Return vectors that represent a modality, including its canaries."""
        return self.sample_vectors(modality)

    def vectors(self, parts: np.ndarray) -> tuple[list[Modality], np.ndarray]:
        """Return the modality of each part and the stored vectors (n, dim).

        The vector of a part that was removed meanwhile is zero.
        """
        matched = [self._parts[part] for part in parts.tolist()]
        stored: dict[str, Any] = {}
        for modality in MODALITIES:
            keys = [part.key for part in matched if part.modality == modality]
            collection = self.store.part_collections[modality]
            rows = self.store.rows_by_key(collection, keys, ("key", "vector"))
            stored |= {row["key"]: row["vector"] for row in rows}
        missing = np.zeros(self.store.descriptor.identity.dim, np.float32)
        vectors = np.array([stored.get(part.key, missing) for part in matched], np.float32)
        return [part.modality for part in matched], vectors.reshape(len(matched), len(missing))

    def read(self, parts: np.ndarray, entries: np.ndarray) -> tuple[list[Entry], list[Part]]:
        """Return what hits show of each part."""
        matched = [self._parts[part] for part in parts.tolist()]
        shown_entries = [self.store.to_entry(part.body) for part in matched]
        shown_parts = [
            hit_part(entry, part.modality, part.position, part.passage)
            for entry, part in zip(shown_entries, matched, strict=True)
        ]
        return shown_entries, shown_parts

    def _candidates(
        self, modality: Modality, results: Sequence[Sequence[ScoredRow]], limit: int
    ) -> list[Candidates]:
        """Return rankings of the server's results, without parts that do not count."""
        self._fetch_entries({row["entry"] for rows in results for _, row in rows})
        return [
            Candidates(self._ranking(modality, rows), exhausted=len(rows) < limit)
            for rows in results
        ]

    def _ranking(self, modality: Modality, rows: Sequence[ScoredRow]) -> Ranking:
        parts, entries, scores = [], [], []
        for score, row in rows:
            part = self._part_number(modality, row)
            if part is not None:
                parts.append(part)
                entries.append(self._entry_numbers[row["entry"]])
                scores.append(score)
        return Ranking(
            np.array(parts, np.int64), np.array(entries, np.int64), np.array(scores, np.float32)
        )

    def _fetch_entries(self, keys: set[str]) -> None:
        """Read the entries of these keys that were not read before."""
        unread = keys - self._entries.keys()
        self._entries |= dict.fromkeys(unread)
        fields = ("key", "version", "body")
        for row in self.store.rows_by_key(self.store.entry_collection, unread, fields):
            self._entries[row["key"]] = EntryVersion(row["version"], parse_body(row))

    def _part_number(self, modality: Modality, row: Mapping[str, Any]) -> int | None:
        """Return the number of a part; None if it does not count."""
        entry_key, key = row["entry"], row["key"]
        entry = self._entries[entry_key]
        if entry is None or entry.version != row["version"]:
            return None
        if entry_key not in self._entry_numbers:
            self._entry_numbers[entry_key] = len(self._entry_keys)
            self._entry_keys.append(entry_key)
        if key not in self._part_numbers:
            self._part_numbers[key] = len(self._parts)
            passage = row["passage"] or None
            part = MatchedPart(modality, key, int(row["position"]), passage, entry.body)
            self._parts.append(part)
        return self._part_numbers[key]


def _without(selector: Selector, keys: Sequence[str]) -> Selector:
    if not keys:
        return selector
    return f"({selector or ALL_ROWS}) and not ({one_of('entry', keys)})"
