"""Choose how token vectors are coded, by recall and latency measured on a base's own parts.

The ground truth is the exact MaxSim of all token vectors. A trial is timed as it is searched: by
codes, and then by the vectors of the best rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ravlm.encoders.token_vectors import TokenVectors
from ravlm.knowledge.index.faiss_index import evenly_spaced
from ravlm.knowledge.index.maxsim_index import MaxSimIndex, TokenCells, search_depth
from ravlm.knowledge.index.token_codes import CODECS
from ravlm.knowledge.index.tuning import TOP_K, Requirements
from ravlm.knowledge.reports import Trial
from ravlm.search.maxsim import chunk_items, maxsim, weighted_query

NUM_QUERIES = 24
QUERY_TOKENS = 24
NOISE = 0.5
"""Length of the random vector that is added to each token of a query."""
Results = list[tuple[MaxSimIndex, Trial]]


def choose_kind(tuned_kind: str | None) -> str:
    """Return the kind of codes that `tune` selected, else the default."""
    return tuned_kind if tuned_kind in CODECS else next(iter(CODECS))


def sample_queries(tokens: TokenVectors) -> list[np.ndarray]:
    """Return queries (t, dim): some tokens of evenly spaced rows, with noise."""
    rng = np.random.default_rng(0)
    queries = []
    for row in evenly_spaced(len(tokens), NUM_QUERIES).tolist():
        vectors = np.asarray(tokens[row], np.float32)
        vectors = vectors[rng.integers(0, len(vectors), QUERY_TOKENS)]
        noise = rng.standard_normal(vectors.shape) * (NOISE / np.sqrt(vectors.shape[1]))
        noisy = vectors + noise
        units = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
        queries.append(weighted_query(units))
    return queries


def exact_scores(tokens: TokenVectors, queries: Sequence[np.ndarray]) -> np.ndarray:
    """Return the MaxSim of each query with each row, float32 (q, rows).

    The tokens may be memory-mapped: they are read once, in chunks.
    """
    scores = np.zeros((len(queries), len(tokens)), np.float32)
    for first, last in chunk_items(tokens.starts):
        start, end = tokens.starts[first], tokens.starts[last]
        chunk = np.asarray(tokens.vectors[start:end], np.float32)
        starts = tokens.starts[first : last + 1] - start
        for row, query in enumerate(queries):
            scores[row, first:last] = maxsim(query, chunk, starts)
    return scores


def run_trials(
    tokens: TokenVectors,
    scratch: Path,
    requirements: Requirements,
    progress: Callable[[Trial], None],
) -> Results:
    """Build and measure an index of each kind; all share their cells."""
    queries = sample_queries(tokens)
    scores = exact_scores(tokens, queries)
    truths = [set(np.argsort(-of_query)[:TOP_K].tolist()) for of_query in scores]
    cells: TokenCells | None = None
    results: Results = []
    for kind in CODECS:
        start = time.perf_counter()
        index = MaxSimIndex.build(tokens, kind, scratch / f"codes of {kind}", cells)
        build_seconds = time.perf_counter() - start
        cells = index.cells
        trial = _measure(index, tokens, queries, truths, build_seconds)
        progress(trial)
        results.append((index, trial))
    return results


def _measure(
    index: MaxSimIndex,
    tokens: TokenVectors,
    queries: Sequence[np.ndarray],
    truths: Sequence[set[int]],
    build_seconds: float,
) -> Trial:
    hits = 0
    latencies = []
    for query, truth in zip(queries, truths, strict=True):
        start = time.perf_counter()
        rows = index.search(query, search_depth(TOP_K)).rows
        compared = tokens.take(rows)
        order = np.argsort(-maxsim(query, compared.vectors, compared.starts))[:TOP_K]
        latencies.append(time.perf_counter() - start)
        hits += len(truth & set(rows[order].tolist()))
    p50, p99 = np.percentile(latencies, [50, 99]).tolist()
    recall = hits / sum(map(len, truths))
    per_second = len(queries) / sum(latencies)
    return Trial(
        index.kind, index.settings, recall, per_second, p50, p99, index.row_bytes, build_seconds
    )


def select_best(
    results: Results, requirements: Requirements, num_rows: int
) -> tuple[MaxSimIndex, Trial]:
    """Return the most exact index that meets the requirements; if none does, the most exact."""
    sufficient = [result for result in results if requirements.met_by(result[1], num_rows)]
    return max(sufficient or results, key=lambda result: result[1].recall)
