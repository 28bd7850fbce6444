"""Entries that are there already under another id: told before they are encoded, by content or by
look.

Knows neither where entries come from nor what becomes of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal, get_args

import numpy as np
from PIL import Image

from ravlm.errors import InvalidInput, did_you_mean

Deduplicate = Literal["exact", "near"]
BITS, SHADES = 5, 10
"""Two pictures look the same where at most so many bits of 64 differ, and mean colours by at most
so much of 255.

Of 400 photos of Flickr8k, smaller copies (150 pixels, JPEG, quality 60) differ by 1 bit (median) or
4 (99 of 100), and no two photos by less than 11."""


def check_deduplicate(how: str | None) -> None:
    """Raise InvalidInput for a way that isn't there."""
    if how is not None and how not in get_args(Deduplicate):
        raise InvalidInput(
            f'deduplicate is "{how}"; allowed: exact, near, or None.{did_you_mean(str(how), get_args(Deduplicate))}'
        )


def look_of(picture: Image.Image) -> bytes:
    """What a picture looks like, 11 bytes: whether each of 8 x 8 places is brighter than its right
    neighbour (dHash, N. Krawetz, 2013), then its mean red, green and blue."""
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    colour = picture.convert("RGB").resize((1, 1), Image.Resampling.BOX).tobytes()
    return np.packbits(grey[:, :-1] > grey[:, 1:]).tobytes() + colour


class Duplicates:
    """What a base holds, by content and look. `how`: `exact` compares the bytes of pictures (and
    texts, where there is no picture), `near` also what pictures look like."""

    def __init__(
        self, how: Deduplicate, stored: Iterable[tuple[str, str | None, str, bytes | None]]
    ) -> None:
        """`stored`: id, hash of the picture, texts as JSON, look of each entry."""
        self.near = how == "near"
        self._ids: dict[bytes, str] = {}
        self._of_looks: list[str] = []
        self._looks, self._used = np.zeros((1024, 11), np.uint8), 0
        for id_, image_hash, texts, look in stored:
            self._add(id_, image_hash, texts, look)

    def of(self, id_: str, image_hash: str | None, texts: str, look: bytes | None) -> str | None:
        """The id of the entry that this one repeats; else None, and this one is known from now
        on."""
        found = self._ids.get(_key(image_hash, texts))
        if found is None and self.near and look is not None:
            found = self._alike(np.frombuffer(look, np.uint8))
        if found is None:
            self._add(id_, image_hash, texts, look)
        return found

    def _alike(self, look: np.ndarray) -> str | None:
        looks = self._looks[: self._used]
        colours = np.abs(looks[:, 8:].astype(np.int16) - look[8:]).max(axis=1, initial=0)
        bits = np.bitwise_count(looks[:, :8] ^ look[:8]).sum(axis=1)
        alike = np.flatnonzero((bits <= BITS) & (colours <= SHADES))
        return self._of_looks[alike[0]] if len(alike) else None

    def _add(self, id_: str, image_hash: str | None, texts: str, look: bytes | None) -> None:
        self._ids.setdefault(_key(image_hash, texts), id_)
        if self.near and look is not None:
            if self._used == len(self._looks):
                self._looks = np.concatenate([self._looks, np.zeros_like(self._looks)])
            self._looks[self._used] = np.frombuffer(look, np.uint8)
            self._used += 1
            self._of_looks.append(id_)


def _key(image_hash: str | None, texts: str) -> bytes:
    return hashlib.sha256((image_hash or f"texts {texts}").encode()).digest()[:16]
