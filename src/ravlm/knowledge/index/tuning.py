"""Which kind of index, and how much a query may spend: measured on a base's own vectors against the
exact truth.

Knows Faiss's indexes and vectors, no store.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.knowledge.index.faiss_index import (
    PIECE,
    FaissIndex,
    choices,
    chosen_kind,
    make,
    parameters,
)
from ravlm.knowledge.reports import Trial

TOP = 10
"""Recall is that of the ten best."""
QUESTIONS, TIMED = 500, 50
"""Vectors that are looked for, and how many of them one by one, for the time of one search."""
RECALL, MARGIN = 0.95, 0.015
"""The recall that `optimize` brings, and how much more is asked of the sample, as other queries
will vary."""
NEARLY = 1.25
"""What settings may cost beside the fastest, where they find more."""


@dataclass(frozen=True)
class Requirements:
    """What an index must do. `memory` in bytes for all vectors of the modality, `latency` in
    seconds a search."""

    recall: float = RECALL
    memory: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise InvalidInput(
                f"recall is {self.recall}; a share above 0 and up to 1 is needed: 0.95, say."
            )
        for name in ("memory", "latency"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise InvalidInput(f"{name} is {value}; a value above 0 is needed.")

    def met_by(self, trial: Trial, rows: int) -> bool:
        """Whether the trial is good enough for so many vectors."""
        small = self.memory is None or trial.row_bytes * rows <= self.memory
        return (
            trial.recall >= self.recall
            and small
            and (self.latency is None or trial.p50 <= self.latency)
        )


class GroundTruth:
    """Queries with their exact ten best among `vectors` (n, dim).

    Half of the queries are such vectors themselves, which are then not counted among their hits,
    and half those of `others` (m, dim), where there are any: texts look for pictures too, and lie
    elsewhere."""

    def __init__(self, vectors: np.ndarray, others: np.ndarray) -> None:
        self.vectors = vectors
        mine = _spread(len(vectors), QUESTIONS // 2 if len(others) else QUESTIONS)
        foreign = _spread(len(others), QUESTIONS - QUESTIONS // 2)
        self.queries = np.concatenate([vectors[mine], others[foreign]]).astype(np.float32)
        self.own = np.concatenate([mine, np.full(len(foreign), -1)])
        self.least = self._tenth_best()

    def _tenth_best(self) -> np.ndarray:
        import faiss

        best = np.zeros((len(self.queries), 0), np.float32)
        for start in range(0, len(self.vectors), PIECE):
            piece = np.ascontiguousarray(self.vectors[start : start + PIECE], np.float32)
            n = min(TOP + 1, len(piece))
            scores, rows = faiss.knn(self.queries, piece, n, metric=faiss.METRIC_INNER_PRODUCT)
            scores = np.where(rows + start == self.own[:, None], -np.inf, scores)
            best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, :TOP]
        return best[:, -1]

    def recall(self, rows: np.ndarray) -> float:
        """Share of the ten best that stand in `rows` (q, 11): those at least as near as the tenth,
        so ties count."""
        good = []
        for query, own, least, found in zip(self.queries, self.own, self.least, rows, strict=True):
            some = found[(found >= 0) & (found != own)][:TOP]
            good.append((self.vectors[some].astype(np.float32) @ query >= least - 1e-5).sum())
        return float(np.mean(good)) / min(TOP, max(1, len(self.vectors) - 1))


def measured(made: FaissIndex, truth: GroundTruth, build_seconds: float = 0.0) -> Trial:
    """Recall and speed of an index with its settings, by queries that come together and one by
    one."""
    n = min(TOP + 1, len(truth.vectors))

    def ask(queries: np.ndarray) -> np.ndarray:
        if made.shortcut is None:
            return made.rows.search(queries, n)[1]
        return made.shortcut.search(queries, n, params=parameters(made, n))[1]

    start = time.perf_counter()
    rows = ask(truth.queries)
    rate = len(truth.queries) / (time.perf_counter() - start)
    seconds = []
    for at in range(min(TIMED, len(truth.queries))):
        start = time.perf_counter()
        ask(truth.queries[at : at + 1])
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.percentile(seconds, [50, 99]).tolist()
    return Trial(
        made.kind, made.settings, truth.recall(rows), rate, p50, p99, made.row_bytes, build_seconds
    )


def settled(
    made: FaissIndex, truth: GroundTruth, recall: float = RECALL, build_seconds: float = 0.0
) -> tuple[FaissIndex, Trial]:
    """The index with settings that reach `recall`: of those that are nearly as fast as the fastest,
    the most exact.

    Where none reaches it, those that come nearest to it.
    """
    tried = [replace(made, settings=settings) for settings in choices(made.kind)]
    trials = [measured(each, truth, build_seconds) for each in tried]
    good = [at for at, trial in enumerate(trials) if trial.recall >= min(1.0, recall + MARGIN)]
    fastest = min((trials[at].p50 for at in good), default=0.0)
    near = [at for at in good if trials[at].p50 <= NEARLY * fastest] or range(len(trials))
    best = max(near, key=lambda at: (round(trials[at].recall, 3), -trials[at].p50))
    return tried[best], trials[best]


def made_for(
    vectors: np.ndarray, others: np.ndarray, kind: str | None, recall: float
) -> FaissIndex:
    """The index that `optimize` makes: of a kind that was chosen by measurement, else by size."""
    made = make(chosen_kind(len(vectors), vectors.shape[1], kind), vectors)
    return made if made.shortcut is None else settled(made, GroundTruth(vectors, others), recall)[0]


def trials(
    vectors: np.ndarray,
    others: np.ndarray,
    kinds: Sequence[str],
    wishes: Requirements,
    told: Callable[[Trial], None],
) -> Iterator[tuple[FaissIndex, Trial]]:
    """Make and measure each kind with its best settings."""
    truth = GroundTruth(vectors, others)
    for kind in kinds:
        start = time.perf_counter()
        made = make(kind, vectors)
        found = settled(made, truth, wishes.recall, time.perf_counter() - start)
        told(found[1])
        yield found


def best_of(
    found: Sequence[tuple[FaissIndex, Trial]], wishes: Requirements, rows: int
) -> tuple[FaissIndex, Trial]:
    """The fastest that does what is wished; where none does, the one of the highest recall."""
    good = [item for item in found if wishes.met_by(item[1], rows)]
    if good:
        return min(good, key=lambda item: item[1].p50)
    return max(found, key=lambda item: item[1].recall)


def _spread(rows: int, n: int) -> np.ndarray:
    """Up to n rows drawn evenly over all."""
    return (
        np.unique(np.linspace(0, rows - 1, min(n, rows)).astype(np.int64))
        if rows
        else np.zeros(0, np.int64)
    )
