"""Encode entries into parts: which passages get a vector, and their terms for keyword search.

Images arrive decoded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from ravlm.data.page_text import PageText, all_texts, in_context, is_page, region_text_index
from ravlm.data.parallel import batched
from ravlm.encoders.chunking import split_page
from ravlm.encoders.token_vectors import TokenVectors
from ravlm.errors import BrokenData
from ravlm.knowledge.entry_store import encode_regions
from ravlm.knowledge.index.analyzer import index_words
from ravlm.knowledge.index.keyword_fields import page_terms
from ravlm.knowledge.records import EntryRow, PartRow
from ravlm.records import MODALITIES, Entry, Modality
from ravlm.search.filters import Facet, facets

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
NORMALIZE_BATCH = 256
"""Precomputed vectors that are normalized at a time: they fit in the CPU cache."""


@dataclass(slots=True)
class IngestItem:
    """An entry on its way into the base: the input, and what is computed for it."""

    entry: Entry
    location: str = ""
    """Location in its source."""
    vectors: Mapping[Modality, np.ndarray | TokenVectors] = field(default_factory=dict)
    """Precomputed vectors (n, dim) of the source, or token vectors of n entries; the entry's own
    are those at `row`."""
    row: int = 0
    stored_digest: str | None = None
    """Digest of the stored entry of this id; None if there is none."""
    texts: str = "[]"
    """JSON list."""
    metadata: str = "{}"
    """JSON object."""
    facets: Sequence[Facet] = ()
    error: str = ""
    """Why the entry is rejected; empty if it is not."""
    unchanged: bool = False
    regions: str | None = None
    """JSON list; None without regions."""
    pixels: Image.Image | None = None
    tiles: Mapping[int, Image.Image] = field(default_factory=dict)
    """Regions that are parts of the image, by their number, from 1."""
    perceptual_hash: bytes | None = None
    duplicate_of: str = ""
    """Id of the entry with the same content."""
    image: str | None = None
    image_hash: str | None = None
    image_bytes: bytes | None = None
    fetched_image: bytes | None = None
    """Content of an image at an address, whose text is to be recognized."""
    is_scan: bool = False
    """Whether the image is a scanned page in a file of its own."""
    digest: str = ""
    seconds: float = 0.0
    parts: list[PartRow] = field(default_factory=list)

    def set_entry(self, entry: Entry) -> None:
        """Replace the entry, and the JSON forms of its metadata and regions.

        Raises TypeError or ValueError if the metadata is not JSON.
        """
        self.metadata = _JSON.encode(dict(entry.metadata))
        self.facets = facets(entry.metadata)
        self.regions = encode_regions(entry.regions)
        self.entry = entry

    def to_row(self) -> EntryRow:
        """Return the row for the store."""
        return EntryRow(
            self.entry.id,
            self.image,
            self.image_hash,
            self.texts,
            self.metadata,
            self.facets,
            self.digest,
            tuple(self.parts),
            self.image_bytes,
            self.perceptual_hash,
            self.stored_digest is not None,
            self.regions,
        )


class PendingPart(NamedTuple):
    """A part without its vector."""

    item: IngestItem
    modality: Modality
    position: int = 0
    passage: str | None = None
    precomputed: bool = False
    words: str | None = None


def encode_items(items: Sequence[IngestItem], encoder: Callable[[], Encoder]) -> None:
    """Fill the parts of every item, or its error.

    All items have the same `vectors`. `encoder` is called only if something must be encoded.
    """
    for modality in MODALITIES:
        with_vectors = (item for item in items if modality in item.vectors)
        for batch in batched(with_vectors, NORMALIZE_BATCH):
            _add_precomputed(batch, modality)
    _encode_images([item for item in items if item.pixels is not None], encoder)
    _encode_texts([item for item in items if "text" not in item.vectors], encoder)


def _add_precomputed(items: Sequence[IngestItem], modality: Modality) -> None:
    """Add one part per item; a text vector stands for all texts of its entry."""
    pending = []
    for item in items:
        words = index_words("\n".join(all_texts(item.entry))) if modality == "text" else None
        pending.append(PendingPart(item, modality, precomputed=True, words=words))
    rows = [item.row for item in items]
    vectors = items[0].vectors[modality]
    if isinstance(vectors, TokenVectors):
        _add_token_parts(pending, vectors.take(rows))
    else:
        _add_parts(pending, vectors[rows])


def _encode_images(items: Sequence[IngestItem], encoder: Callable[[], Encoder]) -> None:
    if not items:
        return
    pending = []
    images = []
    for item in items:
        for position, image in {0: item.pixels, **item.tiles}.items():
            pending.append(PendingPart(item, "image", position))
            images.append(image)
        item.pixels, item.tiles = None, {}
    tokens = _encode_each(encoder().encode_image_tokens, images, encoder().dim)
    _add_encoded(pending, tokens, encoder().token_pooling > 0)


def _encode_texts(items: Sequence[IngestItem], encoder: Callable[[], Encoder]) -> None:
    pending: list[PendingPart] = []
    passages: list[str] = []
    for item in items:
        for position, text in enumerate(item.entry.texts):
            if not text.strip():
                continue
            of_text = encoder().passages(text)
            passages += of_text
            for passage in of_text:
                stored_passage = None if len(of_text) == 1 else passage
                words = index_words(passage)
                pending.append(PendingPart(item, "text", position, stored_passage, words=words))
        position = region_text_index(item.entry)
        page = PageText.of(item.entry.regions)
        for passage in _page_passages(item.entry, page, encoder()):
            with_titles = in_context(item.entry, page, passage)
            fits = len(encoder().passages(with_titles)) == 1
            passages.append(with_titles if fits else passage)
            words = page_terms(item.entry, page, passage)
            pending.append(PendingPart(item, "text", position, passage, words=words))
    if pending:
        unique = {text: row for row, text in enumerate(dict.fromkeys(passages))}
        tokens = _encode_each(encoder().encode_text_tokens, list(unique), encoder().dim)
        tokens = tokens.take([unique[text] for text in passages])
        _add_encoded(pending, tokens, encoder().token_pooling > 0)


def _page_passages(entry: Entry, page: PageText, encoder: Encoder) -> Iterable[str]:
    """Return the passages of an entry's regions; one that occurs twice is one part."""
    title = str(entry.metadata.get("title", "")) if is_page(entry) else ""
    passages = split_page(page, encoder.passages, title) if page.text else []
    return dict.fromkeys(passage for passage in passages if passage.strip())


def _encode_each(
    encode: Callable[[Sequence[Any]], TokenVectors], inputs: Sequence[Any], dim: int
) -> TokenVectors:
    """Return the vectors of a batch, NaN for an input whose vectors are not finite.

    The encoder refuses a batch with such a vector; its other inputs are then encoded one by one.
    """
    try:
        return encode(inputs)
    except BrokenData:
        items = [np.full((1, dim), np.nan, np.float32)] * len(inputs)
        for row, item in enumerate(inputs):
            with suppress(BrokenData):
                items[row] = encode([item])[0]
        return TokenVectors.from_items(items, dim)


def _add_encoded(
    pending: Sequence[PendingPart], tokens: TokenVectors, is_multi_vector: bool
) -> None:
    """Add the parts with their token vectors; an encoder of single vectors has one per part."""
    if is_multi_vector:
        _add_token_parts(pending, tokens)
    else:
        _add_parts(pending, tokens.vectors)


def _add_token_parts(pending: Sequence[PendingPart], tokens: TokenVectors) -> None:
    """Add the parts with their token vectors, normalized and stored in half precision, and with the
    direction of their mean."""
    if not pending:
        return
    vectors = np.asarray(tokens.vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = TokenVectors((vectors / np.maximum(lengths, 1e-12)).astype("<f2"), tokens.starts)
    is_invalid = ~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0)
    pooled = units.pooled()
    pooled[np.logical_or.reduceat(is_invalid, tokens.starts[:-1])] = np.nan
    _add_parts(pending, pooled, [units[row].tobytes() for row in range(len(units))])


def _add_parts(
    pending: Sequence[PendingPart], vectors: np.ndarray, tokens: Sequence[bytes] | None = None
) -> None:
    """Add the parts with their vectors (n, dim), normalized and stored in half precision."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))  # (n,)
    valid = np.isfinite(lengths) & (lengths > 0)
    units = (vectors / np.where(valid, lengths, 1)[:, None]).astype("<f2")
    data = units.tobytes()
    size = units.itemsize * units.shape[1]
    is_valid = valid.tolist()
    for row, (item, modality, position, passage, precomputed, words) in enumerate(pending):
        if is_valid[row]:
            vector = data[row * size : (row + 1) * size]
            of_part = None if tokens is None else tokens[row]
            item.parts.append(
                PartRow(modality, position, passage, vector, precomputed, words, of_part)
            )
        else:
            source = "precomputed" if precomputed else "encoded"
            item.error = (
                f"The {source} {modality} vector has length {lengths[row]}, so it has no direction."
            )
