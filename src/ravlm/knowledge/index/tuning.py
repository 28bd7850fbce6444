"""Choose an index kind and its settings by recall and latency, measured on a base's own vectors.

The exact nearest neighbors are the ground truth. Knows the Faiss indexes and no store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.knowledge.index.auto import build_index, choose_kind
from ravlm.knowledge.index.faiss_index import CHUNK_ROWS, FaissIndex, evenly_spaced
from ravlm.knowledge.reports import Trial

TOP_K = 10
"""Recall is recall@10."""
NUM_QUERIES = 500
NUM_TIMED = 50
"""Queries that are also searched one by one, for the latency."""
RECALL = 0.95
"""Recall@10 that `optimize` aims at."""
RECALL_MARGIN = 0.015
"""How much more recall the sample must show, because other queries will vary."""
MAX_SLOWDOWN = 1.25
"""How much slower than the fastest setting a more exact one may be."""


@dataclass(frozen=True)
class Requirements:
    """What an index must achieve.

    `memory` is in bytes for all vectors of the modality, `latency` in seconds per search (median).
    Raises InvalidInput for values out of range.
    """

    recall: float = RECALL
    memory: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise InvalidInput(f"recall is {self.recall}; allowed: above 0, up to 1 (0.95, say).")
        for name in ("memory", "latency"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InvalidInput(f"{name} is {value}; it must be above 0.")

    def met_by(self, trial: Trial, num_rows: int) -> bool:
        """Return whether the measured index meets all requirements for `num_rows` vectors."""
        fits = self.memory is None or trial.row_bytes * num_rows <= self.memory
        fast = self.latency is None or trial.p50 <= self.latency
        return trial.recall >= self.recall and fits and fast


class GroundTruth:
    """Queries and their exact nearest neighbors among `vectors` (n, dim).

    Half of the queries are taken from `vectors`; such a vector is not counted among its own
    neighbors. The other half is taken from `cross_modal` (m, dim) if there are any: texts search
    for images too, and lie in another region of the space.
    """

    def __init__(self, vectors: np.ndarray, cross_modal: np.ndarray) -> None:
        self.vectors = vectors
        num_same = NUM_QUERIES // 2 if len(cross_modal) else NUM_QUERIES
        same_rows = evenly_spaced(len(vectors), num_same)
        cross_rows = evenly_spaced(len(cross_modal), NUM_QUERIES - NUM_QUERIES // 2)
        queries = np.concatenate([vectors[same_rows], cross_modal[cross_rows]])
        self.queries = queries.astype(np.float32)  # (q, dim)
        self.query_rows = np.concatenate(
            [same_rows, np.full(len(cross_rows), -1)]
        )  # -1: not in `vectors`
        self.tenth_scores = self._tenth_scores()  # (q,)

    def _tenth_scores(self) -> np.ndarray:
        """Return the score of the tenth nearest neighbor of each query."""
        import faiss

        best = np.zeros((len(self.queries), 0), np.float32)
        for start in range(0, len(self.vectors), CHUNK_ROWS):
            chunk = np.ascontiguousarray(self.vectors[start : start + CHUNK_ROWS], np.float32)
            n = min(TOP_K + 1, len(chunk))
            scores, rows = faiss.knn(self.queries, chunk, n, metric=faiss.METRIC_INNER_PRODUCT)
            scores = np.where(rows + start == self.query_rows[:, None], -np.inf, scores)
            best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, :TOP_K]
        return best[:, -1]

    def recall(self, results: np.ndarray) -> float:
        """Return recall@10 of `results`, row numbers (q, 11).

        A result counts if its score reaches the tenth neighbor's, so ties count.
        """
        hits = 0
        for query, query_row, threshold, rows in zip(
            self.queries, self.query_rows, self.tenth_scores, results, strict=True
        ):
            top = rows[(rows >= 0) & (rows != query_row)][:TOP_K]
            scores = self.vectors[top].astype(np.float32) @ query
            hits += int((scores >= threshold - 1e-5).sum())
        per_query = min(TOP_K, max(1, len(self.vectors) - 1))
        return hits / len(self.queries) / per_query


def measure(index: FaissIndex, truth: GroundTruth, build_seconds: float = 0.0) -> Trial:
    """Measure recall, throughput (all queries at once) and latency (one by one) of an index."""
    n = min(TOP_K + 1, len(truth.vectors))
    start = time.perf_counter()
    results = index.search(truth.queries, n)[1]
    per_second = len(truth.queries) / (time.perf_counter() - start)
    latencies = []
    for query in truth.queries[:NUM_TIMED]:
        start = time.perf_counter()
        index.search(query[None], n)
        latencies.append(time.perf_counter() - start)
    p50, p99 = np.percentile(latencies, [50, 99]).tolist()
    recall = truth.recall(results)
    return Trial(
        index.kind, index.settings, recall, per_second, p50, p99, index.row_bytes, build_seconds
    )


def tune_settings(
    index: FaissIndex, truth: GroundTruth, recall: float = RECALL, build_seconds: float = 0.0
) -> tuple[FaissIndex, Trial]:
    """Return the index with the settings that reach `recall` fastest, and their measurement.

    Among settings nearly as fast as the fastest, the most exact wins. If none reaches `recall`, the
    most exact of all wins.
    """
    candidates = [index.with_settings(settings) for settings in index.candidates()]
    trials = [measure(candidate, truth, build_seconds) for candidate in candidates]
    target = min(1.0, recall + RECALL_MARGIN)
    exact_enough = [i for i, trial in enumerate(trials) if trial.recall >= target]
    fastest = min((trials[i].p50 for i in exact_enough), default=0.0)
    fast_enough = [i for i in exact_enough if trials[i].p50 <= MAX_SLOWDOWN * fastest]
    best = max(
        fast_enough or range(len(trials)),
        key=lambda i: (round(trials[i].recall, 3), -trials[i].p50),
    )
    return candidates[best], trials[best]


def build_tuned(
    vectors: np.ndarray, cross_modal: np.ndarray, kind: str | None, recall: float
) -> FaissIndex:
    """Build the index of `optimize`: of `kind` if `tune` selected one, else chosen by size."""
    index = build_index(choose_kind(len(vectors), vectors.shape[1], kind), vectors)
    if index.ann is None:
        return index
    return tune_settings(index, GroundTruth(vectors, cross_modal), recall)[0]


def run_trials(
    vectors: np.ndarray,
    cross_modal: np.ndarray,
    kinds: Sequence[str],
    requirements: Requirements,
    progress: Callable[[Trial], None],
) -> Iterator[tuple[FaissIndex, Trial]]:
    """Build and measure an index of each kind, with its best settings."""
    truth = GroundTruth(vectors, cross_modal)
    for kind in kinds:
        start = time.perf_counter()
        index = build_index(kind, vectors)
        build_seconds = time.perf_counter() - start
        index, trial = tune_settings(index, truth, requirements.recall, build_seconds)
        progress(trial)
        yield index, trial


def select_best(
    results: Sequence[tuple[FaissIndex, Trial]], requirements: Requirements, num_rows: int
) -> tuple[FaissIndex, Trial]:
    """Return the fastest index that meets the requirements; if none does, the most exact."""
    sufficient = [result for result in results if requirements.met_by(result[1], num_rows)]
    if sufficient:
        return min(sufficient, key=lambda result: result[1].p50)
    return max(results, key=lambda result: result[1].recall)
