"""Find entries that are stored already under another id, by content or by appearance.

Duplicates are found before anything is encoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np
from PIL import Image

from ravlm.errors import InvalidInput, did_you_mean

Deduplicate = Literal["exact", "near"]
MAX_HASH_DISTANCE = 5
MAX_COLOR_DISTANCE = 10
"""Two images look the same if at most 5 of 64 hash bits differ and mean colors differ by at most
10 of 255.

Of 400 photos of Flickr8k, smaller copies (150 pixels, JPEG, quality 60) differ by 1 bit (median) or
4 (99th percentile), and no two photos by fewer than 11."""


def check_deduplicate(method: str | None) -> None:
    """Raise InvalidInput for an unknown method."""
    if method is not None and method not in get_args(Deduplicate):
        hint = did_you_mean(str(method), get_args(Deduplicate))
        raise InvalidInput(f'deduplicate is "{method}"; allowed: exact, near, or None.{hint}')


def perceptual_hash(image: Image.Image) -> bytes:
    """Return a hash of an image's appearance, 11 bytes.

    8 bytes tell for each of 8 x 8 cells whether it is brighter than its right neighbor (dHash, N.
    Krawetz, 2013); 3 bytes are the mean red, green and blue.
    """
    gray = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    mean_color = image.convert("RGB").resize((1, 1), Image.Resampling.BOX).tobytes()
    return np.packbits(gray[:, :-1] > gray[:, 1:]).tobytes() + mean_color


class DuplicateFinder:
    """Content and appearance of all entries of a base.

    The method `exact` compares the bytes of images (texts, if an entry has no image); `near` also
    compares appearances.
    """

    def __init__(
        self, method: Deduplicate, contents: Iterable[tuple[str, str | None, str, bytes | None]]
    ) -> None:
        """`contents`: id, image hash, texts as JSON and perceptual hash of each stored entry."""
        self.near = method == "near"
        self._id_by_content: dict[bytes, str] = {}
        self._hashes = np.zeros((1024, 11), np.uint8)  # grows by doubling
        self._hash_ids: list[str] = []
        for id_, image_hash, texts, hash_bytes in contents:
            self._add(id_, image_hash, texts, hash_bytes)

    def find_or_add(
        self, id_: str, image_hash: str | None, texts: str, hash_bytes: bytes | None
    ) -> str | None:
        """Return the id of the entry that this one duplicates; None if it is new.

        A new entry is remembered.
        """
        duplicate = self._id_by_content.get(_content_key(image_hash, texts))
        if duplicate is None and self.near and hash_bytes is not None:
            duplicate = self._find_similar(np.frombuffer(hash_bytes, np.uint8))
        if duplicate is None:
            self._add(id_, image_hash, texts, hash_bytes)
        return duplicate

    def _find_similar(self, target: np.ndarray) -> str | None:
        hashes = self._hashes[: len(self._hash_ids)]  # (n, 11)
        bits = np.bitwise_count(hashes[:, :8] ^ target[:8]).sum(axis=1)
        colors = np.abs(hashes[:, 8:].astype(np.int16) - target[8:]).max(axis=1, initial=0)
        similar = np.flatnonzero((bits <= MAX_HASH_DISTANCE) & (colors <= MAX_COLOR_DISTANCE))
        return self._hash_ids[similar[0]] if len(similar) else None

    def _add(self, id_: str, image_hash: str | None, texts: str, hash_bytes: bytes | None) -> None:
        self._id_by_content.setdefault(_content_key(image_hash, texts), id_)
        if not self.near or hash_bytes is None:
            return
        if len(self._hash_ids) == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
        self._hashes[len(self._hash_ids)] = np.frombuffer(hash_bytes, np.uint8)
        self._hash_ids.append(id_)


def _content_key(image_hash: str | None, texts: str) -> bytes:
    return hashlib.sha256((image_hash or f"texts {texts}").encode()).digest()[:16]
