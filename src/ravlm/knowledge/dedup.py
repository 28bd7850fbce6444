"""Find entries that are stored already under another id, by content or by appearance.

A short hash of the appearance finds candidates among all entries. It proves nothing by itself:
pages of text and other images with little structure at 8 x 8 cells share it. `looks_same` compares
two images in detail.
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
"""Two images may be the same if at most 5 of 64 hash bits differ and mean colors differ by at most
10 of 255.

Of 400 photos of Flickr8k, smaller copies (150 pixels, JPEG, quality 60) differ by 1 bit (median) or
4 (99th percentile), and no two photos by fewer than 11."""

DETAIL_EDGE = 800
"""Shorter side in pixels at which images are loaded for `looks_same`."""
_MAX_DETAIL = 480
_DETAIL_SHARE = 0.6
"""Images are compared at 0.6 of the smaller one's shorter side, at most at 480 x 480 pixels: a
small copy has no finer detail."""
_BLOCK = 12
_NOISE = 40.0
_MAX_CHANGE = 0.3
_MAX_DIFFERENCE = 1.5
"""A block of 12 x 12 pixels differs if the mean square of the difference of details exceeds 1.5
times (40 + 0.3 of their mean square).

That ratio was at most 1.6 (99th percentile 1.26) for 440 copies of photos, 150 or 300 pixels wide,
JPEG, quality 60; at most 1.17 for copies of drawn pages; and at least 3.2 for different pages,
letters of the alphabet, and forms in which one line differs."""
_MIN_ENERGY = 100.0
_MIN_STRUCTURE = 3
"""Blocks with a mean square of details of 100 that prove something."""
_MIN_STEPS = 8
_STEP = 8
"""Or: of the 64 steps between neighboring cells, those of at least 8 gray levels."""
_MAX_CELL_DIFFERENCE = 32
"""Of 255, of the mean red, green or blue of a cell of 8 x 8."""
MAX_CANDIDATES = 16
"""Entries with the nearest hashes that are compared in detail."""


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


def hash_distances(hashes: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the distances of perceptual hashes, uint8 (n, 11), from `target` (11,).

    A distance is infinite if the images can't be the same.
    """
    bits = np.bitwise_count(hashes[:, :8] ^ target[:8]).sum(axis=1)  # (n,)
    colors = np.abs(hashes[:, 8:].astype(np.int16) - target[8:]).max(axis=1, initial=0)
    may_match = (bits <= MAX_HASH_DISTANCE) & (colors <= MAX_COLOR_DISTANCE)
    return np.where(may_match, bits + colors / 256, np.inf)


def looks_same(first: Image.Image, second: Image.Image) -> bool:
    """Return whether two images show the same, as copies in another size or format do.

    Colors are compared in 8 x 8 cells, details (the image without its local mean) in small blocks,
    each of which must agree: two pages of one form differ in some of them only. It proves little
    for images without structure; see `has_structure`.
    """
    cells = [_resized(image.convert("RGB"), 8) for image in (first, second)]  # (8, 8, 3)
    if np.abs(cells[0] - cells[1]).max() > _MAX_CELL_DIFFERENCE:
        return False
    side = int(_DETAIL_SHARE * min(first.size + second.size))
    num_blocks = max(5, min(side, _MAX_DETAIL) // _BLOCK)
    details, others = (_detail_blocks(image, num_blocks) for image in (first, second))
    energy = np.maximum((details**2).mean(axis=1), (others**2).mean(axis=1))  # (blocks,)
    difference = ((details - others) ** 2).mean(axis=1)
    return bool((difference <= _MAX_DIFFERENCE * (_NOISE + _MAX_CHANGE * energy)).all())


def has_structure(image: Image.Image) -> bool:
    """Return whether an image has details or gradients by which it can be told from others."""
    side = int(_DETAIL_SHARE * min(image.size))
    details = _detail_blocks(image, max(5, min(side, _MAX_DETAIL) // _BLOCK))
    steps = np.abs(np.diff(_resized(image.convert("L"), 8), axis=1))
    num_blocks = ((details**2).mean(axis=1) > _MIN_ENERGY).sum()
    return bool(num_blocks >= _MIN_STRUCTURE or (steps >= _STEP).sum() >= _MIN_STEPS)


def _detail_blocks(image: Image.Image, num_blocks: int) -> np.ndarray:
    """Return the gray image minus its mean over 5 x 5 pixels, as (num_blocks^2, 144)."""
    gray = _resized(image.convert("L"), num_blocks * _BLOCK)
    padded = np.pad(gray, 2, mode="edge")
    sums = np.pad(padded.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    local_sums = sums[5:, 5:] - sums[:-5, 5:] - sums[5:, :-5] + sums[:-5, :-5]
    blocks = (gray - local_sums / 25).reshape(num_blocks, _BLOCK, num_blocks, _BLOCK)
    return blocks.transpose(0, 2, 1, 3).reshape(num_blocks**2, _BLOCK**2)


def _resized(image: Image.Image, side: int) -> np.ndarray:
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float64)


class DuplicateFinder:
    """Content and appearance of all entries of a base.

    The method `exact` compares the bytes of images (texts, if an entry has no image); `near` also
    finds candidates by their appearance.
    """

    def __init__(
        self, method: Deduplicate, contents: Iterable[tuple[str, str | None, str, bytes | None]]
    ) -> None:
        """`contents`: those of all stored entries, as `EntryStore.contents` yields them."""
        self.near = method == "near"
        self._id_by_content: dict[bytes, str] = {}
        self._hashes = np.zeros((1024, 11), np.uint8)  # grows by doubling
        self._hash_ids: list[str] = []
        for id_, image_hash, texts, hash_bytes in contents:
            self.add(id_, image_hash, texts, hash_bytes)

    def same_content(self, image_hash: str | None, texts: str) -> str | None:
        """Return the id of the entry with this image (without one, these texts); None if new."""
        return self._id_by_content.get(_content_key(image_hash, texts))

    def candidates(self, hash_bytes: bytes | None) -> list[str]:
        """Return the ids of the entries whose image may be the same, the nearest hash first."""
        if not self.near or hash_bytes is None:
            return []
        target = np.frombuffer(hash_bytes, np.uint8)
        hashes = self._hashes[: len(self._hash_ids)]  # (n, 11)
        distances = hash_distances(hashes, target)
        similar = np.flatnonzero(np.isfinite(distances))
        order = np.argsort(distances[similar], kind="stable")[:MAX_CANDIDATES]
        return [self._hash_ids[index] for index in similar[order]]

    def add(self, id_: str, image_hash: str | None, texts: str, hash_bytes: bytes | None) -> None:
        """Remember an entry."""
        self._id_by_content.setdefault(_content_key(image_hash, texts), id_)
        if not self.near or hash_bytes is None:
            return
        if len(self._hash_ids) == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
        self._hashes[len(self._hash_ids)] = np.frombuffer(hash_bytes, np.uint8)
        self._hash_ids.append(id_)


def _content_key(image_hash: str | None, texts: str) -> bytes:
    return hashlib.sha256((image_hash or f"texts {texts}").encode()).digest()[:16]
