"""Retrieve the entries that a text is about: those it names, one of whose facts covers it, or else
the passages most similar to it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np

from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Evidence, Hit
from ravlm.retrieval.entity_linking import LinkedEntities, link
from ravlm.search.filter_parser import Where
from ravlm.search.options import SearchOptions
from ravlm.search.rank_fusion import fuse_scores
from ravlm.search.score_calibration import FULL_RELEVANCE

_CANDIDATES = 32
"""Hits per ranking that are searched for names."""
NAME_THRESHOLD = 0.5
"""Abstain below this probability that the base contains the subject of a text."""
_KEYWORD, _DENSE = SearchOptions("keyword"), SearchOptions("dense", relevance=True)
_PASSAGE_SHARPNESS = 2.0
"""Sharpness for fused scores, which are up to 1.4: the first passage has a weight of 0.2 on
average, as when the confidence of the span reader was fitted."""
_CACHE_SIZE = 64

CacheKey: TypeAlias = "tuple[str, str, int]"
"""Text, filter, and the last change of the base."""


class _RankedHits(NamedTuple):
    """Hits in the order of the rankings, and the fused score of each entry."""

    hits: list[Hit]
    fused: dict[str, float]


class TextRetriever:
    """Retrieves by text from one knowledge base.

    The last texts are remembered until the base changes, so that a conversation does not search
    for its earlier turns again.
    """

    def __init__(self, kb: KnowledgeBase) -> None:
        self._kb = kb
        self._cache: OrderedDict[CacheKey, Evidence] = OrderedDict()
        self._lock = threading.Lock()

    def retrieve(
        self, texts: Mapping[int, str], k: int, where: Where = None
    ) -> dict[int, Evidence]:
        """Return by number the entries that each text is about.

        If no name and no fact matches a text, the evidence is not `linked`: its hits are the
        passages that keyword and dense search rank highest.
        """
        if not texts:
            return {}
        change = self._kb.change
        keys: dict[str, CacheKey] = {text: (text, repr(where), change) for text in texts.values()}
        with self._lock:
            results = {text: self._cache[key] for text, key in keys.items() if key in self._cache}
        missing = [text for text in keys if text not in results]
        if missing:
            searched = dict(zip(missing, self._search(missing, where), strict=True))
            self._remember({keys[text]: evidence for text, evidence in searched.items()})
            results |= searched
        return {number: _first(results[text], k) for number, text in texts.items()}

    def retrieve_last_named(
        self, histories: Mapping[int, Sequence[str]], k: int, where: Where = None
    ) -> dict[int, Evidence]:
        """Return by number the evidence of the last turn that names an entity; none if none does.

        All turns are searched together, oldest first.
        """
        turns = list(dict.fromkeys(turn for history in histories.values() for turn in history))
        searched = self.retrieve(dict(enumerate(turns)), k, where)
        by_turn = {turn: searched[number] for number, turn in enumerate(turns)}
        results = {}
        for number, history in histories.items():
            last = next(
                (by_turn[turn] for turn in reversed(history) if by_turn[turn].subject), None
            )
            if last is not None:
                results[number] = replace(last, subject="")
        return results

    def retrieve_similar(
        self, texts: Mapping[int, str], k: int, where: Where = None
    ) -> dict[int, Evidence]:
        """Return by number the k entries most similar to each text, about any subject."""
        if not texts:
            return {}
        queries = [{"text": text} for text in texts.values()]
        rankings = self._kb.search_many(queries, k, where=where)
        trace = {"retrieved by": "similarity"}
        results = {}
        for number, hits in zip(texts, rankings, strict=True):
            weights = softmax_weights([hit.score for hit in hits])
            results[number] = Evidence(tuple(hits), weights, trace=trace)
        return results

    def _search(self, texts: Sequence[str], where: Where) -> list[Evidence]:
        start = time.perf_counter()
        glosses = [self._kb.encoder.gloss(text) for text in texts]
        candidates = self._candidates(texts, glosses, where)
        linked = [
            link(text, gloss, ranked.hits)
            for text, gloss, ranked in zip(texts, glosses, candidates, strict=True)
        ]
        seconds = round((time.perf_counter() - start) / len(texts), 4)
        results = []
        for gloss, entities, ranked in zip(glosses, linked, candidates, strict=True):
            evidence = _linked_evidence(entities) if entities.hits else _passages(entities, ranked)
            trace = {
                **evidence.trace,
                "query": gloss,
                "support": round(entities.support, 4),
                "seconds": {"search": seconds},
            }
            results.append(replace(evidence, trace=trace))
        return results

    def _candidates(
        self, texts: Sequence[str], glosses: Sequence[str], where: Where
    ) -> list[_RankedHits]:
        """Search each text by keyword and by vector, and its gloss by keyword; each entry counts
        once. The encoder glosses a text itself."""
        queries: list[dict[str, str]] = []
        options: list[SearchOptions] = []
        owners: list[int] = []
        for owner, (text, gloss) in enumerate(zip(texts, glosses, strict=True)):
            searches = dict.fromkeys([(text, _KEYWORD), (text, _DENSE), (gloss, _KEYWORD)])
            for query, ranking in searches:
                queries.append({"text": query})
                options.append(ranking)
                owners.append(owner)
        rankings = self._kb.search_many(queries, _CANDIDATES, "text", where, options)
        candidates: list[dict[str, Hit]] = [{} for _ in texts]
        by_word: list[dict[str, float]] = [{} for _ in texts]
        by_vector: list[dict[str, float]] = [{} for _ in texts]
        for owner, method, hits in zip(owners, options, rankings, strict=True):
            for hit in hits:
                id_ = hit.entry.id
                candidates[owner].setdefault(id_, hit)
                if method is _KEYWORD:
                    by_word[owner][id_] = max(by_word[owner].get(id_, 0.0), hit.score)
                else:
                    by_vector[owner][id_] = FULL_RELEVANCE * (hit.relevance or 0.0)
        return [
            _RankedHits(list(hits.values()), dict(fuse_scores(*scores)))
            for hits, *scores in zip(candidates, by_word, by_vector, strict=True)
        ]

    def _remember(self, entries: dict[CacheKey, Evidence]) -> None:
        with self._lock:
            self._cache.update(entries)
            while len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)


def _linked_evidence(entities: LinkedEntities) -> Evidence:
    return Evidence(
        hits=entities.hits,
        weights=entities.weights,
        support=entities.support,
        min_support=NAME_THRESHOLD,
        subject=entities.subject,
        trace={"retrieved by": "name" if entities.subject else "words"},
    )


def _passages(entities: LinkedEntities, candidates: _RankedHits) -> Evidence:
    """Return the candidates as passages, best first, weighted by their scores in the fusion."""
    hits = sorted(candidates.hits, key=lambda hit: -candidates.fused[hit.entry.id])
    scores = [candidates.fused[hit.entry.id] for hit in hits]
    return Evidence(
        hits=tuple(hits),
        weights=softmax_weights(scores, _PASSAGE_SHARPNESS),
        support=entities.support,
        min_support=NAME_THRESHOLD,
        linked=False,
        trace={"retrieved by": "passages"},
    )


def softmax_weights(scores: Sequence[float], sharpness: float = 15.0) -> tuple[float, ...]:
    """Return scores of hits as weights that sum to 1."""
    if not scores:
        return ()
    weights = np.exp(sharpness * (np.array(scores) - max(scores)))
    return tuple((weights / weights.sum()).tolist())


def _first(evidence: Evidence, k: int) -> Evidence:
    return replace(evidence, hits=evidence.hits[:k], weights=evidence.weights[:k])
