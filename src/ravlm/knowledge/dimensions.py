"""What shorter vectors of a Matryoshka encoder lose, measured on a base's own vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ravlm.encoders.truncated import truncate
from ravlm.errors import InvalidInput
from ravlm.knowledge.index.tuning import TOP_K, GroundTruth
from ravlm.records import MODALITIES, Modality

if TYPE_CHECKING:
    from ravlm.knowledge.base import KnowledgeBase

MAX_VECTORS = 20_000
"""Vectors of a modality that are compared."""
MIN_VECTORS = 2 * TOP_K
"""With fewer, nearly all of them are among the nearest ten."""


@dataclass(frozen=True)
class DimensionTrial:
    """Vectors cut to one length."""

    dim: int
    recall: Mapping[Modality, float]
    """Recall@10 per modality searched: how many of the ten nearest neighbors by whole vectors are
    among the ten nearest by cut ones."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a stored vector."""
        return 2 * self.dim


@dataclass(frozen=True)
class DimensionReport:
    """Result of `measure_dimensions`, longest vectors first."""

    encoder: str
    trials: tuple[DimensionTrial, ...]
    num_vectors: Mapping[Modality, int]
    """Vectors compared, per modality."""

    def __str__(self) -> str:
        modalities = list(self.num_vectors)
        head = "".join(f"{modality:>8}" for modality in modalities)
        lines = [f"{'dimensions':>10}{head}{'bytes':>8}"]
        for trial in self.trials:
            recalls = "".join(f"{trial.recall[modality]:>8.3f}" for modality in modalities)
            lines.append(f"{trial.dim:>10}{recalls}{trial.row_bytes:>8}")
        counts = ", ".join(f"{n:,} {modality}" for modality, n in self.num_vectors.items())
        lines.append(f"Recall@10 against whole vectors, among {counts} vectors.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        trials = [
            {"dimensions": t.dim, "recall": dict(t.recall), "bytes": t.row_bytes}
            for t in self.trials
        ]
        return {"encoder": self.encoder, "trials": trials, "vectors": dict(self.num_vectors)}


def measure_dimensions(
    kb: KnowledgeBase, dimensions: Sequence[int] | None = None
) -> DimensionReport:
    """Measure how well cut vectors find the neighbors that whole ones find.

    `dimensions` are by default the lengths that the encoder was trained for. Queries are vectors
    of the base, of both modalities. Raises InvalidInput for a length that is not shorter than the
    base's vectors, if none is known, and for a base with fewer than `MIN_VECTORS` vectors of
    every modality.
    """
    info = kb.info()
    lengths = _lengths(kb, dimensions, info.dim)
    samples = {m: _sample(kb, m, info.dim) for m in MODALITIES}
    large = {m: vectors for m, vectors in samples.items() if len(vectors) >= MIN_VECTORS}
    if not large:
        raise InvalidInput(
            f"The base has fewer than {MIN_VECTORS} vectors of each modality, too few to compare. "
            "Add more entries first."
        )
    recalls: dict[int, dict[Modality, float]] = {length: {} for length in lengths}
    for modality, vectors in large.items():
        (other,) = (m for m in MODALITIES if m != modality)
        truth = GroundTruth(vectors, samples[other])
        for length in lengths:
            recalls[length][modality] = _recall(truth, length)
    trials = tuple(DimensionTrial(length, recalls[length]) for length in lengths)
    return DimensionReport(info.encoder, trials, {m: len(v) for m, v in large.items()})


def _lengths(kb: KnowledgeBase, dimensions: Sequence[int] | None, dim: int) -> list[int]:
    """Return the lengths to measure, longest first, without the whole one."""
    if dimensions is None:
        dimensions = [length for length in kb.encoder.matryoshka_dims if length < dim]
        if not dimensions:
            raise InvalidInput(
                f'The encoder "{kb.encoder.name}" names no shorter lengths that it was trained '
                "for. Name those to measure: ravlm tune KB --dimensions 256 128"
            )
    for length in dimensions:
        if not 1 <= length < dim:
            raise InvalidInput(
                f"dimensions is {length}; the base's vectors have {dim}, so allowed are 1 to "
                f"{dim - 1}."
            )
    return sorted(set(dimensions), reverse=True)


def _sample(kb: KnowledgeBase, modality: Modality, dim: int) -> np.ndarray:
    parts = kb.sample(MAX_VECTORS, modality)
    return np.array([vector for _, _, vector in parts], np.float32).reshape(len(parts), dim)


def _recall(truth: GroundTruth, length: int) -> float:
    import faiss

    queries, vectors = truncate(truth.queries, length), truncate(truth.vectors, length)
    n = min(TOP_K + 1, len(vectors))
    _, rows = faiss.knn(queries, vectors, n, metric=faiss.METRIC_INNER_PRODUCT)
    return truth.recall(rows)
