"""From queries to hits: candidates of the indexes, brought to one scale, fused, reranked, thinned
out, and read.

Each search sees one state of the store. Knows no encoder: queries come as vectors and words.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.knowledge.backend import Candidates, Limit, View
from ravlm.knowledge.candidates import EMPTY_RANKING, Ranking, best_part_per_entry, merge_rankings
from ravlm.knowledge.queries import Query
from ravlm.records import Hit, Modality
from ravlm.runtime import gc_paused
from ravlm.search.filters import AllOf, Compare, Filter, Not
from ravlm.search.options import SearchOptions
from ravlm.search.rank_fusion import diversify, first_per_group, fuse_ranks
from ravlm.search.rerank import RerankQuery, Rerank, rerank_scores
from ravlm.search.score_calibration import CosineStats, cosine_stats, combine_queries, rescale, interleave

LEAST_CANDIDATES = 32


class Searching:
    """One search over one state of a base."""

    def __init__(self, view: View, modalities: Sequence[Modality], options: SearchOptions) -> None:
        self.view, self.options = view, options
        self.modalities = [modality for modality in modalities if modality in view.modalities]

    def hits(self, queries: Sequence[Query], k: int, where: Filter | None) -> list[list[Hit]]:
        """The hits of each query. Candidates are looked for until k are found or there are no
        more."""
        if not self.modalities or not queries:
            return [[] for _ in queries]
        limit = self._limit(where)
        found, wanted = [EMPTY_RANKING] * len(queries), k + self.options.offset
        own = [limit] * len(queries)
        if self.options.near_duplicate is not None:
            own = [self._without_duplicates(query, limit) for query in queries]
        open_, n = list(range(len(queries))), self._candidates_wanted(wanted)
        while open_:
            rankings = self._candidates([queries[at] for at in open_], n, [own[at] for at in open_])
            short = []
            for at, candidates in zip(open_, rankings, strict=True):
                found[at] = self._chosen(queries[at], candidates.ranking, wanted)
                if len(found[at].parts) < wanted and not self._nothing_more(candidates, wanted):
                    short.append(at)
            if short and self.view.most is not None and n >= self.view.most:
                raise InvalidInput(
                    f"The server gives {self.view.most:,} candidates a search at most, and {wanted:,} hits are wanted "
                    f"of them, of which {len(found[short[0]].parts):,} were found; ask for fewer hits, or filter."
                )
            open_ = short
            n *= 4
        if self.options.offset:
            found = [ranking.take(slice(self.options.offset, None)) for ranking in found]
        return self._read(found)

    def _nothing_more(self, candidates: Candidates, wanted: int) -> bool:
        """Whether more candidates could not give more hits."""
        options, scores = self.options, candidates.ranking.scores
        if candidates.exhausted:
            return True
        if options.rerank is not None:
            return len(scores) >= wanted * options.overfetch
        below = (
            options.min_score is not None
            and len(scores) > 0
            and bool(scores[-1] < options.min_score)
        )
        return below and options.method != "hybrid"  # whose ranks may yet add up

    def _candidates_wanted(self, wanted: int) -> int:
        """Parts to ask an index for: as many as are wanted, where nothing can thin them out."""
        options = self.options
        plain = (
            options.method == "dense"
            and not options.diversity
            and not options.group_by
            and not options.rerank
        )
        if plain and len(self.modalities) == 1 and self.view.one_each(self.modalities[0]):
            return wanted
        return max(LEAST_CANDIDATES, wanted * options.overfetch)

    # which entries may be found

    def _limit(self, where: Filter | None) -> Limit:
        """Which entries may be found by any query."""
        options = self.options
        if options.exclude_groups:
            others = Not(Compare("group", "in", options.exclude_groups))
            where = others if where is None else AllOf((where, others))
        return self.view.limit(where, options.exclude_ids)

    def _without_duplicates(self, query: Query, limit: Limit) -> Limit:
        """Leave out entries with a part that is nearly the query itself."""
        least = self.options.near_duplicate
        if least is None or not query.vectors:
            return limit
        near = [np.zeros(0, np.int64)]
        for source, vector in query.vectors.items():
            for modality in self.view.modalities:
                if source in ("vector", modality):
                    near.append(self._near(modality, vector, least))
        return self.view.narrowed(limit, np.concatenate(near))

    def _near(self, modality: Modality, vector: np.ndarray, least: float) -> np.ndarray:
        """The entries with a part of that modality whose cosine is `least` or more."""
        n = LEAST_CANDIDATES
        while True:
            (found,) = self.view.nearest(modality, vector[None], n, None)
            ranking = found.ranking
            if found.exhausted or not len(ranking.scores) or ranking.scores[-1] < least:
                return ranking.entries[ranking.scores >= least]
            n *= 4

    # candidates: one ranking of entries for each query

    def _candidates(
        self, queries: Sequence[Query], n: int, limits: Sequence[Limit]
    ) -> list[Candidates]:
        if self.options.method == "keyword":
            return [
                self.view.worded(query.text, n, limit)
                for query, limit in zip(queries, limits, strict=True)
            ]
        dense = self._dense(queries, n, limits)
        if self.options.method == "dense":
            return dense
        by_words = [
            self.view.worded(query.text, n, limit)
            for query, limit in zip(queries, limits, strict=True)
        ]
        return [
            Candidates(_fused([one.ranking, two.ranking]), one.exhausted and two.exhausted)
            for one, two in zip(dense, by_words, strict=True)
        ]

    def _dense(self, queries: Sequence[Query], n: int, limits: Sequence[Limit]) -> list[Candidates]:
        of_modality = []
        for modality in self.modalities:
            vectors = np.stack([self._vector(query, modality) for query in queries])
            if all(limit is limits[0] for limit in limits):
                of_modality.append(self.view.nearest(modality, vectors, n, limits[0]))
            else:
                each = zip(vectors, limits, strict=True)
                of_modality.append(
                    [
                        self.view.nearest(modality, vector[None], n, limit)[0]
                        for vector, limit in each
                    ]
                )
        if len(of_modality) == 1 and self.view.one_each(self.modalities[0]):
            return of_modality[0]
        return [
            Candidates(
                self._together(query, [one.ranking for one in found]),
                all(one.exhausted for one in found),
            )
            for query, *found in zip(queries, *of_modality, strict=True)
        ]

    def _vector(self, query: Query, modality: Modality) -> np.ndarray:
        vectors = list((query.vectors or {}).values())
        return (
            vectors[0]
            if len(vectors) == 1
            else combine_queries(np.stack(vectors), self.view.sample(modality))
        )

    def _together(self, query: Query, found: Sequence[Ranking]) -> Ranking:
        """One ranking of entries over all modalities that were looked through."""
        if len(found) == 1 or query.own is None:
            return best_part_per_entry(merge_rankings(found))
        there = self._chance(query, query.own)
        rankings = []
        for modality, ranking in zip(self.modalities, found, strict=True):
            if modality != query.own:
                scores = rescale(ranking.scores, self._chance(query, modality), there)
                ranking = ranking._replace(scores=scores)
            rankings.append(best_part_per_entry(ranking))
        order, scores = interleave([ranking.scores for ranking in rankings])
        parts, entries = (
            np.concatenate(columns) for columns in list(zip(*rankings, strict=True))[:2]
        )
        return best_part_per_entry(Ranking(parts[order], entries[order], scores))

    def _chance(self, query: Query, modality: Modality) -> CosineStats:
        return cosine_stats(self._vector(query, modality), self.view.sample(modality))

    # hits

    def _chosen(self, query: Query, ranking: Ranking, wanted: int) -> Ranking:
        """Rerank, threshold, group, diversify; at most `wanted`."""
        options = self.options
        if options.rerank is not None:
            ranking = self._reranked(
                query, ranking.take(slice(wanted * options.overfetch)), options.rerank
            )
        if options.min_score is not None:
            ranking = ranking.take(np.flatnonzero(ranking.scores >= options.min_score))
        if options.group_by is not None:
            values = self.view.values(ranking.entries, options.group_by)
            ranking = ranking.take(np.array(first_per_group(values), np.int64))
        if options.diversity:
            ranking = ranking.take(np.arange(min(len(ranking.parts), wanted * options.overfetch)))
            vectors = self.view.vectors(ranking.parts)[1]
            order, scores = diversify(ranking.scores, vectors, wanted, options.diversity)
            return ranking.take(order)._replace(scores=scores)
        return ranking.take(slice(wanted))

    def _reranked(self, query: Query, ranking: Ranking, rerank: Rerank) -> Ranking:
        """The candidates in the order of their new scores; of equal ones in the old order."""
        if rerank == "exact":
            if not query.vectors:
                return ranking
            modalities, vectors = self.view.vectors(ranking.parts)
            asked = {modality: self._vector(query, modality) for modality in set(modalities)}
            pairs = zip(vectors, modalities, strict=True)
            scores = np.array([vector @ asked[modality] for vector, modality in pairs], np.float32)
        else:
            (hits,) = self._read([ranking])
            scores = rerank_scores(rerank, RerankQuery(query.text, query.image), hits)
        order = np.argsort(-scores, kind="stable")
        return ranking.take(order)._replace(scores=scores[order])

    def _read(self, rankings: Sequence[Ranking]) -> list[list[Hit]]:
        parts, entries, scores = map(np.concatenate, zip(*rankings, strict=True))
        with gc_paused():
            shown, of_parts = self.view.read(parts, entries)
            hits = map(Hit, shown, scores.tolist(), of_parts)
            return [list(islice(hits, len(ranking.parts))) for ranking in rankings]


def _fused(rankings: Sequence[Ranking]) -> Ranking:
    """Rankings of entries as one, by reciprocal ranks; an entry shows its part of the first ranking
    that has it."""
    part_of: dict[int, int] = {}
    for ranking in rankings:
        for entry, part in zip(ranking.entries.tolist(), ranking.parts.tolist(), strict=True):
            part_of.setdefault(entry, part)
    order = fuse_ranks([ranking.entries.tolist() for ranking in rankings])
    entries = np.array([entry for entry, _ in order], np.int64)
    parts = np.array([part_of[entry] for entry, _ in order], np.int64)
    return Ranking(parts, entries, np.array([score for _, score in order], np.float32))
