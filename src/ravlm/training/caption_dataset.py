"""What a fused generator is trained on: pictures, the words to be written, and evidence found in a
knowledge base.

`StarterData` holds features of the starter's backbones, `PictureData` pictures that a checkpoint's
processor reads. Evidence is looked for once. The leakage guard is always on: never an entry of the
same picture, id or group, nor one whose picture is nearly the same. Knows no model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravlm.errors import InvalidInput
from ravlm.generation.captioner.generator import told
from ravlm.generation.captioner.processing import ProcessorSources, StarterSources
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry, Hit, ImageSource, Modality, Pair
from ravlm.search.options import SearchOptions

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

    @classmethod
    def to_write(cls, texts: Sequence[str], tokenizer: Any, end: int) -> Texts:
        """Texts as a decoder is to write them: the token `end` behind each, no start."""
        rows = [
            [*tokenizer(text, add_special_tokens=False, truncation=True)["input_ids"], end]
            for text in texts
        ]
        return cls(
            np.array([i for row in rows for i in row], np.int64), np.cumsum([0, *map(len, rows)])
        )

    def padded(self, rows: np.ndarray, empty: int) -> np.ndarray:
        """The texts `rows` (n, longest), `empty` where a text is over."""
        lengths = np.diff(self.spans)[rows]
        found = np.full((len(rows), lengths.max()), empty, np.int64)
        for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            found[i, :length] = self.ids[self.spans[row] : self.spans[row] + length]
        return found


@dataclass(frozen=True)
class Neighbors:
    """Which entries are near each picture, and how near."""

    near: np.ndarray
    """(pictures, most) entries, nearest first; -1 where there are fewer"""
    scores: np.ndarray
    """(pictures, most) cosines, -inf where there is no entry"""
    texts_of: np.ndarray
    """the texts of entry e: texts_of[e] to texts_of[e + 1]"""


@dataclass(frozen=True)
class EvidenceStates(Neighbors):
    """Token states of the texts that may be evidence."""

    states: np.ndarray
    """(pieces, width) in half precision"""
    spans: np.ndarray
    """text t: states[spans[t] : spans[t + 1]]"""

    def padded(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States (n, k, longest, width) of texts (n, k), -1 for none, and the mask (n, k,
        longest)."""
        lengths = np.where(texts < 0, 0, np.diff(self.spans)[texts])
        longest = max(1, int(lengths.max(initial=0)))
        mask = np.arange(longest) < lengths[..., None]
        places = np.where(mask, self.spans[texts][..., None] + np.arange(longest), 0)
        return self.states[places] * mask[..., None].astype(self.states.dtype), mask


@dataclass(frozen=True)
class EvidenceTexts(Neighbors):
    """The texts that may be evidence, as they are."""

    texts: Sequence[str]


@dataclass(frozen=True)
class GeneratorData(ABC):
    """Pictures, their captions as tokens, and the evidence near them."""

    words: Texts
    """As `Texts.to_write` makes them."""
    offsets: np.ndarray
    """The captions of picture i: offsets[i] to offsets[i + 1]."""
    near: Neighbors | None
    """None: a generator that is never shown any evidence."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def views(self) -> int:
        """How many views of each picture there are."""
        return 1

    @abstractmethod
    def pictures(self, rows: np.ndarray, views: np.ndarray | None = None) -> dict[str, Tensor]:
        """The model's inputs for the pictures `rows`, each in a view (n,) of its own; None: as they
        are."""

    @abstractmethod
    def evidence(self, texts: np.ndarray) -> dict[str, Tensor]:
        """The model's inputs for texts (n, k) of evidence, -1 for none."""


@dataclass(frozen=True)
class StarterData(GeneratorData):
    """Pictures as what the starter's last image stage reads, evidence as token states."""

    grids: Sequence[np.ndarray]
    """A view each: (pictures, 208, g, g) in half precision."""

    @property
    def views(self) -> int:
        return len(self.grids)

    def pictures(self, rows: np.ndarray, views: np.ndarray | None = None) -> dict[str, Tensor]:
        views = np.zeros(len(rows), int) if views is None else views
        trunk = np.stack([self.grids[view][row] for view, row in zip(views, rows, strict=True)])
        return {"picture_states": torch.from_numpy(trunk).float().flatten(2).transpose(1, 2)}

    def evidence(self, texts: np.ndarray) -> dict[str, Tensor]:
        assert isinstance(self.near, EvidenceStates)
        states, mask = self.near.padded(texts)
        return {
            "evidence_states": torch.from_numpy(states),
            "evidence_mask": torch.from_numpy(mask),
        }


@dataclass(frozen=True)
class PictureData(GeneratorData):
    """Pictures that are read anew in each step."""

    images: Sequence[ImageSource]
    sources: ProcessorSources
    budget: int = 160

    def pictures(self, rows: np.ndarray, views: np.ndarray | None = None) -> dict[str, Tensor]:
        return self.sources.pictures([self.images[row] for row in rows])

    def evidence(self, texts: np.ndarray) -> dict[str, Tensor]:
        assert isinstance(self.near, EvidenceTexts)
        said = [[self.near.texts[text] for text in row if text >= 0] for row in texts]
        return self.sources.evidence(said, self.budget)


def find_evidence(
    kb: KnowledgeBase,
    pairs: Sequence[Pair],
    vectors: np.ndarray,
    most: int,
    reads: Modality = "image",
) -> list[list[Hit]]:
    """For each pair the `most` entries whose pictures (`reads` "text": texts) are nearest to its
    vector (pairs, dim), but for its own.

    Raises InvalidInput where the base has none of them.
    """
    if not kb.info().parts.get(reads):
        raise InvalidInput(
            f'The base "{kb.path}" has no {reads}s; evidence for captions is found by {reads}: take another base.'
        )
    options = SearchOptions(near_duplicate=NEAR_DUPLICATE)
    queries = [{"vector": vector} for vector in vectors]
    found = []
    for start in range(0, len(queries), 256):
        some = kb.search_many(queries[start : start + 256], most + _SPARE, reads, options=options)
        shown = (
            kb.image_vectors(list({hit.entry.id for hits in some for hit in hits}))
            if reads == "text"
            else {}
        )
        for pair, vector, hits in zip(
            pairs[start : start + 256], vectors[start : start + 256], some, strict=True
        ):
            pictures = [
                shown.get(hit.entry.id) for hit in hits
            ]  # a text's own search knows nothing of them
            copied = [
                picture is not None and picture @ vector >= NEAR_DUPLICATE for picture in pictures
            ]
            own = marks(pair)
            others = [
                hit
                for hit, copy in zip(hits, copied, strict=True)
                if not copy and not own & marks(hit.entry)
            ]
            found.append(others[:most])
    return found


def picture_vectors(kb: KnowledgeBase, pairs: Sequence[Pair]) -> np.ndarray:
    """The vectors (pairs, dim) of the pairs' pictures by the base's encoder: those that the base
    holds from there."""
    held = {entry.id: entry.image for entry in kb.get([pair.id for pair in pairs if pair.id])}
    own = [
        pair.id if isinstance(pair.image, str) and held.get(pair.id) == pair.image else ""
        for pair in pairs
    ]
    found = kb.image_vectors([id_ for id_ in own if id_])
    new = [pair.image for pair, id_ in zip(pairs, own, strict=True) if id_ not in found]
    encoded = iter(kb.encoder.encode_images(new) if new else ())
    return np.stack([found[id_] if id_ in found else next(encoded) for id_ in own]).astype(
        np.float32
    )


def marks(of: Pair | Entry) -> frozenset[tuple[str, object]]:
    """What tells that two pairs or entries belong together: an id, a picture's path, a group."""
    group = of.metadata.get("group")
    found: dict[str, Hashable] = {
        "id": of.id or None,
        "image": of.image if isinstance(of.image, str) else None,
    }
    found["group"] = group if isinstance(group, Hashable) else repr(group)
    return frozenset((name, value) for name, value in found.items() if value is not None)


def read_evidence(found: Sequence[Sequence[Hit]], most: int) -> EvidenceTexts:
    """Everything that the entries found say of their pictures."""
    said = list({_key(hit): told(hit) for hits in found for hit in hits}.items())
    place = {key: i for i, (key, _) in enumerate(said)}
    near, scores = (
        np.full((len(found), most), -1, np.int64),
        np.full((len(found), most), -np.inf, np.float32),
    )
    for row, hits in enumerate(found):
        near[row, : len(hits)] = [place[_key(hit)] for hit in hits]
        scores[row, : len(hits)] = [hit.score for hit in hits]
    texts_of = np.cumsum([0, *(len(texts) for _, texts in said)])
    return EvidenceTexts(near, scores, texts_of, [text for _, texts in said for text in texts])


def _key(hit: Hit) -> tuple[str, int]:
    """The entry that was found, and by which of its texts."""
    return hit.entry.id, hit.part.index if hit.part.modality == "text" else -1


def states_of(evidence: EvidenceTexts, sources: StarterSources) -> EvidenceStates:
    """The same evidence as token states."""
    rows = sources.states(evidence.texts)
    spans = np.cumsum([0, *map(len, rows)])
    return EvidenceStates(
        evidence.near, evidence.scores, evidence.texts_of, np.concatenate(rows), spans
    )


def sampled(
    evidence: Neighbors, pictures: np.ndarray, k: int, dropped: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Texts (n, k) for training and their entries' scores: k of each picture's entries in their
    order, one text of each; none at all for a share `dropped` of the pictures, so that one model
    serves the closed book too."""
    found, scores = (
        np.full((len(pictures), k), -1, np.int64),
        np.full((len(pictures), k), -np.inf, np.float32),
    )
    for row, picture in enumerate(pictures):
        near = evidence.near[picture]
        near = near[near >= 0]
        if not len(near) or random.random() < dropped:
            continue
        places = np.sort(random.permutation(len(near))[:k])
        first, last = evidence.texts_of[near[places]], evidence.texts_of[near[places] + 1]
        found[row, : len(places)] = first + (random.random(len(places)) * (last - first)).astype(
            np.int64
        )
        scores[row, : len(places)] = evidence.scores[picture, places]
    return found, scores


def first_texts(evidence: Neighbors, pictures: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts (n, k) as at inference, and their entries' scores: the first text of each of the k
    nearest entries."""
    near = evidence.near[pictures, :k]
    return np.where(near < 0, -1, evidence.texts_of[near]), evidence.scores[pictures, :k]
