"""What a fused generator is trained on: pictures, the words to be written, and evidence found in a knowledge base.

Evidence is looked for once. The leakage guard is always on: never an entry of the same picture, id or group, nor one
whose picture is nearly the same. Knows no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.generation.fused import saying
from ravlm.generation.fused_sources import StarterSources
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Hit, Pair
from ravlm.retrieval.options import SearchOptions

NEAR_DUPLICATE = 0.98
"""Pictures this alike (cosine) are taken for the same."""
_SPARE = 4


@dataclass(frozen=True)
class Texts:
    """Token sequences end to end: those of text t at spans[t] to spans[t + 1]."""

    ids: np.ndarray
    spans: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Any) -> Texts:
        rows = [tokenizer(text, truncation=True)["input_ids"] for text in texts]
        spans = np.cumsum([0, *map(len, rows)])
        return cls(np.array([i for row in rows for i in row], np.int64), spans)

    def padded(self, rows: np.ndarray, empty: int) -> np.ndarray:
        """The texts `rows` (n, longest), `empty` where a text is over."""
        lengths = np.diff(self.spans)[rows]
        found = np.full((len(rows), lengths.max()), empty, np.int64)
        for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            found[i, :length] = self.ids[self.spans[row] : self.spans[row] + length]
        return found


@dataclass(frozen=True)
class EvidenceStates:
    """Token states of the texts that may be evidence, and which of them are near each picture."""

    states: np.ndarray
    """(pieces, width) in half precision"""
    spans: np.ndarray
    """text t: states[spans[t] : spans[t + 1]]"""
    near: np.ndarray
    """(pictures, most) entries, nearest first; -1 where there are fewer"""
    texts_of: np.ndarray
    """the texts of entry e: texts_of[e] to texts_of[e + 1]"""

    def padded(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States (n, k, longest, width) of texts (n, k), -1 for none, and the mask (n, k, longest)."""
        lengths = np.where(texts < 0, 0, np.diff(self.spans)[texts])
        longest = max(1, int(lengths.max(initial=0)))
        mask = np.arange(longest) < lengths[..., None]
        places = np.where(mask, self.spans[texts][..., None] + np.arange(longest), 0)
        return self.states[places] * mask[..., None].astype(self.states.dtype), mask


def find_evidence(kb: KnowledgeBase, pairs: Sequence[Pair], vectors: np.ndarray, most: int) -> list[list[Hit]]:
    """For each pair the `most` entries whose pictures are nearest to its vector (pairs, dim), but for its own.

    Raises InvalidInput where the base has no pictures.
    """
    if not kb.info().parts.get("image"):
        raise InvalidInput(f'The base "{kb.path}" has no pictures; evidence for captions is found by picture.')
    options = SearchOptions(near_duplicate=NEAR_DUPLICATE)
    queries = [{"vector": vector} for vector in vectors]
    found = []
    for start in range(0, len(queries), 256):
        some = kb.search_many(queries[start : start + 256], most + _SPARE, "image", options=options)
        for pair, hits in zip(pairs[start : start + 256], some, strict=True):
            found.append([hit for hit in hits if not _own(pair, hit)][:most])
    return found


def _own(pair: Pair, hit: Hit) -> bool:
    """Whether a hit is the pair itself or of its group."""
    group = pair.metadata.get("group")
    same_picture = isinstance(pair.image, str) and pair.image == hit.entry.image
    return (pair.id != "" and pair.id == hit.entry.id) or same_picture or (
        group is not None and group == hit.entry.metadata.get("group")
    )


def read_evidence(found: Sequence[Sequence[Hit]], most: int, sources: StarterSources) -> EvidenceStates:
    """The states of everything that the entries found say of their pictures."""
    entries = list({hit.entry.id: hit.entry for hits in found for hit in hits}.values())
    place = {entry.id: i for i, entry in enumerate(entries)}
    near = np.full((len(found), most), -1, np.int64)
    for row, hits in enumerate(found):
        near[row, : len(hits)] = [place[hit.entry.id] for hit in hits]
    said = [saying(entry) for entry in entries]
    rows = sources.states([text for texts in said for text in texts])
    spans = np.cumsum([0, *map(len, rows)])
    return EvidenceStates(np.concatenate(rows), spans, near, np.cumsum([0, *map(len, said)]))


def sampled(
    evidence: EvidenceStates, pictures: np.ndarray, k: int, dropped: float, random: np.random.Generator
) -> np.ndarray:
    """Texts (n, k) for training: k of each picture's entries in their order, one text of each; none at all for a share
    `dropped` of the pictures, so that one model serves the closed book too."""
    found = np.full((len(pictures), k), -1, np.int64)
    for row, near in enumerate(evidence.near[pictures]):
        near = near[near >= 0]
        if not len(near) or random.random() < dropped:
            continue
        chosen = near[np.sort(random.permutation(len(near))[:k])]
        first, last = evidence.texts_of[chosen], evidence.texts_of[chosen + 1]
        found[row, : len(chosen)] = first + (random.random(len(chosen)) * (last - first)).astype(np.int64)
    return found


def first_texts(evidence: EvidenceStates, pictures: np.ndarray, k: int) -> np.ndarray:
    """Texts (n, k) as at inference: the first text of each of the k nearest entries."""
    near = evidence.near[pictures, :k]
    return np.where(near < 0, -1, evidence.texts_of[near])
