"""From entries to their parts: which pieces get a vector, and what keyword search finds them by.

Pictures come decoded. Knows neither where entries come from nor where rows go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ravlm.knowledge.keywords import index_words
from ravlm.knowledge.schema import EntryRow, PartRow
from ravlm.records import Entry, Modality

if TYPE_CHECKING:
    from ravlm.encoders.base import DualEncoder


@dataclass
class Item:
    """An entry on its way: what came, and what becomes of it."""

    entry: Entry
    place: str = ""
    """Where in its source it stood."""
    given: Mapping[Modality, np.ndarray] = field(default_factory=dict)
    """Ready-made vectors (dim,)."""
    stored: str | None = None
    """The digest under which the id is stored."""
    metadata: str = "{}"
    """The entry's as JSON; `facets` what filters find it by."""
    facets: Sequence[tuple[str, int, str | int | float]] = ()
    refused: str = ""
    unchanged: bool = False
    pixels: Image.Image | None = None
    image: str | None = None
    image_hash: str | None = None
    picture: bytes | None = None
    digest: str = ""
    seconds: float = 0.0
    parts: list[PartRow] = field(default_factory=list)

    def row(self) -> EntryRow:
        """What the store takes."""
        entry, parts = self.entry, tuple(self.parts)
        return EntryRow(
            entry.id, self.image, self.image_hash, entry.texts, self.metadata, self.facets, self.digest, parts,
            self.picture,
        )  # fmt: skip


def encode(items: Sequence[Item], encoder: Callable[[], DualEncoder]) -> None:
    """Give every item its parts, or a reason to refuse it; the encoder is asked for only where it is needed."""
    for item in items:
        for modality, vector in item.given.items():
            words = index_words("\n".join(item.entry.texts)) if modality == "text" else None
            _give(item, PartRow(modality, 0, None, b"", True, words), vector)
    _encode_pictures([item for item in items if item.pixels is not None], encoder)
    _encode_texts([item for item in items if "text" not in item.given], encoder)


def _encode_pictures(items: Sequence[Item], encoder: Callable[[], DualEncoder]) -> None:
    if items:
        vectors = encoder().encode_images([item.pixels for item in items if item.pixels is not None])
        for item, vector in zip(items, vectors, strict=True):
            item.pixels = None
            _give(item, PartRow("image", 0, None, b"", False), vector)


def _encode_texts(items: Sequence[Item], encoder: Callable[[], DualEncoder]) -> None:
    pieces: list[tuple[Item, int, str | None, str]] = []
    for item in items:
        for position, text in enumerate(item.entry.texts):
            if text.strip():
                found = encoder().passages(text)
                pieces += [(item, position, None if len(found) == 1 else piece, piece) for piece in found]
    if pieces:
        texts = list(dict.fromkeys(piece for *_, piece in pieces))  # many entries may share a text
        vector_of = dict(zip(texts, encoder().encode_texts(texts), strict=True))
        for item, position, passage, piece in pieces:
            _give(item, PartRow("text", position, passage, b"", False, index_words(piece)), vector_of[piece])


def _give(item: Item, part: PartRow, vector: np.ndarray) -> None:
    """Add the part with its vector, brought to length 1 and half precision."""
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length == 0:
        whose = "given" if part.given else "encoder's"
        item.refused = f"Its {whose} {part.modality} vector has the length {length}, and so no direction."
        return
    item.parts.append(replace(part, vector=(np.asarray(vector, np.float32) / length).astype("<f2").tobytes()))
