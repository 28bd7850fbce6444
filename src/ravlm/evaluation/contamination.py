"""Whether the base holds what is tested: the same picture, one that looks the same, one very near
to it.

Looks at the nearest entries of each example only: whatever is the same is among them. Knows no arm
and no score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ravlm.data.images import image_bytes, load_image
from ravlm.data.parallel import batched
from ravlm.errors import RavlmError
from ravlm.knowledge.dedup import BITS, SHADES, look_of
from ravlm.records import Example, ImageSource

if TYPE_CHECKING:
    from ravlm.knowledge.base import KnowledgeBase

NEAR = 0.98
"""Cosine from which on a picture's vector counts as very near to an entry's."""
_LOOKED_AT = 10
_WORTH = 0.9
"""Entries with a lower cosine are not opened: the same picture, in another size too, is nearer."""
_BATCH = 32
_LOOK_EDGE = 64


@dataclass(frozen=True)
class Contamination:
    """How many of `n` examples the base holds; each is counted where it is most alike."""

    n: int
    exact: int = 0
    """With a picture of the same bytes, or a question of the same words as a text."""
    perceptual: int = 0
    """With a picture that looks the same (another size, another file)."""
    embedding: int = 0
    """With a picture whose vector's cosine is at least `NEAR`."""
    ids: tuple[str, ...] = ()
    """Of the examples that count in one of these."""

    def __str__(self) -> str:
        found = f"{self.exact} exactly, {self.perceptual} by look, {self.embedding} by vector"
        return f"of {self.n} examples the base holds {found}"


def check(examples: Sequence[Example], kb: KnowledgeBase) -> Contamination:
    """Compare `examples` with what `kb` holds."""
    found = {example.id: kind for example, kind in _kinds(examples, kb) if kind}
    kinds = list(found.values())
    return Contamination(
        len(examples),
        kinds.count("exact"),
        kinds.count("perceptual"),
        kinds.count("embedding"),
        tuple(found),
    )


def _kinds(examples: Sequence[Example], kb: KnowledgeBase) -> Iterator[tuple[Example, str]]:
    pictured = [e for e in examples if e.image is not None]
    by_picture: dict[str | int, str] = {}
    for some in batched(pictured, _BATCH):
        new = {
            _name(e.image): e.image
            for e in some
            if e.image is not None and _name(e.image) not in by_picture
        }
        if new:
            vectors = kb.encoder.encode_images(list(new.values()))
            near = kb.search_many([{"vector": v} for v in vectors], _LOOKED_AT, "image")
            for (name, image), hits in zip(new.items(), near, strict=True):
                by_picture[name] = _alike(image, [(hit.entry.image, hit.score) for hit in hits])
        yield from ((e, by_picture[_name(e.image)]) for e in some if e.image is not None)
    for example in examples:
        if example.image is None:
            hits = kb.search(text=example.text, k=_LOOKED_AT, modality="text")
            same = any(
                example.text.casefold() in map(str.casefold, hit.entry.texts) for hit in hits
            )
            yield example, "exact" if same else ""


def _alike(image: ImageSource, entries: Sequence[tuple[ImageSource | None, float]]) -> str:
    pictures = [picture for picture, score in entries if picture is not None and score >= _WORTH]
    if not pictures:
        return ""
    try:
        own = image_bytes(image)
        if any(image_bytes(picture) == own for picture in pictures):
            return "exact"
        look = _look(image)
        if any(_looks_same(look, _look(picture)) for picture in pictures):
            return "perceptual"
    except RavlmError:
        pass  # a picture that vanished from the base is compared by its vector only
    return "embedding" if any(score >= NEAR for _, score in entries) else ""


def _look(image: ImageSource) -> np.ndarray:
    return np.frombuffer(look_of(load_image(image, edge=_LOOK_EDGE)), np.uint8)


def _looks_same(one: np.ndarray, other: np.ndarray) -> bool:
    bits = np.bitwise_count(one[:8] ^ other[:8]).sum()
    return bool(bits <= BITS and np.abs(one[8:].astype(int) - other[8:]).max() <= SHADES)


def _name(image: ImageSource | None) -> str | int:
    return image if isinstance(image, str) else id(image)
