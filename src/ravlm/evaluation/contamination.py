"""Contamination: whether the base contains the examples of a task, exactly or nearly: their image,
or a text without an image that repeats their caption.

Only the nearest entries of each example are compared: an identical image is always among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from ravlm.data.images import image_bytes, load_image
from ravlm.data.parallel import batched
from ravlm.errors import RavlmError
from ravlm.evaluation.records import Contamination
from ravlm.knowledge.dedup import DETAIL_EDGE, hash_distances, looks_same, perceptual_hash
from ravlm.knowledge.near_duplicates import MIN_COSINE
from ravlm.records import Example, Hit, ImageSource
from ravlm.retrieval.leakage import NEAR_DUPLICATE, leaks, own_captions

if TYPE_CHECKING:
    from ravlm.knowledge.base import KnowledgeBase

Match = Literal["exact", "perceptual", "embedding"]

_NUM_NEIGHBORS = 10
_HASH_EDGE = 64
"""Images are loaded at this size, in pixels, for the perceptual hash."""
_BATCH = 32


def check_contamination(examples: Sequence[Example], kb: KnowledgeBase) -> Contamination:
    """Compare `examples` with the entries of `kb`."""
    with_image = [example for example in examples if example.image is not None]
    without_image = [example for example in examples if example.image is None]
    matches = dict(_image_matches(with_image, kb))
    matches |= _caption_matches([e for e in with_image if e.id not in matches], kb)
    for example in without_image:
        if _text_is_known(example.text, kb):
            matches[example.id] = "exact"
    kinds = list(matches.values())
    return Contamination(
        n=len(examples),
        exact=kinds.count("exact"),
        perceptual=kinds.count("perceptual"),
        embedding=kinds.count("embedding"),
        ids=tuple(matches),
    )


def _image_matches(examples: Sequence[Example], kb: KnowledgeBase) -> Iterator[tuple[str, Match]]:
    """Yield id and match of the examples whose image is known; every image is encoded once."""
    matches: dict[str | int, Match | None] = {}
    for batch in batched(examples, _BATCH):
        images = {_key(e.image): e.image for e in batch if e.image is not None}
        new = {key: image for key, image in images.items() if key not in matches}
        if new:
            vectors = kb.encoder.encode_images(list(new.values()))
            queries = [{"vector": vector} for vector in vectors]
            neighbors = kb.search_many(queries, _NUM_NEIGHBORS, "image")
            for (key, image), hits in zip(new.items(), neighbors, strict=True):
                matches[key] = _closest_match(image, hits)
        for example in batch:
            match = matches[_key(example.image)]
            if match is not None:
                yield example.id, match


def _caption_matches(examples: Sequence[Example], kb: KnowledgeBase) -> dict[str, Match]:
    """Return the examples of which a text without an image repeats a caption."""
    queries = [(example, text) for example in examples for text in own_captions(example)]
    if not queries or not kb.info().parts.get("text"):
        return {}
    rankings = kb.search_many([{"text": text} for _, text in queries], _NUM_NEIGHBORS, "text")
    return {
        example.id: "exact"
        for (example, _), hits in zip(queries, rankings, strict=True)
        if any(hit.entry.image is None and leaks(example, hit.entry) for hit in hits)
    }


def _closest_match(image: ImageSource, hits: Sequence[Hit]) -> Match | None:
    candidates = [
        hit.entry.image for hit in hits if hit.entry.image is not None and hit.score >= MIN_COSINE
    ]
    if not candidates:
        return None
    try:
        content = image_bytes(image)
        if any(image_bytes(candidate) == content for candidate in candidates):
            return "exact"
        if any(_looks_same(image, candidate) for candidate in candidates):
            return "perceptual"
    except RavlmError:
        pass  # an image of the base is gone: only its vector can be compared
    return "embedding" if any(hit.score >= NEAR_DUPLICATE for hit in hits) else None


def _text_is_known(text: str, kb: KnowledgeBase) -> bool:
    """Return whether an entry has this text, ignoring case."""
    hits = kb.search(text=text, k=_NUM_NEIGHBORS, modality="text")
    return any(text.casefold() in map(str.casefold, hit.entry.texts) for hit in hits)


def _looks_same(image: ImageSource, candidate: ImageSource) -> bool:
    """Compare two images by their hashes, which is fast, and then in detail."""
    sources = (image, candidate)
    thumbnails = [load_image(source, edge=_HASH_EDGE) for source in sources]
    hashes = [np.frombuffer(perceptual_hash(thumbnail), np.uint8) for thumbnail in thumbnails]
    if not np.isfinite(hash_distances(hashes[0][None], hashes[1])).all():
        return False
    return looks_same(*(load_image(source, edge=DETAIL_EDGE) for source in sources))


def _key(image: ImageSource | None) -> str | int:
    return image if isinstance(image, str) else id(image)
