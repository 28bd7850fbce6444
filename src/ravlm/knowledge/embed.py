"""Encode entries into parts: which passages get a vector, and their terms for keyword search.

Images arrive decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from ravlm.data.parallel import batched
from ravlm.errors import BrokenData
from ravlm.knowledge.index.analyzer import index_words
from ravlm.knowledge.records import EntryRow, PartRow
from ravlm.records import MODALITIES, Entry, Modality
from ravlm.search.filters import Facet

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder


NORMALIZE_BATCH = 256
"""Precomputed vectors that are normalized at a time: they fit in the CPU cache."""


@dataclass(slots=True)
class IngestItem:
    """An entry on its way into the base: the input, and what is computed for it."""

    entry: Entry
    location: str = ""
    """Location in its source."""
    vectors: Mapping[Modality, np.ndarray] = field(default_factory=dict)
    """Precomputed vectors (n, dim) of the source; the entry's own are those at `row`."""
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
    pixels: Image.Image | None = None
    perceptual_hash: bytes | None = None
    duplicate_of: str = ""
    """Id of the entry with the same content."""
    image: str | None = None
    image_hash: str | None = None
    image_bytes: bytes | None = None
    digest: str = ""
    seconds: float = 0.0
    parts: list[PartRow] = field(default_factory=list)

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
        words = index_words("\n".join(item.entry.texts)) if modality == "text" else None
        pending.append(PendingPart(item, modality, precomputed=True, words=words))
    rows = [item.row for item in items]
    _add_parts(pending, items[0].vectors[modality][rows])


def _encode_images(items: Sequence[IngestItem], encoder: Callable[[], Encoder]) -> None:
    if not items:
        return
    images = [item.pixels for item in items if item.pixels is not None]
    vectors = _encode_each(encoder().encode_images, images, encoder().dim)
    for item in items:
        item.pixels = None
    _add_parts([PendingPart(item, "image") for item in items], vectors)


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
    if pending:
        unique = {text: row for row, text in enumerate(dict.fromkeys(passages))}
        vectors = _encode_each(encoder().encode_texts, list(unique), encoder().dim)
        _add_parts(pending, vectors[[unique[text] for text in passages]])


def _encode_each(
    encode: Callable[[Sequence[Any]], np.ndarray], inputs: Sequence[Any], dim: int
) -> np.ndarray:
    """Return the vectors (n, dim) of a batch, NaN for an input whose vector is not finite.

    The encoder refuses a batch with such a vector; its other inputs are then encoded one by one.
    """
    try:
        return encode(inputs)
    except BrokenData:
        vectors = np.full((len(inputs), dim), np.nan, np.float32)
        for row, item in enumerate(inputs):
            with suppress(BrokenData):
                vectors[row] = encode([item])[0]
        return vectors


def _add_parts(pending: Sequence[PendingPart], vectors: np.ndarray) -> None:
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
            item.parts.append(PartRow(modality, position, passage, vector, precomputed, words))
        else:
            source = "precomputed" if precomputed else "encoded"
            item.error = (
                f"The {source} {modality} vector has length {lengths[row]}, so it has no direction."
            )
