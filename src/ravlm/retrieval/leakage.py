"""Leakage guard: keep out of the evidence what gives a request's answer away.

An entry leaks if it has the request's id, image or `group`, if its image is a near-duplicate of
the request's image or, for a caption, if it is a text without an image that repeats the caption: of
another photo, an equal caption is evidence. Training and evaluation use the same rules."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ravlm.data.text import normalize_text, split_words
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import (
    Entry,
    Example,
    Hit,
    ImageSource,
    Modality,
    Pair,
    PdfPage,
    image_path,
)
from ravlm.search.options import SearchOptions

NEAR_DUPLICATE = 0.98
"""Images with at least this cosine count as the same image."""
_SPARE_HITS = 4
"""Hits searched beyond k to replace those that leak, besides repeated captions."""
_LONG_CAPTION = 5
"""Words of a caption that leaks within a longer text, too; shorter ones occur by chance."""
_BATCH = 256


class GuardedRecord(Protocol):
    """A record whose answer must not leak: an `Entry`, a `Pair` or an `Example`."""

    @property
    def id(self) -> str: ...
    @property
    def image(self) -> ImageSource | None: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...


def leakage_keys(record: GuardedRecord) -> frozenset[tuple[str, str]]:
    """Return what identifies the origin of a record: its id, its image path, its `group`.

    Records that share a key belong together. Groups are strings here, so that 7 and "7" match; an
    empty id is no key.

    >>> sorted(leakage_keys(Entry("a", "cats/a.jpg", metadata={"group": 7})))
    [('group', '7'), ('id', 'a'), ('image', 'cats/a.jpg')]
    """
    group = record.metadata.get("group")
    keys = {
        "id": record.id,
        "image": image_path(record.image),
        "group": "" if group is None else str(group),
    }
    return frozenset((name, value) for name, value in keys.items() if value)


def leaks(record: GuardedRecord, entry: Entry) -> bool:
    """Return whether `entry` shares a leakage key with `record`, has the same image content, or is
    a text that repeats its caption."""
    return (
        bool(leakage_keys(record) & leakage_keys(entry))
        or _same_image(record.image, entry.image)
        or _repeats_caption(record, entry)
    )


def own_captions(record: GuardedRecord) -> tuple[str, ...]:
    """Return the texts that are to be written about a record's image: those of a pair, or the
    references of an example without a question."""
    if isinstance(record, Pair):
        return record.texts
    is_caption = isinstance(record, Example) and record.image is not None and not record.text
    return record.references if is_caption else ()  # type: ignore[attr-defined]


def spare_hits(records: Sequence[GuardedRecord]) -> int:
    """Return how many hits to search beyond k, to replace those that leak."""
    return _SPARE_HITS + max((len(own_captions(record)) for record in records), default=0)


def without_leaks(record: GuardedRecord, hits: Sequence[Hit]) -> list[Hit]:
    """Return the hits that do not leak the answer of `record`, in order."""
    return [hit for hit in hits if not leaks(record, hit.entry)]


def guarded_search(
    kb: KnowledgeBase,
    records: Sequence[GuardedRecord],
    vectors: np.ndarray,
    k: int,
    modality: Modality = "image",
) -> list[list[Hit]]:
    """Return for each record its k nearest entries by `modality`, none of which leaks.

    `vectors` (n, dim) are the image vectors of the records. Near-duplicates are compared by image,
    also when the entries are searched by their texts. A record whose neighbors mostly leak may get
    fewer than k hits.
    """
    options = SearchOptions(near_duplicate=NEAR_DUPLICATE)
    depth = k + spare_hits(records)
    results: list[list[Hit]] = []
    for start in range(0, len(records), _BATCH):
        batch = range(start, min(start + _BATCH, len(records)))
        queries = [{"vector": vectors[row]} for row in batch]
        rankings = kb.search_many(queries, depth, modality, options=options)
        if modality == "text":  # such a search does not look at the images of its hits
            rankings = without_near_duplicates(kb, vectors[batch.start : batch.stop], rankings)
        for row, hits in zip(batch, rankings, strict=True):
            results.append(without_leaks(records[row], hits)[:k])
    return results


def without_near_duplicates(
    kb: KnowledgeBase, vectors: np.ndarray, rankings: Sequence[Sequence[Hit]]
) -> list[list[Hit]]:
    """Return the hits of each row whose image is not a near-duplicate of the row's, by its vector;
    `vectors` is (n, dim)."""
    images = _image_vectors(kb, rankings)
    return [
        [hit for hit in hits if not _is_near_duplicate(images.get(hit.entry.id), vector)]
        for vector, hits in zip(vectors, rankings, strict=True)
    ]


def _image_vectors(
    kb: KnowledgeBase, rankings: Sequence[Sequence[Hit]]
) -> Mapping[str, np.ndarray]:
    ids = {hit.entry.id for hits in rankings for hit in hits}
    return kb.image_vectors(list(ids))


def _is_near_duplicate(image_vector: np.ndarray | None, vector: np.ndarray) -> bool:
    return image_vector is not None and bool(image_vector @ vector >= NEAR_DUPLICATE)


def _repeats_caption(record: GuardedRecord, entry: Entry) -> bool:
    """Return whether an entry without an image has one of the record's captions as a text, or a
    long caption within a text; case, width and punctuation do not count."""
    captions = own_captions(record) if entry.image is None else ()
    if not captions:
        return False
    texts = [_words(text) for text in entry.texts]
    return any(_repeats(words, text) for words in map(_words, captions) for text in texts)


def _repeats(caption: Sequence[str], text: Sequence[str]) -> bool:
    if len(caption) < _LONG_CAPTION:
        return bool(caption) and caption == text
    return f" {' '.join(caption)} " in f" {' '.join(text)} "


def _words(text: str) -> list[str]:
    return split_words(normalize_text(text))


def _same_image(image: ImageSource | None, entry_image: ImageSource | None) -> bool:
    """Compare image contents: of files, of bytes, or of a file with bytes."""
    if image is None or entry_image is None:
        return False
    path, entry_path = image_path(image), image_path(entry_image)
    if path and entry_path:
        return path == entry_path or _same_file(path, entry_path)
    content = _content(image)
    return content is not None and content == _content(entry_image)


def _same_file(path: str, entry_path: str) -> bool:
    try:
        return filecmp.cmp(path, entry_path, shallow=False)
    except (OSError, ValueError):
        return False  # an address, or a file that is gone


def _content(image: ImageSource) -> object:
    """Return a file's bytes, bytes as they are, or an open image's pixels; None if unreadable."""
    if isinstance(image, bytes | PdfPage):
        return image
    if isinstance(image, str | os.PathLike):
        try:
            return Path(image).read_bytes()
        except (OSError, ValueError):
            return None
    return image.mode, image.size, image.tobytes()
