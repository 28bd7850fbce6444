"""Reranking: a second, slower judge of the candidates, behind one interface.

A judge is a function of the query and the candidates, or a cross-encoder of sentence-transformers
(anything with its `predict`), or "exact": the cosine of the stored vectors, where an index compared
shortened ones. Knows no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.records import Hit, ImageSource


@dataclass(frozen=True)
class Asked:
    """The query as it was asked."""

    text: str = ""
    image: ImageSource | None = None


class Reranker(Protocol):
    """Gives each candidate a score, higher is better; they replace the hits' scores."""

    def __call__(self, asked: Asked, hits: Sequence[Hit]) -> Sequence[float]:
        """A score for each hit, in order."""


@runtime_checkable
class CrossEncoder(Protocol):
    """As sentence-transformers has it: scores of pairs of texts."""

    def predict(self, inputs: Any) -> Any:
        """A score for each pair."""


Rerank: TypeAlias = "Reranker | CrossEncoder | Literal['exact']"


def check_rerank(rerank: object) -> None:
    """Raise InvalidInput where `rerank` is nothing that can rerank."""
    if (
        rerank is not None
        and rerank != "exact"
        and not callable(rerank)
        and not hasattr(rerank, "predict")
    ):
        raise InvalidInput(
            f'rerank is {rerank!r}; give "exact", a function of the query and its hits, or a cross-encoder.'
        )


def rerank_scores(rerank: Reranker | CrossEncoder, asked: Asked, hits: Sequence[Hit]) -> np.ndarray:
    """The judge's scores (n,) float32. Raises InvalidInput where it gives another number, or what
    is no number.

    A cross-encoder reads the query's words and the text that matched, or the entry's first one.
    """
    if not hits:
        return np.zeros(0, np.float32)
    if isinstance(rerank, CrossEncoder):
        if not asked.text:
            raise InvalidInput(
                "A cross-encoder compares texts, and the query has none; give text= too."
            )
        found = rerank.predict([(asked.text, hit.part.text or hit.entry.text) for hit in hits])
    else:
        found = rerank(asked, hits)
    scores = np.asarray(found, np.float32)
    if scores.shape != (len(hits),) or not np.isfinite(scores).all():
        raise InvalidInput(
            f"The reranker gave scores of the shape {scores.shape} for {len(hits)} hits; one finite number for each is "
            "needed."
        )
    return scores
