"""Records that every backend stores: entries and parts as rows, and the identity of a base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ravlm.records import Entry, Modality, Part
from ravlm.search.filters import Facet

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

MODALITY_CODES: dict[Modality, int] = {"image": 0, "text": 1}
"""How a modality is written in a store."""
MODALITY_BY_CODE: dict[int, Modality] = {code: name for name, code in MODALITY_CODES.items()}


@dataclass(frozen=True)
class Identity:
    """Which base this is, and which encoder made its vectors."""

    base: str
    """Random id, assigned at creation, so that a snapshot of another base is never used here."""
    encoder: str
    """Name or path for `DualEncoder.load`."""
    fingerprint: str
    dim: int

    def with_encoder(self, encoder: Encoder) -> Identity:
        """Return the identity of the same base with the vectors of another encoder."""
        return Identity(self.base, encoder.name, encoder.fingerprint, encoder.dim)


class StoreState(NamedTuple):
    """State of a store: its last committed change and its identity."""

    change: int
    identity: Identity
    purged: int = 0
    """Change up to which the list of removed parts was cleared."""


class PartRow(NamedTuple):
    """A part to store."""

    modality: Modality
    position: int
    """Index of the text within the entry's texts; 0 for an image."""
    passage: str | None
    """The passage of a long text; None for a whole text or an image."""
    vector: bytes
    """Unit vector, float16, little-endian."""
    precomputed: bool
    """Whether the caller supplied the vector instead of the encoder."""
    words: str | None = None
    """Terms for keyword search, separated by blanks; None for an image."""


class EntryRow(NamedTuple):
    """An entry to store, validated and encoded."""

    id: str
    image: str | None
    """Absolute path, URL, or path within the base."""
    image_hash: str | None
    """SHA-256 of the encoded image."""
    texts: str
    """JSON list."""
    metadata: str
    """JSON object."""
    facets: Sequence[Facet]
    digest: str
    """Hash of the content: an entry with the same digest is not encoded again."""
    parts: tuple[PartRow, ...]
    image_bytes: bytes | None = None
    """Bytes to write to `image`, a path within the base."""
    perceptual_hash: bytes | None = None
    may_exist: bool = True
    """Whether an entry of this id may be stored already and must be replaced."""


def hit_part(entry: Entry, modality: Modality, position: int, passage: str | None) -> Part:
    """Return the part that a hit shows for a stored part of `entry`."""
    if modality == "image":
        return Part("image")
    if passage is None:
        passage = entry.texts[position] if position < len(entry.texts) else ""
    return Part("text", position, passage)
