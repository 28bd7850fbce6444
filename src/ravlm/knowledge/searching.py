"""From queries to hits: candidates of the indexes, brought to one scale, fused, reranked, thinned out, and read.

Each search sees one state of the store. Knows no encoder: queries come as vectors and words.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ravlm.data.batches import batched
from ravlm.knowledge.keywords import query_words
from ravlm.knowledge.live import LiveIndex
from ravlm.knowledge.queries import Query
from ravlm.knowledge.rankings import NOTHING, Ranking, best_of_each, merged
from ravlm.knowledge.store import Store
from ravlm.records import Hit, Modality
from ravlm.retrieval.filters import AllOf, Compare, Filter, Not
from ravlm.retrieval.options import SearchOptions
from ravlm.retrieval.ranks import diversify, first_of_each, fuse_ranks
from ravlm.retrieval.rerank import Asked, Rerank, rerank_scores
from ravlm.retrieval.scale import Chance, chance, compose, rescale, take_turns

LEAST_CANDIDATES = 32


class Candidates(NamedTuple):
    """Entries that may become hits. `all_there`: nothing else passes."""

    ranking: Ranking
    all_there: bool


class Searching:
    """One search over one state: `db` is the store's connection within `reading()`, which `live` covers."""

    def __init__(
        self, store: Store, db: sqlite3.Connection, live: LiveIndex, modalities: Sequence[Modality],
        options: SearchOptions,
    ) -> None:  # fmt: skip
        self.store, self.db, self.live, self.index, self.options = store, db, live, live.fresh(), options
        self.modalities = [modality for modality in modalities if len(self.index.of[modality])]

    def hits(self, queries: Sequence[Query], k: int, where: Filter | None) -> list[list[Hit]]:
        """The hits of each query. Candidates are looked for until k are found or there are no more."""
        if not self.modalities:
            return [[] for _ in queries]
        passes = self._passes(where)
        found, wanted = [NOTHING] * len(queries), k + self.options.offset
        own = [self._without_duplicates(query, passes) for query in queries]
        open_, n = list(range(len(queries))), self._candidates_wanted(wanted)
        while open_:
            rankings = self._candidates([queries[at] for at in open_], n, [own[at] for at in open_])
            short = []
            for at, candidates in zip(open_, rankings, strict=True):
                found[at] = self._chosen(queries[at], candidates.ranking, wanted)
                if len(found[at].parts) < wanted and not self._nothing_more(candidates, wanted):
                    short.append(at)
            open_ = short
            n *= 4
        return self._read([ranking.picked(slice(self.options.offset, None)) for ranking in found])

    def _nothing_more(self, candidates: Candidates, wanted: int) -> bool:
        """Whether more candidates could not give more hits."""
        options, scores = self.options, candidates.ranking.scores
        if candidates.all_there:
            return True
        if options.rerank is not None:
            return len(scores) >= wanted * options.overfetch
        below = options.min_score is not None and len(scores) > 0 and bool(scores[-1] < options.min_score)
        return below and options.method != "hybrid"  # whose ranks may yet add up

    def _candidates_wanted(self, wanted: int) -> int:
        """Parts to ask an index for: as many as are wanted, where nothing can thin them out."""
        options = self.options
        plain = options.method == "dense" and not options.diversity and not options.group_by and not options.rerank
        if plain and len(self.modalities) == 1 and self.index.of[self.modalities[0]].one_each:
            return wanted
        return max(LEAST_CANDIDATES, wanted * options.overfetch)

    # which entries may be found

    def _passes(self, where: Filter | None) -> np.ndarray | None:
        """Whether each entry, by its number, may be found; None where all may."""
        tests: list[Filter] = [] if where is None else [where]
        if self.options.exclude_groups:
            tests.append(Not(Compare("group", "in", self.options.exclude_groups)))
        passes = self.live.facets().passes(AllOf(tuple(tests))) if tests else None
        if self.options.exclude_ids:
            numbers = [number for number, _ in self.store.digests(self.options.exclude_ids).values()]
            passes = self._without(passes, numbers)
        return passes

    def _without(self, passes: np.ndarray | None, entries: Sequence[int] | np.ndarray) -> np.ndarray:
        passes = np.ones(self.store.last_entry() + 1, bool) if passes is None else passes.copy()
        passes[entries] = False
        return passes

    def _without_duplicates(self, query: Query, passes: np.ndarray | None) -> np.ndarray | None:
        """Leave out entries with a part that is nearly the query itself."""
        least = self.options.near_duplicate
        if least is None or not query.vectors:
            return passes
        near = [np.zeros(0, np.int64)]
        for source, vector in query.vectors.items():
            for modality, index in self.index.of.items():
                if source not in ("vector", modality) or not len(index):
                    continue
                n = LEAST_CANDIDATES
                while len(ranking := index.search(vector[None], n)[0].scores) == n and ranking[-1] >= least:
                    n *= 4
                best = index.search(vector[None], n)[0]
                near.append(best.entries[best.scores >= least])
        return self._without(passes, np.concatenate(near))

    # candidates: one ranking of entries for each query

    def _candidates(
        self, queries: Sequence[Query], n: int, passes: Sequence[np.ndarray | None]
    ) -> list[Candidates]:
        if self.options.method == "keyword":
            return [self._keyword(query, n, some) for query, some in zip(queries, passes, strict=True)]
        dense = self._dense(queries, n, passes)
        if self.options.method == "dense":
            return dense
        by_words = [self._keyword(query, n, some) for query, some in zip(queries, passes, strict=True)]
        return [
            Candidates(_fused([one.ranking, two.ranking]), one.all_there and two.all_there)
            for one, two in zip(dense, by_words, strict=True)
        ]

    def _keyword(self, query: Query, n: int, passes: np.ndarray | None) -> Candidates:
        found = self.live.words().search(query_words(query.text), n, passes)
        return Candidates(best_of_each(found), len(found.parts) < n)

    def _dense(self, queries: Sequence[Query], n: int, passes: Sequence[np.ndarray | None]) -> list[Candidates]:
        of_modality = []
        for modality in self.modalities:
            index = self.index.of[modality]
            vectors = np.stack([self._vector(query, modality) for query in queries])
            if all(some is passes[0] for some in passes):
                of_modality.append(index.search(vectors, n, passes[0]))
            else:
                each = zip(vectors, passes, strict=True)
                of_modality.append([index.search(vector[None], n, some)[0] for vector, some in each])
        return [
            Candidates(self._together(query, found), all(len(ranking.parts) < n for ranking in found))
            for query, *found in zip(queries, *of_modality, strict=True)
        ]

    def _vector(self, query: Query, modality: Modality) -> np.ndarray:
        vectors = list((query.vectors or {}).values())
        return vectors[0] if len(vectors) == 1 else compose(np.stack(vectors), self.index.of[modality].sample())

    def _together(self, query: Query, found: Sequence[Ranking]) -> Ranking:
        """One ranking of entries over all modalities that were looked through."""
        if len(found) == 1 and self.index.of[self.modalities[0]].one_each:
            return found[0]
        if len(found) == 1 or query.own is None:
            return best_of_each(merged(found))
        there = self._chance(query, query.own)
        rankings = []
        for modality, ranking in zip(self.modalities, found, strict=True):
            if modality != query.own:
                scores = rescale(ranking.scores, self._chance(query, modality), there)
                ranking = ranking._replace(scores=scores)
            rankings.append(best_of_each(ranking))
        order, scores = take_turns([ranking.scores for ranking in rankings])
        parts, entries = (np.concatenate(columns) for columns in list(zip(*rankings, strict=True))[:2])
        return best_of_each(Ranking(parts[order], entries[order], scores))

    def _chance(self, query: Query, modality: Modality) -> Chance:
        return chance(self._vector(query, modality), self.index.of[modality].sample())

    # hits

    def _chosen(self, query: Query, ranking: Ranking, wanted: int) -> Ranking:
        """Rerank, threshold, group, diversify; at most `wanted`."""
        options = self.options
        if options.rerank is not None:
            ranking = self._reranked(query, ranking.picked(slice(wanted * options.overfetch)), options.rerank)
        if options.min_score is not None:
            ranking = ranking.picked(np.flatnonzero(ranking.scores >= options.min_score))
        if options.group_by is not None:
            ranking = ranking.picked(np.array(first_of_each(self._groups(ranking)), np.int64))
        if options.diversity:
            ranking = ranking.picked(np.arange(min(len(ranking.parts), wanted * options.overfetch)))
            order, values = diversify(ranking.scores, self._vectors(ranking.parts), wanted, options.diversity)
            return ranking.picked(order)._replace(scores=values)
        return ranking.picked(np.arange(min(len(ranking.parts), wanted)))

    def _reranked(self, query: Query, ranking: Ranking, rerank: Rerank) -> Ranking:
        """The candidates in the order of their new scores; of equal ones in the old order."""
        if rerank == "exact":
            if not query.vectors:
                return ranking
            stored = self.store.vectors(ranking.parts.tolist())
            modality_of = {part: modality for part, (modality, _) in stored.items()}
            asked = {modality: self._vector(query, modality) for modality in set(modality_of.values())}
            parts = ranking.parts.tolist()
            scores = np.array([stored[part][1] @ asked[modality_of[part]] for part in parts], np.float32)
        else:
            (hits,) = self._read([ranking])
            scores = rerank_scores(rerank, Asked(query.text, query.image), hits)
        order = np.argsort(-scores, kind="stable")
        return ranking.picked(order)._replace(scores=scores[order])

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
