"""Retrieve the entries that a text is about: those it names, or one of whose facts covers it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Evidence, Hit
from ravlm.retrieval.entity_linking import link
from ravlm.search.filter_parser import Where
from ravlm.search.options import SearchOptions

_CANDIDATES = 32
"""Hits per ranking that are searched for names."""
_NAME_THRESHOLD = 0.5
"""Abstain below this probability that the base contains the subject of a text."""
_RANKINGS = (SearchOptions("keyword"), SearchOptions("dense"))
_CACHE_SIZE = 64

CacheKey: TypeAlias = "tuple[str, str, int]"
"""Text, filter, and the last change of the base."""


class TextRetriever:
    """Retrieves by text from one knowledge base.

    The last texts are remembered until the base changes, so that a conversation does not search
    for its earlier turns again.
    """

    def __init__(self, kb: KnowledgeBase) -> None:
        self._kb = kb
        self._cache: OrderedDict[CacheKey, Evidence] = OrderedDict()
        self._lock = threading.Lock()

    def retrieve(self, texts: Sequence[str], k: int, where: Where = None) -> list[Evidence]:
        """Return the entries that each text is about; none if no name or fact matches it."""
        change = self._kb.change
        keys: dict[str, CacheKey] = {text: (text, repr(where), change) for text in texts}
        with self._lock:
            cached = {text: self._cache.get(key) for text, key in keys.items()}
        missing = [text for text, evidence in cached.items() if evidence is None]
        results = {text: evidence for text, evidence in cached.items() if evidence is not None}
        if missing:
            retrieved = dict(zip(missing, self._search(missing, where), strict=True))
            self._remember({keys[text]: evidence for text, evidence in retrieved.items()})
            results |= retrieved
        return [_first(results[text], k) for text in texts]

    def most_similar(self, texts: Sequence[str], k: int, where: Where = None) -> list[Evidence]:
        """Return the k entries that are most similar to each text, whatever they are about."""
        rankings = self._kb.search_many([{"text": text} for text in texts], k, where=where)
        trace = {"retrieved by": "similarity"}
        return [
            Evidence(tuple(hits), softmax_weights([hit.score for hit in hits]), trace=trace)
            for hits in rankings
        ]

    def _search(self, texts: Sequence[str], where: Where) -> list[Evidence]:
        start = time.perf_counter()
        glosses = [self._kb.encoder.gloss(text) for text in texts]
        candidates = self._candidates(texts, glosses, where)
        linked = [link(*row) for row in zip(texts, glosses, candidates, strict=True)]
        seconds = round((time.perf_counter() - start) / len(texts), 4)
        results = []
        for gloss, entities in zip(glosses, linked, strict=True):
            trace = {
                "retrieved by": "name" if entities.subject else "words",
                "query": gloss,
                "support": round(entities.support, 4),
                "seconds": {"search": seconds},
            }
            results.append(
                Evidence(
                    hits=entities.hits,
                    weights=entities.weights,
                    support=entities.support,
                    min_support=_NAME_THRESHOLD,
                    subject=entities.subject,
                    trace=trace,
                )
            )
        return results

    def _candidates(
        self, texts: Sequence[str], glosses: Sequence[str], where: Where
    ) -> list[list[Hit]]:
        """Search each text and its gloss by keyword and by vector; each entry counts once."""
        queries: list[dict[str, str]] = []
        options: list[SearchOptions] = []
        owners: list[int] = []
        for owner, pair in enumerate(zip(texts, glosses, strict=True)):
            for query in dict.fromkeys(pair):
                for ranking in _RANKINGS:
                    queries.append({"text": query})
                    options.append(ranking)
                    owners.append(owner)
        rankings = self._kb.search_many(queries, _CANDIDATES, "text", where, options)
        candidates: list[dict[str, Hit]] = [{} for _ in texts]
        for owner, hits in zip(owners, rankings, strict=True):
            for hit in hits:
                candidates[owner].setdefault(hit.entry.id, hit)
        return [list(hits.values()) for hits in candidates]

    def _remember(self, entries: dict[CacheKey, Evidence]) -> None:
        with self._lock:
            self._cache.update(entries)
            while len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)


def softmax_weights(scores: Sequence[float], sharpness: float = 15.0) -> tuple[float, ...]:
    """Return scores of hits as weights that sum to 1."""
    if not scores:
        return ()
    weights = np.exp(sharpness * (np.array(scores) - max(scores)))
    return tuple((weights / weights.sum()).tolist())


def _first(evidence: Evidence, k: int) -> Evidence:
    return replace(evidence, hits=evidence.hits[:k], weights=evidence.weights[:k])
