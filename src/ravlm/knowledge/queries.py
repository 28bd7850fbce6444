"""Validate queries and turn them into vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ravlm.data.text import check_unicode
from ravlm.encoders.base import check_finite
from ravlm.errors import InvalidInput, Mismatch, did_you_mean
from ravlm.knowledge.images import open_image
from ravlm.knowledge.records import Identity
from ravlm.records import MODALITIES, ImageSource, Modality
from ravlm.search.maxsim import weighted_query
from ravlm.search.options import SearchOptions

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

QUERY_KEYS = ("text", "image", "vector")
AnyModality = Literal["any", "image", "text"]
"""The modalities of a search."""


@dataclass(frozen=True)
class EncodedQuery:
    """A query: its text for keyword search, and its vectors by source.

    They are unit vectors (dim,); of a multi-vector encoder also (t, dim), which
    `ravlm.search.maxsim.weighted_query` returned.
    """

    text: str = ""
    vectors: Mapping[str, np.ndarray] | None = None
    """Keys "text", "image" or "vector"; empty for a keyword search."""
    image: ImageSource | None = None
    """The image as given, for a reranker."""

    @property
    def modality(self) -> Modality | None:
        """Modality of the query: an image with a text counts as an image, a bare vector as None."""
        vectors = self.vectors or {}
        if "image" in vectors:
            return "image"
        return "text" if "text" in vectors else None


def check_search(k: int, modality: str) -> tuple[Modality, ...]:
    """Return the modalities to search. Raises InvalidInput for an invalid k or modality."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
        raise InvalidInput(f"k is {k!r}; give a number of hits, at least 1.")
    if modality == "any":
        return MODALITIES
    for name in MODALITIES:
        if modality == name:
            return (name,)
    hint = did_you_mean(modality, ("any", *MODALITIES))
    raise InvalidInput(f'modality is "{modality}"; allowed: any, image, text.{hint}')


class QueryBatch(NamedTuple):
    """The queries that share their options, with their positions."""

    positions: Sequence[int]
    queries: Sequence[Mapping[str, Any]]
    options: SearchOptions

    @classmethod
    def group(
        cls, queries: Sequence[Mapping[str, Any]], options: SearchOptions | Sequence[SearchOptions]
    ) -> list[QueryBatch]:
        """Group queries by their options: one for all, or a sequence with one per query."""
        if isinstance(options, SearchOptions):
            return [cls(range(len(queries)), queries, options)]
        if len(options) != len(queries):
            raise InvalidInput(
                f"There are {len(queries)} queries and {len(options)} options; "
                "give one for each query."
            )
        positions_by_options: dict[int, list[int]] = {}
        for position, shared in enumerate(options):
            positions_by_options.setdefault(id(shared), []).append(position)
        return [
            cls(positions, [queries[i] for i in positions], options[positions[0]])
            for positions in positions_by_options.values()
        ]


def encode_queries(
    queries: Sequence[Mapping[str, Any]],
    options: SearchOptions,
    modalities: Sequence[Modality],
    identity: Identity,
    encoder: Callable[[Sequence[Modality]], Encoder],
) -> list[EncodedQuery]:
    """Validate and encode queries, all texts in one batch and all images in another.

    `encoder` returns the encoder of the base with this `identity`, verified for the modalities
    passed to it. It is called only if something must be encoded.
    """
    for query in queries:
        if options.method != "dense" or not _is_bare_vector(query):
            _check_query(query, options, modalities)
    vectors: list[dict[str, np.ndarray]] = [{} for _ in queries]
    if options.method != "keyword" or options.relevance:
        _add_vectors(vectors, queries, identity)
        _add_texts(vectors, queries, encoder)
        _add_images(vectors, queries, encoder)
    return [
        EncodedQuery(query.get("text") or "", query_vectors, query.get("image"))
        for query, query_vectors in zip(queries, vectors, strict=True)
    ]


def _is_bare_vector(query: object) -> bool:
    """Return True for the query that needs no further check; batches of them are searched fast."""
    return type(query) is dict and query.keys() == {"vector"} and query["vector"] is not None


def _positions(queries: Sequence[Mapping[str, Any]], key: str) -> list[int]:
    return [position for position, query in enumerate(queries) if query.get(key) is not None]


def _add_vectors(
    vectors: list[dict[str, np.ndarray]], queries: Sequence[Mapping[str, Any]], identity: Identity
) -> None:
    positions = _positions(queries, "vector")
    rows = [_vector_row(queries[position]["vector"], identity) for position in positions]
    single = [row for row in rows if row.ndim == 1]
    units = iter(_unit_vectors(np.stack(single)) if single else ())
    for position, row in zip(positions, rows, strict=True):
        vectors[position]["vector"] = (
            next(units) if row.ndim == 1 else weighted_query(_unit_vectors(row))
        )


def _add_texts(
    vectors: list[dict[str, np.ndarray]],
    queries: Sequence[Mapping[str, Any]],
    encoder: Callable[[Sequence[Modality]], Encoder],
) -> None:
    positions = _positions(queries, "text")
    if positions:
        texts = [queries[position]["text"] for position in positions]
        encoded = _encode(encoder(("text",)), "text", texts)
        for position, of_text in zip(positions, encoded, strict=True):
            vectors[position]["text"] = of_text


def _add_images(
    vectors: list[dict[str, np.ndarray]],
    queries: Sequence[Mapping[str, Any]],
    encoder: Callable[[Sequence[Modality]], Encoder],
) -> None:
    positions = _positions(queries, "image")
    if positions:
        image_encoder = encoder(("image",))
        images = [open_image(queries[position]["image"], image_encoder) for position in positions]
        encoded = _encode(image_encoder, "image", images)
        for position, of_image in zip(positions, encoded, strict=True):
            vectors[position]["image"] = of_image


def _encode(encoder: Encoder, modality: Modality, inputs: Sequence[Any]) -> list[np.ndarray]:
    """Return the vectors of each text or image to search with, (dim,) or (t, dim)."""
    is_text = modality == "text"
    if not encoder.token_pooling:
        encode = encoder.encode_texts if is_text else encoder.encode_images
        return list(check_finite(encode(inputs, role="query"), encoder.name))
    encode_tokens = encoder.encode_text_tokens if is_text else encoder.encode_image_tokens
    tokens = encode_tokens(inputs, role="query")
    check_finite(tokens.vectors, encoder.name)
    return [weighted_query(tokens[row]) for row in range(len(tokens))]


def _check_query(
    query: Mapping[str, Any], options: SearchOptions, modalities: Sequence[Modality]
) -> None:
    if not isinstance(query, Mapping):
        raise InvalidInput(
            f'A query is a mapping such as {{"text": "a red boat"}}, not {type(query).__name__}.'
        )
    for key in query:
        if key not in QUERY_KEYS:
            hint = did_you_mean(str(key), QUERY_KEYS)
            raise InvalidInput(
                f'A query has the unknown key "{key}"; allowed: {", ".join(QUERY_KEYS)}.{hint}'
            )
    keys = [key for key in QUERY_KEYS if query.get(key) is not None]
    if not keys:
        raise InvalidInput("The search has no query; give text=, image=, both, or vector=.")
    if "vector" in keys and len(keys) > 1:
        raise InvalidInput(
            f"The search has both vector= and {keys[0]}=; vector= cannot be combined."
        )
    if "text" in keys:
        _check_text(query["text"])
    if options.method != "dense":
        _check_keyword_search(keys, options, modalities)


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise InvalidInput(f"text= is of type {type(text).__name__}; give a string.")
    if not text.strip():
        raise InvalidInput("The search text is empty; write what to look for.")
    check_unicode(text)


def _check_keyword_search(
    keys: Sequence[str], options: SearchOptions, modalities: Sequence[Modality]
) -> None:
    method = options.method
    if "text" not in keys:
        raise InvalidInput(
            f'method="{method}" compares words, but the query has no text; give text= too.'
        )
    if "text" not in modalities:
        raise InvalidInput(
            f'method="{method}" searches texts, but modality="image" excludes them; '
            'use method="dense".'
        )
    if method == "keyword" and ("image" in keys or options.near_duplicate is not None):
        raise InvalidInput(
            'method="keyword" compares no vectors, so image= and near_duplicate= have no effect; '
            'use method="hybrid".'
        )


def _unit_vectors(rows: np.ndarray) -> np.ndarray:
    """Return vectors (n, dim) scaled to length 1, float32."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)  # (n, 1)
    invalid = lengths[~(np.isfinite(lengths) & (lengths > 0))]
    if len(invalid):
        raise InvalidInput(f"vector= has length {invalid[0]}, so it has no direction.")
    return np.asarray(rows / lengths, np.float32)


def _vector_row(vector: Any, identity: Identity) -> np.ndarray:
    """Return a vector (dim,), or several (t, dim) for a base of a multi-vector encoder."""
    dim = identity.dim
    try:
        row = np.asarray(vector, np.float32)
    except (TypeError, ValueError):
        raise InvalidInput(
            f"vector= is of type {type(vector).__name__}; give {dim} numbers."
        ) from None
    is_several = identity.is_multi_vector and row.ndim == 2 and len(row) > 0
    if row.shape != (dim,) and not (is_several and row.shape[1] == dim):
        shape = f"(tokens, {dim})" if identity.is_multi_vector else f"({dim},)"
        raise Mismatch(
            f"vector= has shape {row.shape}, but this base's encoder produces {shape}; "
            "give a vector of that encoder."
        )
    return row
