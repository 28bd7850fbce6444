"""A state of a base on Milvus, for one search: candidates of the server, brought to our numbers.

Parts and entries are numbered as they are met. A part counts only where its version is its entry's
(see `layout`), so each entry is seen whole, old or new; a search of several questions to the server
is not one state of all entries."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.knowledge.backend import Candidates, Limit, View
from ravlm.knowledge.candidates import EMPTY_RANKING, Ranking, best_part_per_entry
from ravlm.knowledge.index.analyzer import query_words
from ravlm.knowledge.index.bm25 import TermHashes
from ravlm.knowledge.records import hit_part
from ravlm.knowledge.milvus import schema
from ravlm.knowledge.milvus.client import MOST
from ravlm.knowledge.milvus.filters import EVERYWHERE, among, expression
from ravlm.knowledge.milvus.store import MilvusRows
from ravlm.records import MODALITIES, Entry, Modality, Part
from ravlm.search.filters import Filter, facets

_FIELDS = ("key", "entry", "version", "position", "passage")


class Seen(NamedTuple):
    """A part that was met: its row, and its entry's body."""

    modality: Modality
    key: str
    position: int
    passage: str | None
    body: Mapping[str, Any]


class MilvusView(View):
    """What is met within one search. `sampled` gives vectors that stand for a modality."""

    most = MOST

    def __init__(self, rows: MilvusRows, sampled: Callable[[Modality], np.ndarray]) -> None:
        self.rows, self.connection, self.sampled = rows, rows.connection, sampled
        self._parts: list[Seen] = []
        self._numbers: dict[str, int] = {}
        self._entries: dict[str, int] = {}
        self._keys: list[str] = []
        self._bodies: dict[str, tuple[str, Mapping[str, Any]] | None] = {}

    @property
    def modalities(self) -> Sequence[Modality]:
        """All: the server is not asked."""
        return MODALITIES

    def one_each(self, modality: Modality) -> bool:
        """An entry has one picture; of texts it isn't known."""
        return modality == "image"

    def limit(self, where: Filter | None, without: Sequence[str] = ()) -> Limit:
        """The filter as the server reads it."""
        limit = None if where is None else expression(where)
        return _without(limit, [schema.entry_key(id_) for id_ in without])

    def narrowed(self, limit: Limit, entries: np.ndarray) -> Limit:
        """The same without these entries."""
        return _without(limit, [self._keys[entry] for entry in dict.fromkeys(entries.tolist())])

    def nearest(
        self, modality: Modality, vectors: np.ndarray, n: int, limit: Limit
    ) -> list[Candidates]:
        """The n best parts for each vector: cosines, best first."""
        collection, asked = self.rows.collections[modality], min(n, MOST)
        found = self.connection.search(
            collection, np.asarray(vectors, np.float32), asked, limit or "", _FIELDS
        )
        candidates = self._candidates(modality, found, asked)
        return [one._replace(ranking=one.ranking._replace(scores=np.minimum(one.ranking.scores, 1.0)))
                for one in candidates]  # fmt: skip

    def worded(self, text: str, n: int, limit: Limit) -> Candidates:
        """The n best text parts that have a word of `text`: the server's BM25, best first."""
        if not self.rows.kept.worded:
            raise InvalidInput(
                f'The server of "{self.connection.address.text}" is of the version {self.connection.version}, which '
                'has no search by words; it needs 2.5 or newer: use method="dense".'
            )
        words = schema.hashed_words(" ".join(query_words(text)), TermHashes())
        if not words:
            return Candidates(EMPTY_RANKING, True)
        asked = min(n, MOST)
        found = self.connection.search(
            self.rows.collections["text"], [words], asked, limit or "", _FIELDS
        )
        (candidates,) = self._candidates("text", found, asked)
        return candidates._replace(ranking=best_part_per_entry(candidates.ranking))

    def sample(self, modality: Modality) -> np.ndarray:
        """Vectors that stand for a modality, its canaries among them."""
        return self.sampled(modality)

    def vectors(self, parts: np.ndarray) -> tuple[list[Modality], np.ndarray]:
        """Modality of each part, and the stored vectors (n, dim)."""
        seen = [self._parts[part] for part in parts.tolist()]
        stored: dict[str, Any] = {}
        for modality in MODALITIES:
            keys = [part.key for part in seen if part.modality == modality]
            rows = self.rows.by_key(self.rows.collections[modality], keys, ("key", "vector"))
            stored |= {row["key"]: row["vector"] for row in rows}
        nothing = np.zeros(
            self.rows.kept.identity.dim, np.float32
        )  # of a part that was removed meanwhile
        vectors = [stored.get(part.key, nothing) for part in seen]
        return [part.modality for part in seen], np.array(vectors, np.float32).reshape(
            len(seen), len(nothing)
        )

    def values(self, entries: np.ndarray, key: str) -> list[tuple[int, str | int | float] | None]:
        """What each entry has under a metadata key, as (kind, value); of several the first in
        order."""
        found: list[tuple[int, str | int | float] | None] = []
        for entry in entries.tolist():
            kept = self._bodies[self._keys[entry]]
            assert kept is not None  # or it would have no number
            values = [
                (kind, value) for path, kind, value in facets(kept[1]["metadata"]) if path == key
            ]
            found.append(min(values) if values else None)
        return found

    def read(self, parts: np.ndarray, entries: np.ndarray) -> tuple[list[Entry], list[Part]]:
        """What hits show of each of these parts."""
        met = [self._parts[part] for part in parts.tolist()]
        shown = [self.rows.entry_of(seen.body) for seen in met]
        of_parts = [
            hit_part(e, seen.modality, seen.position, seen.passage)
            for e, seen in zip(shown, met, strict=True)
        ]
        return shown, of_parts

    def _candidates(
        self,
        modality: Modality,
        found: Sequence[Sequence[tuple[float, Mapping[str, Any]]]],
        asked: int,
    ) -> list[Candidates]:
        """Rankings of what the server found, without parts that don't count."""
        self._fetch({row["entry"] for hits in found for _, row in hits})
        made = []
        for hits in found:
            numbers = [(self._number(modality, row), row["entry"], score) for score, row in hits]
            good = [
                (part, self._entries[entry], score)
                for part, entry, score in numbers
                if part is not None
            ]
            parts, entries, scores = zip(*good, strict=True) if good else ((), (), ())
            ranking = Ranking(
                np.array(parts, np.int64), np.array(entries, np.int64), np.array(scores, np.float32)
            )
            made.append(Candidates(ranking, len(hits) < asked))
        return made

    def _fetch(self, keys: set[str]) -> None:
        """Read the entries of these keys that were not met before."""
        new = keys - self._bodies.keys()
        self._bodies |= dict.fromkeys(new)
        for row in self.rows.by_key(self.rows.entry, new, ("key", "version", "body")):
            self._bodies[row["key"]] = row["version"], json.loads(row["body"])

    def _number(self, modality: Modality, row: Mapping[str, Any]) -> int | None:
        """The number of a part; None where it doesn't count."""
        entry = row["entry"]
        kept = self._bodies[entry]
        if kept is None or kept[0] != row["version"]:
            return None
        if entry not in self._entries:
            self._entries[entry] = len(self._keys)
            self._keys.append(entry)
        if row["key"] not in self._numbers:
            self._numbers[row["key"]] = len(self._parts)
            self._parts.append(
                Seen(modality, row["key"], int(row["position"]), row["passage"] or None, kept[1])
            )
        return self._numbers[row["key"]]


def _without(limit: Limit, keys: Sequence[str]) -> Limit:
    if not keys:
        return limit
    return f"({limit or EVERYWHERE}) and not ({among('entry', keys)})"
