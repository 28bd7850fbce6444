"""Changed copies of a base's images: how photos of one thing differ.

A calibration compares images with their copies. It stores their vectors, so that the next one
encodes only copies of images that are new."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image, ImageEnhance

from ravlm.data.images import load_image
from ravlm.data.parallel import batched
from ravlm.errors import BrokenData, NotFound
from ravlm.records import Entry, Part

if TYPE_CHECKING:
    from ravlm.encoders.base import Encoder

MAX_IMAGES = 160
"""Images of which copies are made."""
_COPIES_PER_IMAGE = 4
_BATCH_SIZE = 8

Sample: TypeAlias = "list[tuple[Entry, Part, np.ndarray]]"
"""Entry, part and vector (dim,) of images."""
ImageProgress: TypeAlias = "Callable[[int, int], None]"
"""Called with the number of images done and the total."""


@dataclass(frozen=True)
class ImageCopies:
    """Vectors of changed copies of images."""

    vectors: np.ndarray
    """float16 (images, copies of each, dim)"""
    keys: tuple[str, ...]
    """Id and checksum of the vector of each image."""

    @property
    def copies_per_image(self) -> int:
        return self.vectors.shape[1]

    @property
    def flat(self) -> np.ndarray:
        """All copies, those of an image after each other, float32 (c, dim)."""
        return self.vectors.reshape(-1, self.vectors.shape[2]).astype(np.float32)

    def by_key(self, copies_per_image: int) -> dict[str, np.ndarray]:
        """Return the vectors (copies_per_image, dim) by image; empty if there are fewer of each."""
        if copies_per_image > self.copies_per_image:
            return {}
        return dict(zip(self.keys, self.vectors[:, :copies_per_image], strict=True))


def encode_copies(
    encoder: Encoder,
    sample: Sample,
    earlier: ImageCopies | None = None,
    progress: ImageProgress | None = None,
) -> tuple[ImageCopies, np.ndarray]:
    """Return copies of up to `MAX_IMAGES` images of a sample, and the row (images,) of each.

    Vectors of `earlier` are reused. Images that can no longer be read are left out.
    """
    copies_per_image = max(1, min(_COPIES_PER_IMAGE, MAX_IMAGES // max(len(sample), 1)))
    vectors = {} if earlier is None else earlier.by_key(copies_per_image)
    keys = {row: _key(sample[row]) for row in _chosen_rows(sample)}
    pending = [row for row, key in keys.items() if key not in vectors]
    num_done = 0
    for batch in batched(pending, _BATCH_SIZE):
        images = {row: _copies(sample[row][0], encoder, copies_per_image) for row in batch}
        encoded = encoder.encode_images([copy for copies in images.values() for copy in copies])
        readable = [row for row, copies in images.items() if copies]
        by_image = encoded.reshape(len(readable), copies_per_image, encoder.dim)
        vectors |= {keys[row]: by_image[i] for i, row in enumerate(readable)}
        num_done += len(batch)
        if progress is not None:
            progress(num_done, len(pending))
    rows = [row for row, key in keys.items() if key in vectors]
    stacked = np.array([vectors[keys[row]] for row in rows], np.float16)
    stacked = stacked.reshape(len(rows), copies_per_image, encoder.dim)
    return ImageCopies(stacked, tuple(keys[row] for row in rows)), np.array(rows, np.int64)


def _chosen_rows(sample: Sample) -> list[int]:
    """Return the rows of the images that are copied, chosen by id: mostly the same ones in a larger
    sample."""
    ids = [entry.id.encode() for entry, _, _ in sample]
    return sorted(range(len(ids)), key=lambda row: (zlib.crc32(ids[row]), row))[:MAX_IMAGES]


def _key(item: tuple[Entry, Part, np.ndarray]) -> str:
    entry, _, vector = item
    return f"{zlib.crc32(vector.tobytes()):08x} {entry.id}"


def _copies(entry: Entry, encoder: Encoder, count: int) -> list[Image.Image]:
    """Return changed copies of an entry's image, the same ones every time; none without it."""
    if entry.image is None:
        return []
    try:
        image = load_image(entry.image, edge=encoder.image_size)
    except (NotFound, BrokenData):
        return []
    image.thumbnail((2 * encoder.image_size,) * 2)
    rng = np.random.default_rng(zlib.crc32(entry.id.encode()))
    return [changed_copy(image, rng) for _ in range(count)]


def changed_copy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return an image as another camera might have taken it: cropped, lighter or darker, noisy."""
    width, height = image.size
    side = np.sqrt(rng.uniform(0.65, 1.0))
    w, h = max(1, int(width * side)), max(1, int(height * side))
    x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    part = ImageEnhance.Brightness(image.crop((x, y, x + w, y + h))).enhance(rng.uniform(0.5, 1.2))
    pixels = np.asarray(part, np.float32) + rng.normal(0, rng.uniform(0, 8), (h, w, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
