"""Compare queries with parts: single vectors by their cosine, several vectors by MaxSim.

The vectors of a query are (dim,), or (t, dim) as `ravlm.search.maxsim.weighted_query` returns them.
A base of a multi-vector encoder stores both for each part: its token vectors, and the direction of
their mean, which is compared with a single vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from ravlm.knowledge.candidates import Candidates
from ravlm.knowledge.queries import EncodedQuery
from ravlm.knowledge.searcher import MultiVectorSearcher, Searcher, Selector
from ravlm.records import Modality
from ravlm.search.maxsim import combine_token_queries, maxsim
from ravlm.search.score_calibration import CosineStats, combine_queries, cosine_stats, score_stats


class VectorComparison:
    """The comparisons of one search over one state of a base."""

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher

    @property
    def _token_searcher(self) -> MultiVectorSearcher:
        return cast(MultiVectorSearcher, self.searcher)

    def query_vectors(self, query: EncodedQuery, modality: Modality) -> np.ndarray:
        """Return the query's vectors for a modality, (dim,) or (t, dim).

        Those of an image and a text are combined, with equal weight.
        """
        vectors = list((query.vectors or {}).values())
        if len(vectors) == 1:
            return vectors[0]
        if vectors[0].ndim == 1:
            return combine_queries(np.stack(vectors), self.searcher.sample(modality))
        weights = [1 / self._stats(of_source, modality).std for of_source in vectors]
        return combine_token_queries(vectors, weights)

    def nearest(
        self,
        queries: Sequence[np.ndarray],
        modality: Modality,
        n: int,
        selectors: Sequence[Selector],
    ) -> list[Candidates]:
        """Return the n best parts of each query.

        Queries of one vector each with the same selector object are searched in one batch.
        """
        is_single = all(vectors.ndim == 1 for vectors in queries)
        if is_single and all(selector is selectors[0] for selector in selectors):
            return self.searcher.nearest(modality, np.stack(queries), n, selectors[0])
        return [
            self._nearest_one(vectors, modality, n, selector)
            for vectors, selector in zip(queries, selectors, strict=True)
        ]

    def _nearest_one(
        self, vectors: np.ndarray, modality: Modality, n: int, selector: Selector
    ) -> Candidates:
        if vectors.ndim > 1:
            return self._token_searcher.nearest_by_tokens(modality, vectors, n, selector)
        return self.searcher.nearest(modality, vectors[None], n, selector)[0]

    def scores(
        self, query: EncodedQuery, parts: np.ndarray
    ) -> tuple[np.ndarray, Sequence[Modality]]:
        """Return the scores of a query with the stored vectors of parts, float32 (n,), and the
        modality of each part."""
        modalities, vectors = self.searcher.vectors(parts)
        scores = np.zeros(len(parts), np.float32)
        for modality in dict.fromkeys(modalities):
            rows = np.array([m == modality for m in modalities], bool)
            target = self.query_vectors(query, modality)
            if target.ndim == 1:
                scores[rows] = vectors[rows] @ target
            else:
                tokens = self._token_searcher.token_vectors(parts[rows])
                scores[rows] = maxsim(target, tokens.vectors, tokens.starts)
        return scores, modalities

    def stats(self, query: EncodedQuery, modality: Modality) -> CosineStats:
        """Return the statistics of a query's scores with random parts of a modality."""
        return self._stats(self.query_vectors(query, modality), modality)

    def _stats(self, vectors: np.ndarray, modality: Modality) -> CosineStats:
        if vectors.ndim == 1:
            return cosine_stats(vectors, self.searcher.sample(modality))
        sample = self._token_searcher.token_sample(modality)
        return score_stats(maxsim(vectors, sample.vectors, sample.starts))
