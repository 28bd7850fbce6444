"""Pictures of a base: where it finds one again, and how one is opened for the encoder. Knows no
store."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from PIL import Image

from ravlm.data.images import image_bytes, is_address, load_image
from ravlm.encoders.base import Encoder
from ravlm.records import ImageSource

FOLDER = "pictures"
"""Within the base: pictures that came as bytes, named by their content."""
_SUFFIXES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
}


@dataclass(frozen=True)
class Located:
    """A picture that was read: `image` is what the store keeps, an absolute path, an address or a
    path in the base."""

    image: str
    hash: str
    """SHA-256 of the encoded picture."""
    data: bytes
    keep: bool
    """Whether `data` must be written into the base, as it came without a place of its own."""


def opened(source: ImageSource, encoder: Encoder) -> Image.Image:
    """A picture decoded and shrunk to what `encoder` looks at, so that a batch of large ones fits
    into memory.

    Raises NotFound or BrokenData.
    """
    return encoder.prepare(load_image(source, edge=encoder.image_size))


def locate(source: ImageSource) -> Located:
    """Read a picture and say where it is. Raises NotFound or BrokenData."""
    data = image_bytes(source)
    hash_ = hashlib.sha256(data).hexdigest()
    if isinstance(source, str | os.PathLike):
        return Located(
            str(source) if is_address(source) else os.path.abspath(source), hash_, data, keep=False
        )
    suffix = next((suffix for start, suffix in _SUFFIXES.items() if data.startswith(start)), "")
    return Located(f"{FOLDER}/{hash_[:2]}/{hash_}{suffix}", hash_, data, keep=True)
