"""The search pipeline: candidates, put on one scale, fused, reranked, thinned out and read.

Each search sees one state of the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.knowledge.candidates import (
    EMPTY_RANKING,
    Candidates,
    Ranking,
    best_part_per_entry,
    merge_rankings,
)
from ravlm.knowledge.comparison import VectorComparison
from ravlm.knowledge.queries import EncodedQuery
from ravlm.knowledge.searcher import Searcher, Selector
from ravlm.records import Hit, Modality
from ravlm.runtime import gc_paused
from ravlm.search.filters import AllOf, Compare, Filter, Not
from ravlm.search.options import SearchOptions
from ravlm.search.rank_fusion import (
    diversify,
    first_per_group,
    fuse_scores,
    place_among_fixed,
)
from ravlm.search.rerank import Rerank, RerankQuery, rerank_scores
from ravlm.search.score_calibration import interleave, relevance, rescale

MIN_CANDIDATES = 32
WIDENING = 4
"""Factor by which more candidates are fetched if there were too few hits."""


class SearchPipeline:
    """One search over one state of a base."""

    def __init__(
        self, searcher: Searcher, modalities: Sequence[Modality], options: SearchOptions
    ) -> None:
        self.searcher = searcher
        self.comparison = VectorComparison(searcher)
        self.options = options
        self.modalities = [name for name in modalities if name in searcher.modalities]

    def run(self, queries: Sequence[EncodedQuery], k: int, where: Filter | None) -> list[list[Hit]]:
        """Return up to k hits per query. Fetches more candidates until there are k hits."""
        if not self.modalities or not queries:
            return [[] for _ in queries]
        k += self.options.offset
        selectors = self._selectors(queries, where)
        rankings = [EMPTY_RANKING] * len(queries)
        unfinished = list(range(len(queries)))
        n = self._num_candidates(k)
        while unfinished:
            candidates = self._candidates(
                [queries[row] for row in unfinished], n, [selectors[row] for row in unfinished]
            )
            short = []
            for row, of_query in zip(unfinished, candidates, strict=True):
                rankings[row] = self._select_hits(queries[row], of_query.ranking, k)
                if len(rankings[row].parts) < k and not self._is_final(of_query, k):
                    short.append(row)
            self._check_limit(n, k, [rankings[row] for row in short])
            unfinished = short
            n *= WIDENING
        if self.options.offset:
            rankings = [ranking.take(slice(self.options.offset, None)) for ranking in rankings]
        hits = self._read_hits(rankings)
        if not self.options.relevance:
            return hits
        pairs = zip(queries, rankings, hits, strict=True)
        return [self._with_relevance(*of_query) for of_query in pairs]

    def _is_final(self, candidates: Candidates, k: int) -> bool:
        """Return whether more candidates could not give more hits."""
        options, scores = self.options, candidates.ranking.scores
        if candidates.exhausted:
            return True
        if options.rerank is not None:
            return len(scores) >= k * options.overfetch
        if options.min_score is None or not len(scores):
            return False
        is_below = bool(scores[-1] < options.min_score)
        return is_below and options.method != "hybrid"  # hybrid ranks may still add up

    def _check_limit(self, n: int, k: int, short: Sequence[Ranking]) -> None:
        """Raise InvalidInput if some query is short of hits and no more candidates are allowed."""
        limit = self.searcher.max_candidates
        if short and limit is not None and n >= limit:
            raise InvalidInput(
                f"The search needs {k:,} hits, but the server returns at most {limit:,} candidates "
                f"and only {len(short[0].parts):,} of them are hits; ask for fewer hits, or filter."
            )

    def _num_candidates(self, k: int) -> int:
        """Return how many parts to fetch: exactly k if nothing can thin them out."""
        options = self.options
        is_plain = options.method == "dense" and not (
            options.diversity or options.group_by or options.rerank
        )
        if is_plain and self._has_one_part_per_entry():
            return k
        return max(MIN_CANDIDATES, k * options.overfetch)

    def _has_one_part_per_entry(self) -> bool:
        return len(self.modalities) == 1 and self.searcher.one_part_per_entry(self.modalities[0])

    # selectors: which entries may be returned

    def _selectors(self, queries: Sequence[EncodedQuery], where: Filter | None) -> list[Selector]:
        """Return the selector of each query; without `near_duplicate` all share one object."""
        options = self.options
        if options.exclude_groups:
            not_excluded = Not(Compare("group", "in", options.exclude_groups))
            where = not_excluded if where is None else AllOf((where, not_excluded))
        shared = self.searcher.select(where, options.exclude_ids)
        if options.near_duplicate is None:
            return [shared] * len(queries)
        return [
            self._without_near_duplicates(query, shared, options.near_duplicate)
            for query in queries
        ]

    def _without_near_duplicates(
        self, query: EncodedQuery, selector: Selector, min_cosine: float
    ) -> Selector:
        """Exclude entries with a part that is nearly identical to the query."""
        if not query.vectors:
            return selector
        duplicates = [np.zeros(0, np.int64)]
        for source, vector in query.vectors.items():
            for modality in self.searcher.modalities:
                if source in ("vector", modality):
                    duplicates.append(self._entries_within(modality, vector, min_cosine))
        return self.searcher.exclude(selector, np.concatenate(duplicates))

    def _entries_within(
        self, modality: Modality, vectors: np.ndarray, min_cosine: float
    ) -> np.ndarray:
        """Return the entries with a part whose cosine is at least `min_cosine`."""
        n = MIN_CANDIDATES
        while True:
            (candidates,) = self.comparison.nearest([vectors], modality, n, [None])
            ranking = candidates.ranking
            is_complete = candidates.exhausted or not len(ranking.scores)
            if is_complete or ranking.scores[-1] < min_cosine:
                return ranking.entries[ranking.scores >= min_cosine]
            n *= WIDENING

    # candidates: one ranking of entries per query

    def _candidates(
        self, queries: Sequence[EncodedQuery], n: int, selectors: Sequence[Selector]
    ) -> list[Candidates]:
        if self.options.method == "keyword":
            return self._keyword_candidates(queries, n, selectors)
        dense = self._dense_candidates(queries, n, selectors)
        if self.options.method == "dense":
            return dense
        keyword = self._keyword_candidates(queries, n, selectors)
        return [
            Candidates(
                self._fuse(query, by_vector.ranking, by_word.ranking),
                by_vector.exhausted and by_word.exhausted,
            )
            for query, by_vector, by_word in zip(queries, dense, keyword, strict=True)
        ]

    def _fuse(self, query: EncodedQuery, by_vector: Ranking, by_word: Ranking) -> Ranking:
        """Fuse two rankings of entries by their scores.

        Entries without words keep the place that their vectors give them. An entry shows its part
        from the first ranking that contains it, and that part's vector counts.
        """
        without_words: set[int] = set()
        if "image" in self.modalities:
            has_words = self.searcher.has_words(by_vector)
            without_words.update(by_vector.entries[~has_words].tolist())
        part_by_entry: dict[int, int] = {}
        for ranking in (by_vector, by_word):
            for entry, part in zip(ranking.entries.tolist(), ranking.parts.tolist(), strict=True):
                part_by_entry.setdefault(entry, part)
        with_words = [entry for entry in part_by_entry if entry not in without_words]
        parts = np.array([part_by_entry[entry] for entry in with_words], np.int64)
        fused = fuse_scores(
            dict(zip(by_word.entries.tolist(), by_word.scores.tolist(), strict=True)),
            dict(zip(with_words, self._deviations(query, parts), strict=True)),
        )
        order = place_among_fixed(by_vector.entries.tolist(), fused, without_words)
        entries = np.array([entry for entry, _ in order], np.int64)
        parts = np.array([part_by_entry[entry] for entry, _ in order], np.int64)
        return Ranking(parts, entries, np.array([score for _, score in order], np.float32))

    def _deviations(self, query: EncodedQuery, parts: np.ndarray) -> list[float]:
        """Return how many standard deviations above random parts each part's cosine is."""
        scores, modalities = self.comparison.scores(query, parts)
        stats = {name: self.comparison.stats(query, name) for name in dict.fromkeys(modalities)}
        return [
            (score - stats[name].mean) / stats[name].std
            for score, name in zip(scores.tolist(), modalities, strict=True)
        ]

    def _keyword_candidates(
        self, queries: Sequence[EncodedQuery], n: int, selectors: Sequence[Selector]
    ) -> list[Candidates]:
        return [
            self.searcher.keyword_search(query.text, n, selector)
            for query, selector in zip(queries, selectors, strict=True)
        ]

    def _dense_candidates(
        self, queries: Sequence[EncodedQuery], n: int, selectors: Sequence[Selector]
    ) -> list[Candidates]:
        by_modality = [
            self._nearest(queries, modality, n, selectors) for modality in self.modalities
        ]
        if self._has_one_part_per_entry():
            return by_modality[0]
        return [
            Candidates(
                self._combine_modalities(query, [item.ranking for item in of_query]),
                all(item.exhausted for item in of_query),
            )
            for query, *of_query in zip(queries, *by_modality, strict=True)
        ]

    def _nearest(
        self,
        queries: Sequence[EncodedQuery],
        modality: Modality,
        n: int,
        selectors: Sequence[Selector],
    ) -> list[Candidates]:
        vectors = [self.comparison.query_vectors(query, modality) for query in queries]
        return self.comparison.nearest(vectors, modality, n, selectors)

    def _combine_modalities(self, query: EncodedQuery, rankings: Sequence[Ranking]) -> Ranking:
        """Return one ranking of entries over all modalities."""
        if len(rankings) == 1 or query.modality is None:
            return best_part_per_entry(merge_rankings(rankings))
        target = self.comparison.stats(query, query.modality)
        rescaled = []
        for modality, ranking in zip(self.modalities, rankings, strict=True):
            if modality != query.modality:
                source = self.comparison.stats(query, modality)
                ranking = ranking._replace(scores=rescale(ranking.scores, source, target))
            rescaled.append(best_part_per_entry(ranking))
        order, scores = interleave([ranking.scores for ranking in rescaled])
        parts = np.concatenate([ranking.parts for ranking in rescaled])
        entries = np.concatenate([ranking.entries for ranking in rescaled])
        return best_part_per_entry(Ranking(parts[order], entries[order], scores))

    # hits

    def _select_hits(self, query: EncodedQuery, ranking: Ranking, k: int) -> Ranking:
        """Rerank, apply the threshold, group and diversify; return at most k candidates."""
        options = self.options
        max_candidates = k * options.overfetch
        if options.rerank is not None:
            ranking = self._rerank(query, ranking.take(slice(max_candidates)), options.rerank)
        if options.min_score is not None:
            ranking = ranking.take(np.flatnonzero(ranking.scores >= options.min_score))
        if options.group_by is not None:
            groups = self.searcher.metadata_values(ranking, options.group_by)
            ranking = ranking.take(np.array(first_per_group(groups), np.int64))
        if options.diversity:
            ranking = ranking.take(np.arange(min(len(ranking.parts), max_candidates)))
            _, vectors = self.searcher.vectors(ranking.parts)
            order, scores = diversify(ranking.scores, vectors, k, options.diversity)
            return ranking.take(order)._replace(scores=scores)
        return ranking.take(slice(k))

    def _rerank(self, query: EncodedQuery, ranking: Ranking, rerank: Rerank) -> Ranking:
        """Return the candidates with new scores; ties keep their order."""
        if rerank == "exact":
            if not query.vectors or self.options.method == "keyword":
                return ranking
            scores, _ = self.comparison.scores(query, ranking.parts)
        else:
            (hits,) = self._read_hits([ranking])
            scores = rerank_scores(rerank, RerankQuery(query.text, query.image), hits)
        order = np.argsort(-scores, kind="stable")
        return ranking.take(order)._replace(scores=scores[order])

    def _with_relevance(
        self, query: EncodedQuery, ranking: Ranking, hits: Sequence[Hit]
    ) -> list[Hit]:
        """Return the hits with their relevance: their cosine against those of random parts."""
        scores, modalities = self.comparison.scores(query, ranking.parts)
        stats = {m: self.comparison.stats(query, m) for m in dict.fromkeys(modalities)}
        return [
            replace(hit, relevance=float(relevance(score, stats[modality])))
            for hit, score, modality in zip(hits, scores, modalities, strict=True)
        ]

    def _read_hits(self, rankings: Sequence[Ranking]) -> list[list[Hit]]:
        """Read the entries of all rankings at once."""
        parts, entries, scores = map(np.concatenate, zip(*rankings, strict=True))
        with gc_paused():
            shown_entries, shown_parts = self.searcher.read(parts, entries)
            hits = map(Hit, shown_entries, scores.tolist(), shown_parts)
            return [list(islice(hits, len(ranking.parts))) for ranking in rankings]
