"""From entries to their parts: which pieces get a vector, and what keyword search finds them by.

Pictures come decoded. Knows neither where entries come from nor where rows go.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from ravlm.data.parallel import batched
from ravlm.knowledge.index.analyzer import index_words
from ravlm.knowledge.records import EntryRow, PartRow
from ravlm.records import MODALITIES, Entry, Modality

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder


NEAR = 256
"""Given vectors that are brought to length 1 at a time: they stay in the processor's cache."""


@dataclass(slots=True)
class Item:
    """An entry on its way: what came, and what becomes of it."""

    entry: Entry
    place: str = ""
    """Where in its source it stood."""
    given: Mapping[Modality, np.ndarray] = field(default_factory=dict)
    """Ready-made vectors (n, dim) of its source, of which its own is that at the row `at`."""
    at: int = 0
    stored: str | None = None
    """The digest under which the id is stored."""
    texts: str = "[]"
    metadata: str = "{}"
    """The entry's as JSON; `facets` what filters find it by."""
    facets: Sequence[tuple[str, int, str | int | float]] = ()
    refused: str = ""
    unchanged: bool = False
    pixels: Image.Image | None = None
    look: bytes | None = None
    """What the picture looks like (see `duplicates`)."""
    repeats: str = ""
    """The id of the entry that has the same content."""
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
            entry.id, self.image, self.image_hash, self.texts, self.metadata, self.facets, self.digest, parts,
            self.picture, self.look, self.stored is not None,
        )  # fmt: skip


class Piece(NamedTuple):
    """What will be a part, but for its vector."""

    item: Item
    modality: Modality
    position: int = 0
    passage: str | None = None
    given: bool = False
    words: str | None = None


def encode(items: Sequence[Item], encoder: Callable[[], Encoder]) -> None:
    """Give every item its parts, or a reason to refuse it; the encoder is asked for only where it
    is needed.

    All items have the same `given`.
    """
    for modality in MODALITIES:
        texts = modality == "text"
        for having in batched((item for item in items if modality in item.given), NEAR):
            words = [index_words("\n".join(item.entry.texts)) if texts else None for item in having]
            pieces = [
                Piece(item, modality, 0, None, True, some)
                for item, some in zip(having, words, strict=True)
            ]
            _give(pieces, having[0].given[modality][[item.at for item in having]])
    _encode_pictures([item for item in items if item.pixels is not None], encoder)
    _encode_texts([item for item in items if "text" not in item.given], encoder)


def _encode_pictures(items: Sequence[Item], encoder: Callable[[], Encoder]) -> None:
    if items:
        vectors = encoder().encode_images(
            [item.pixels for item in items if item.pixels is not None]
        )
        for item in items:
            item.pixels = None
        _give([Piece(item, "image") for item in items], vectors)


def _encode_texts(items: Sequence[Item], encoder: Callable[[], Encoder]) -> None:
    pieces: list[Piece] = []
    read: list[str] = []
    for item in items:
        for position, text in enumerate(item.entry.texts):
            if text.strip():
                found = encoder().passages(text)
                read += found
                pieces += [
                    Piece(
                        item,
                        "text",
                        position,
                        None if len(found) == 1 else piece,
                        words=index_words(piece),
                    )
                    for piece in found
                ]
    if pieces:
        place = {
            text: at for at, text in enumerate(dict.fromkeys(read))
        }  # many entries may share a text
        _give(pieces, encoder().encode_texts(list(place))[[place[text] for text in read]])


def _give(pieces: Sequence[Piece], vectors: np.ndarray) -> None:
    """Give items these parts with their vectors (n, dim), brought to length 1 and half
    precision."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    good = np.isfinite(lengths) & (lengths > 0)
    halves = (vectors / np.where(good, lengths, 1)[:, None]).astype("<f2")
    size, data = halves.itemsize * halves.shape[1], halves.tobytes()
    fine = good.tolist()
    for at, (item, modality, position, passage, given, words) in enumerate(pieces):
        if fine[at]:
            vector = data[at * size : (at + 1) * size]
            item.parts.append(PartRow(modality, position, passage, vector, given, words))
        else:
            whose = "given" if given else "encoder's"
            item.refused = (
                f"Its {whose} {modality} vector has the length {lengths[at]}, and so no direction."
            )
