"""Reranking: score the candidates of a search again with a slower, better model.

A reranker is a function of the query and its hits, a cross-encoder of sentence-transformers
(anything with `predict`), or "exact", the cosine of the stored vectors, for indexes that compare
compressed ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.records import Hit, ImageSource


@dataclass(frozen=True)
class RerankQuery:
    """The query as the user wrote it."""

    text: str = ""
    image: ImageSource | None = None


class Reranker(Protocol):
    """A function that scores hits; higher is better. Its scores replace those of the hits."""

    def __call__(self, query: RerankQuery, hits: Sequence[Hit], /) -> Sequence[float]:
        """Return one score per hit, in the same order."""


@runtime_checkable
class CrossEncoder(Protocol):
    """The interface of a cross-encoder in sentence-transformers."""

    def predict(self, inputs: Any) -> Any:
        """Return one score per pair of texts."""


Rerank: TypeAlias = "Reranker | CrossEncoder | Literal['exact']"


def check_rerank(rerank: object) -> None:
    """Raise InvalidInput if `rerank` cannot rerank."""
    if rerank is None or rerank == "exact" or callable(rerank) or hasattr(rerank, "predict"):
        return
    raise InvalidInput(
        f'rerank is {rerank!r}; give "exact", a function of the query and its hits, '
        "or a cross-encoder."
    )


def rerank_scores(
    rerank: Reranker | CrossEncoder, query: RerankQuery, hits: Sequence[Hit]
) -> np.ndarray:
    """Return the reranker's scores, float32 (n,).

    A cross-encoder reads the query's text with the text that matched, or else the entry's first
    text. Raises InvalidInput if the number of scores is wrong or a score is not finite.
    """
    if not hits:
        return np.zeros(0, np.float32)
    if isinstance(rerank, CrossEncoder):
        if not query.text:
            raise InvalidInput(
                "A cross-encoder compares texts, but the query has no text; give text= too."
            )
        pairs = [(query.text, hit.part.text or hit.entry.text) for hit in hits]
        output = rerank.predict(pairs)
    else:
        output = rerank(query, hits)
    scores = np.asarray(output, np.float32)
    if scores.shape != (len(hits),) or not np.isfinite(scores).all():
        raise InvalidInput(
            f"The reranker returned scores of shape {scores.shape} for {len(hits)} hits; "
            "it must return one finite number for each."
        )
    return scores
