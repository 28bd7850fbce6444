"""Decide whether a new entry is a duplicate, and say why.

The hash of an image only finds candidates. Each is confirmed twice: by a comparison of both images
in detail, and by the cosine of their vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ravlm.data.images import load_image
from ravlm.errors import BrokenData, RavlmError
from ravlm.knowledge.dedup import (
    DETAIL_EDGE,
    Deduplicate,
    DuplicateFinder,
    has_structure,
    looks_same,
)
from ravlm.knowledge.embed import IngestItem
from ravlm.knowledge.entry_store import EntryStore

if TYPE_CHECKING:
    from PIL import Image

    from ravlm.encoders.base import Encoder

MIN_COSINE = 0.7
"""Of 46 photos and their copies (150 pixels wide, JPEG, quality 60), the starter's vectors have a
cosine of 0.91 (median) and at least 0.76."""


class DuplicateCheck:
    """Finds the duplicates among new entries: of stored ones, and of each other."""

    def __init__(
        self, method: Deduplicate, store: EntryStore, encoder: Callable[[], Encoder]
    ) -> None:
        self._finder = DuplicateFinder(method, store.contents())
        self._store = store
        self._encoder = encoder
        self._unstored: dict[str, IngestItem] = {}
        self.reasons: dict[str, str] = {}
        """Why an entry is a duplicate, by its id."""

    def start_batch(self) -> None:
        """Forget the entries of the last batch, which are stored by now."""
        self._unstored.clear()

    def duplicate_of(self, item: IngestItem) -> str | None:
        """Return the id of the entry that `item` duplicates; None if it is new, and remember it."""
        id_ = item.entry.id
        texts = item.texts + (item.regions or "")
        other_id = self._finder.same_content(item.image_hash, texts)
        if other_id is not None:
            self.reasons[id_] = "the same texts" if item.image_hash is None else "the same image"
            return other_id
        candidates = self._finder.candidates(item.perceptual_hash)
        image = self._image(item) if candidates else None
        if image is not None and has_structure(image):
            for candidate in candidates:
                cosine = self._confirmed_cosine(item, image, candidate)
                if cosine is not None:
                    self.reasons[id_] = f"the images look the same, cosine {cosine:.3f}"
                    return candidate
        self._finder.add(id_, item.image_hash, texts, item.perceptual_hash)
        self._unstored[id_] = item
        return None

    def _confirmed_cosine(
        self, item: IngestItem, image: Image.Image, other_id: str
    ) -> float | None:
        """Return the cosine of two images that are the same; None if they are not, or gone."""
        other = self._unstored.get(other_id, other_id)
        other_image = self._image(other)
        if other_image is None or not looks_same(image, other_image):
            return None
        vectors = self._vector(item), self._vector(other)
        if vectors[0] is None or vectors[1] is None:
            return None
        cosine = float(vectors[0] @ vectors[1])
        return cosine if cosine >= MIN_COSINE else None

    def _image(self, source: IngestItem | str) -> Image.Image | None:
        """Return the image of a new or a stored entry, None if it can't be read any more."""
        if isinstance(source, str):
            entry = self._store.entries([source]).get(source)
        else:
            entry = source.entry
        if entry is None or entry.image is None:
            return None
        try:
            return load_image(entry.image, edge=DETAIL_EDGE)
        except RavlmError:
            return None

    def _vector(self, source: IngestItem | str) -> np.ndarray | None:
        """Return the unit vector (dim,) of the image of a new or a stored entry."""
        if isinstance(source, str):
            return self._store.image_vectors([source]).get(source)
        if source.pixels is None:
            return None
        try:
            return self._encoder().encode_images([source.pixels])[0]
        except BrokenData:  # a vector that is not finite; the entry is rejected when it is encoded
            return None
