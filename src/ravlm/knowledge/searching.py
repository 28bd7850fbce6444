"""From queries to hits: candidates of the indexes, brought to one scale, fused, thinned out, and read from the store.

Each search sees one state of the store. Knows no encoder: queries come as vectors and words.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import numpy as np

from ravlm.data.batches import batched
from ravlm.knowledge import keywords
from ravlm.knowledge.queries import Query
from ravlm.knowledge.store import Store
from ravlm.knowledge.vectors import NOTHING, Index, Kept, Ranking, merged
from ravlm.records import Hit, Modality
from ravlm.retrieval.filters import AllOf, Compare, Filter, Not
from ravlm.retrieval.options import SearchOptions
from ravlm.retrieval.ranks import diversify, first_of_each, fuse_ranks
from ravlm.retrieval.scale import Chance, chance, compose, rescale, take_turns

LEAST_CANDIDATES = 32


class Searching:
    """One search over one state: `db` is the store's connection within `reading()`, `index` covers what it sees."""

    def __init__(
        self, store: Store, db: sqlite3.Connection, index: Index, modalities: Sequence[Modality], options: SearchOptions
    ) -> None:
        self.store, self.db, self.index, self.options = store, db, index, options
        self.modalities = [modality for modality in modalities if len(index.of[modality])]
        self.most = sum(len(index.of[modality]) for modality in self.modalities)

    def hits(self, queries: Sequence[Query], k: int, where: Filter | None) -> list[list[Hit]]:
        """The hits of each query. Candidates are looked for until k are found or there are no more."""
        kept = self._kept(where)
        if not self.most:
            return [[] for _ in queries]
        found, wanted = [NOTHING] * len(queries), k + self.options.offset
        own_kept = [self._without_duplicates(query, kept) for query in queries]
        open_, n = list(range(len(queries))), max(LEAST_CANDIDATES, wanted * self.options.overfetch)
        while open_:
            rankings = self._candidates([queries[at] for at in open_], n, [own_kept[at] for at in open_])
            for at, ranking in zip(open_, rankings, strict=True):
                found[at] = self._chosen(ranking, wanted)
            open_ = [at for at in open_ if len(found[at].parts) < wanted] if n < self.most else []
            n *= 4
        return self._read([Ranking(*(column[self.options.offset :] for column in ranking)) for ranking in found])

    # which entries may be found

    def _kept(self, where: Filter | None) -> Kept:
        tests: list[Filter] = [] if where is None else [where]
        if self.options.exclude_groups:
            tests.append(Not(Compare("group", "in", self.options.exclude_groups)))
        allowed = self.store.numbers(AllOf(tuple(tests))) if tests else None
        excluded = None
        if self.options.exclude_ids:
            numbers = [number for number, _ in self.store.digests(self.options.exclude_ids).values()]
            excluded = np.array(sorted(numbers), np.int64)
        return Kept(allowed, excluded)

    def _without_duplicates(self, query: Query, kept: Kept) -> Kept:
        """Leave out entries with a part that is nearly the query itself."""
        least = self.options.near_duplicate
        if least is None or not query.vectors:
            return kept
        near = [] if kept.excluded is None else [kept.excluded]
        for source, vector in query.vectors.items():
            for modality, index in self.index.of.items():
                if source not in ("vector", modality) or not len(index):
                    continue
                n = LEAST_CANDIDATES
                while len(ranking := index.search(vector[None], n)[0].scores) == n and ranking[-1] >= least:
                    n *= 4
                best = index.search(vector[None], n)[0]
                near.append(best.entries[best.scores >= least])
        return kept._replace(excluded=np.unique(np.concatenate(near))) if near else kept

    # candidates: one ranking of entries for each query

    def _candidates(self, queries: Sequence[Query], n: int, kept: Sequence[Kept]) -> list[Ranking]:
        if self.options.method == "keyword":
            return [self._keyword(query, n, some) for query, some in zip(queries, kept, strict=True)]
        dense = self._dense(queries, n, kept)
        if self.options.method == "dense":
            return dense
        by_words = [self._keyword(query, n, some) for query, some in zip(queries, kept, strict=True)]
        return [_fused(both) for both in zip(dense, by_words, strict=True)]

    def _keyword(self, query: Query, n: int, kept: Kept) -> Ranking:
        return _best_of_each(keywords.search(self.db, query.text, n, kept))

    def _dense(self, queries: Sequence[Query], n: int, kept: Sequence[Kept]) -> list[Ranking]:
        of_modality = []
        for modality in self.modalities:
            index = self.index.of[modality]
            vectors = np.stack([self._vector(query, modality) for query in queries])
            if all(some is kept[0] for some in kept):
                of_modality.append(index.search(vectors, n, kept[0]))
            else:
                each = zip(vectors, kept, strict=True)
                of_modality.append([index.search(vector[None], n, some)[0] for vector, some in each])
        return [self._together(query, found) for query, *found in zip(queries, *of_modality, strict=True)]

    def _vector(self, query: Query, modality: Modality) -> np.ndarray:
        vectors = list((query.vectors or {}).values())
        return vectors[0] if len(vectors) == 1 else compose(np.stack(vectors), self.index.of[modality].sample())

    def _together(self, query: Query, found: Sequence[Ranking]) -> Ranking:
        """One ranking of entries over all modalities that were looked through."""
        if len(found) == 1 or query.own is None:
            return _best_of_each(merged(found))
        there = self._chance(query, query.own)
        rankings = []
        for modality, ranking in zip(self.modalities, found, strict=True):
            if modality != query.own:
                scores = rescale(ranking.scores, self._chance(query, modality), there)
                ranking = ranking._replace(scores=scores)
            rankings.append(_best_of_each(ranking))
        order, scores = take_turns([ranking.scores for ranking in rankings])
        parts, entries = (np.concatenate(columns) for columns in list(zip(*rankings, strict=True))[:2])
        return _best_of_each(Ranking(parts[order], entries[order], scores))

    def _chance(self, query: Query, modality: Modality) -> Chance:
        return chance(self._vector(query, modality), self.index.of[modality].sample())

    # hits

    def _chosen(self, ranking: Ranking, wanted: int) -> Ranking:
        """Threshold, group, diversify; at most `wanted`."""
        options = self.options
        if options.min_score is not None:
            ranking = _picked(ranking, np.flatnonzero(ranking.scores >= options.min_score))
        if options.group_by is not None:
            ranking = _picked(ranking, np.array(first_of_each(self._groups(ranking)), np.int64))
        if options.diversity:
            ranking = _picked(ranking, np.arange(min(len(ranking.parts), wanted * options.overfetch)))
            order, values = diversify(ranking.scores, self._vectors(ranking.parts), wanted, options.diversity)
            return _picked(ranking, order)._replace(scores=values)
        return _picked(ranking, np.arange(min(len(ranking.parts), wanted)))

    def _groups(self, ranking: Ranking) -> list[tuple[int, str | int | float] | None]:
        """The value of `group_by` for each candidate's entry."""
        found: dict[int, tuple[int, str | int | float]] = {}
        for some in batched(ranking.entries.tolist(), 500):
            marks = ", ".join("?" * len(some))
            sql = f"SELECT entry, kind, value FROM facet WHERE key = ? AND entry IN ({marks})"  # noqa: S608
            for entry, kind, value in self.db.execute(sql, (self.options.group_by, *some)):
                found.setdefault(entry, (kind, value))
        return [found.get(entry) for entry in ranking.entries.tolist()]

    def _vectors(self, parts: np.ndarray) -> np.ndarray:
        return np.sum([self.index.of[modality].vectors(parts) for modality in self.index.of], axis=0)

    def _read(self, rankings: Sequence[Ranking]) -> list[list[Hit]]:
        stored = self.store.parts({part for ranking in rankings for part in ranking.parts.tolist()})
        return [
            [
                Hit(stored[part].entry, score, stored[part].part)
                for part, score in zip(ranking.parts.tolist(), ranking.scores.tolist(), strict=True)
            ]
            for ranking in rankings
        ]


def _picked(ranking: Ranking, rows: np.ndarray) -> Ranking:
    return Ranking(ranking.parts[rows], ranking.entries[rows], ranking.scores[rows])


def _best_of_each(ranking: Ranking) -> Ranking:
    """The best part of each entry."""
    _, first = np.unique(ranking.entries, return_index=True)
    return _picked(ranking, np.sort(first))


def _fused(rankings: Sequence[Ranking]) -> Ranking:
    """Rankings of entries as one, by reciprocal ranks; an entry shows its part of the first ranking that has it."""
    part_of: dict[int, int] = {}
    for ranking in rankings:
        for entry, part in zip(ranking.entries.tolist(), ranking.parts.tolist(), strict=True):
            part_of.setdefault(entry, part)
    order = fuse_ranks([ranking.entries.tolist() for ranking in rankings])
    entries = np.array([entry for entry, _ in order], np.int64)
    parts = np.array([part_of[entry] for entry, _ in order], np.int64)
    return Ranking(parts, entries, np.array([score for _, score in order], np.float32))
