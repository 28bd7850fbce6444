"""Words printed on a photo that is asked about: they tell apart entities that look alike.

The words of a package or a sign are compared with the names of the entities that the photo may show
and with what is printed on their own images. They change which of them is likeliest, not whether
the photo shows any of them at all.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ravlm.data.facts import entity_name
from ravlm.data.images import load_image
from ravlm.data.lexical_overlap import content_words
from ravlm.data.page_text import MIN_CONFIDENCE
from ravlm.ocr.auto import load_recognizer
from ravlm.ocr.base import TextRecognizer
from ravlm.records import Entry, ImageSource
from ravlm.regions import Region
from ravlm.retrieval.visual_entities import EntityRanking
from ravlm.runtime import has_packages

DECISIVE_SHARE = 0.9
"""If an entity has at least this share, the words on the photo are not read."""
_MAX_EVIDENCE = 4.0
"""Limit of the log odds of all words together: a word may be misread, or belong to something
else."""
_MIN_LETTERS = 3
_MAX_SIDE = 1600
"""Longer side in pixels at which a photo is read."""
_CACHE_SIZE = 64


class PrintReader:
    """Reads the words on photos and caches those of the last ones. Without the extra `ocr` it reads
    none."""

    def __init__(self, load: Callable[[], TextRecognizer] = load_recognizer) -> None:
        self._load = load
        self._recognizer: TextRecognizer | None = None
        self._cache: OrderedDict[bytes, frozenset[str]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def is_available(self) -> bool:
        """Whether words can be read here."""
        return self._load is not load_recognizer or has_packages("rapidocr", "onnxruntime")

    def words(self, image: ImageSource) -> frozenset[str]:
        """Return the words that are read with confidence on a photo, as stems."""
        if not self.is_available:
            return frozenset()
        pixels = load_image(image, edge=_MAX_SIDE).convert("RGB")
        pixels.thumbnail((_MAX_SIDE, _MAX_SIDE))
        key = hashlib.sha256(f"{pixels.size}".encode() + pixels.tobytes()).digest()
        with self._lock:
            if key in self._cache:
                return self._cache[key]
            if self._recognizer is None:
                self._recognizer = self._load()
            (regions,) = self._recognizer.recognize([pixels])
            words = self._cache[key] = printed_words(regions)
            while len(self._cache) > _CACHE_SIZE:
                self._cache.popitem(last=False)
        return words


def printed_words(regions: Sequence[Region]) -> frozenset[str]:
    """Return the words of regions that were read with confidence, as stems."""
    text = "\n".join(region.text for region in regions if region.confidence >= MIN_CONFIDENCE)
    return frozenset(word for word in content_words(text) if _is_distinctive(word))


def words_of_entity(entries: Sequence[Entry]) -> frozenset[str]:
    """Return the words of an entity's name and those printed on its images, as stems."""
    names = content_words(" ".join(entity_name(entry) for entry in entries))
    printed = [printed_words(entry.regions) for entry in entries]
    return frozenset(filter(_is_distinctive, names)).union(*printed)


def rank_by_words(
    ranking: EntityRanking, printed: frozenset[str], entities: Sequence[frozenset[str]]
) -> EntityRanking:
    """Return a ranking in which a printed word raises the share of the entities that have it.

    `entities` has the words of each entity of the ranking. The fewer entities have a word, the more
    it counts (inverse document frequency). The features, which decide whether any of them is shown,
    stay as they are.
    """
    counts = {word: sum(word in words for words in entities) for word in printed}
    weights = {word: math.log(len(entities) / n) for word, n in counts.items() if n}
    evidence = np.array(
        [sum(w for word, w in weights.items() if word in words) for words in entities]
    )
    if not evidence.any():
        return ranking
    shares = np.array(ranking.shares) * np.exp(np.minimum(evidence, _MAX_EVIDENCE))
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable").tolist()
    return replace(
        ranking,
        entities=tuple(ranking.entities[i] for i in order),
        shares=tuple(shares[order].tolist()),
        cosines=tuple(ranking.cosines[i] for i in order),
        nearest=tuple(ranking.nearest[i] for i in order),
    )


def _is_distinctive(word: str) -> bool:
    """Return whether a stem is neither a number nor a fragment; a Chinese word may be short."""
    return len(word) >= (_MIN_LETTERS if word.isascii() else 1) and not word.isdecimal()
