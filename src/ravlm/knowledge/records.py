"""Records that every backend stores: entries and parts as rows, and the identity of a base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ravlm.data.page_text import PageText, page_number
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
    token_pooling: int = 0
    """As of its encoder: 0 for one vector per part."""

    @classmethod
    def of_encoder(cls, base: str, encoder: Encoder) -> Identity:
        """Return the identity of a base with the vectors of this encoder."""
        return cls(base, encoder.name, encoder.fingerprint, encoder.dim, encoder.token_pooling)

    def with_encoder(self, encoder: Encoder) -> Identity:
        """Return the identity of the same base with the vectors of another encoder."""
        return self.of_encoder(self.base, encoder)

    @property
    def is_multi_vector(self) -> bool:
        """Whether a part has several vectors, one for each of its tokens."""
        return self.token_pooling > 0


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
    """Index of the text within the entry's texts, after which comes that of its regions. 0 for an
    image, n for the nth region that is a part of it."""
    passage: str | None
    """The passage of a long text; None for a whole text or an image."""
    vector: bytes
    """Unit vector, float16, little-endian."""
    precomputed: bool
    """Whether the caller supplied the vector instead of the encoder."""
    words: str | None = None
    """Terms for keyword search, separated by blanks; None for an image."""
    tokens: bytes | None = None
    """Token vectors of a multi-vector encoder: unit vectors (tokens, dim), float16, little-endian.
    `vector` is then the direction of their mean."""


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
    regions: str | None = None
    """JSON list; None without regions."""


def hit_part(entry: Entry, modality: Modality, position: int, passage: str | None) -> Part:
    """Return the part that a hit shows for a stored part of `entry`."""
    if modality == "image":
        box = entry.regions[position - 1].box if 0 < position <= len(entry.regions) else None
        return Part("image", box=box, page=page_number(entry.regions))
    if position >= len(entry.texts) and entry.regions:
        page = PageText.of(entry.regions)
        return page.part_of_passage(page.text if passage is None else passage, position)
    if passage is None:
        passage = entry.texts[position] if position < len(entry.texts) else ""
    return Part("text", position, passage)
