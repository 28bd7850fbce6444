"""A query as a person gives it, checked and turned into vectors. Knows no store and no index."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ravlm.errors import InvalidInput, Mismatch, did_you_mean
from ravlm.knowledge.images import opened
from ravlm.records import MODALITIES, ImageSource, Modality
from ravlm.search.options import SearchOptions

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

KEYS = ("text", "image", "vector")


@dataclass(frozen=True)
class Query:
    """What is searched: words for keyword search, and unit vectors (dim,) by where they came
    from."""

    text: str = ""
    vectors: Mapping[str, np.ndarray] | None = None
    """Keys "text", "image" or "vector"; empty for a search by keywords alone."""
    image: ImageSource | None = None
    """The picture, for a reranker."""

    @property
    def own(self) -> Modality | None:
        """The modality the query is of; a picture with words counts as a picture, a bare vector as
        neither."""
        vectors = self.vectors or {}
        return "image" if "image" in vectors else "text" if "text" in vectors else None


def check_search(k: int, modality: str) -> tuple[Modality, ...]:
    """The modalities to look through. Raises InvalidInput for a k or modality that is not
    allowed."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InvalidInput(f"k is {k!r}; a number of hits from 1 on is needed.")
    if modality == "any":
        return MODALITIES
    for known in MODALITIES:
        if modality == known:
            return (known,)
    raise InvalidInput(
        f'modality is "{modality}"; allowed: any, image, text.{did_you_mean(modality, ("any", *MODALITIES))}'
    )


def read_queries(
    queries: Sequence[Mapping[str, Any]],
    options: SearchOptions,
    modalities: Sequence[Modality],
    dim: int,
    encoder: Callable[[], Encoder],
) -> list[Query]:
    """Check and encode queries: all texts in one call, all pictures in another. The encoder is
    asked for only then."""
    for query in queries:
        bare = type(query) is dict and query.keys() == {"vector"} and query["vector"] is not None
        if not bare or options.method != "dense":
            _check(query, options, modalities)
    found: list[dict[str, np.ndarray]] = [{} for _ in queries]
    if options.method != "keyword":
        given = [at for at, query in enumerate(queries) if query.get("vector") is not None]
        if given:
            for at, vector in zip(
                given, _units([queries[at]["vector"] for at in given], dim), strict=True
            ):
                found[at]["vector"] = vector
        texts = [at for at, query in enumerate(queries) if query.get("text") is not None]
        images = [at for at, query in enumerate(queries) if query.get("image") is not None]
        if texts:
            for at, vector in zip(
                texts, encoder().encode_texts([queries[at]["text"] for at in texts]), strict=True
            ):
                found[at]["text"] = vector
        if images:
            pixels = [opened(queries[at]["image"], encoder()) for at in images]
            for at, vector in zip(images, encoder().encode_images(pixels), strict=True):
                found[at]["image"] = vector
    return [
        Query(query.get("text") or "", vectors, query.get("image"))
        for query, vectors in zip(queries, found, strict=True)
    ]


def _check(
    query: Mapping[str, Any], options: SearchOptions, modalities: Sequence[Modality]
) -> None:
    if not isinstance(query, Mapping):
        raise InvalidInput(
            f'A query is a mapping as {{"text": "a red boat"}}, not {type(query).__name__}.'
        )
    for key in query:
        if key not in KEYS:
            raise InvalidInput(
                f'A query has the key "{key}"; allowed: {", ".join(KEYS)}.{did_you_mean(str(key), KEYS)}'
            )
    given = [key for key in KEYS if query.get(key) is not None]
    if not given:
        raise InvalidInput("The search has no query; give text=, image=, both, or vector=.")
    if "vector" in given and len(given) > 1:
        raise InvalidInput(f"The search has vector= and {given[0]}=; a vector stands alone.")
    if "text" in given:
        if not isinstance(query["text"], str):
            raise InvalidInput(
                f"text= is of type {type(query['text']).__name__}; a string is needed."
            )
        if not query["text"].strip():
            raise InvalidInput("The search text is empty; write what to look for.")
    if options.method != "dense":
        if "text" not in given:
            raise InvalidInput(
                f'method="{options.method}" compares words, and the query has none; give text= too.'
            )
        if "text" not in modalities:
            raise InvalidInput(
                f'method="{options.method}" looks into texts, and modality="image" leaves them out; use method="dense".'
            )
        if options.method == "keyword" and ("image" in given or options.near_duplicate is not None):
            raise InvalidInput(
                'method="keyword" compares no vectors, so image= and near_duplicate= mean nothing to it; use "hybrid".'
            )


def _units(vectors: Sequence[Any], dim: int) -> np.ndarray:
    """The vectors as rows of length 1, float32 (n, dim)."""
    rows = np.array([_row(vector, dim) for vector in vectors])
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    bad = lengths[~(np.isfinite(lengths) & (lengths > 0))]
    if len(bad):
        raise InvalidInput(f"vector= has the length {bad[0]}, and so no direction.")
    return np.asarray(rows / lengths, np.float32)


def _row(vector: Any, dim: int) -> np.ndarray:
    try:
        row = np.asarray(vector, np.float32)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"vector= is not a row of numbers but {type(vector).__name__}."
        ) from None
    if row.shape != (dim,):
        raise Mismatch(
            f"vector= has the shape {row.shape}, and this base's encoder gives ({dim},); bring one of it."
        )
    return row
