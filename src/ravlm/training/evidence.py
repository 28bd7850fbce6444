"""Evidence for training: retrieve it once, then sample from it in every step.

The leakage guard is always on: an image never gets evidence of its own id, image or group, or of a
near-duplicate image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.generation.captioner.generator import hit_captions
from ravlm.generation.captioner.processing import StarterProcessor
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Hit, Modality, Pair
from ravlm.retrieval.leakage import guarded_search


@dataclass(frozen=True)
class EvidenceCandidates:
    """The nearest entries of each image, with scores."""

    entries: np.ndarray
    """(num_images, num_candidates) entry numbers, nearest first; -1 where there are fewer."""
    scores: np.ndarray
    """(num_images, num_candidates) cosines; -inf where there is no entry."""
    text_offsets: np.ndarray
    """Entry e has the texts text_offsets[e] to text_offsets[e + 1]."""


@dataclass(frozen=True)
class EvidenceTexts(EvidenceCandidates):
    """Evidence as texts."""

    texts: Sequence[str]


@dataclass(frozen=True)
class EvidenceStates(EvidenceCandidates):
    """Evidence as token states of the starter's text backbone."""

    states: np.ndarray
    """(tokens of all texts, width) in half precision."""
    spans: np.ndarray
    """Text t has the states[spans[t] : spans[t + 1]]."""

    def pad(self, texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the states (n, k, max_length, width) of texts (n, k), -1 for none, and the mask
        (n, k, max_length)."""
        lengths = np.where(texts < 0, 0, np.diff(self.spans)[texts])  # (n, k)
        max_length = max(1, int(lengths.max(initial=0)))
        mask = np.arange(max_length) < lengths[..., None]
        tokens = np.where(mask, self.spans[texts][..., None] + np.arange(max_length), 0)
        return self.states[tokens] * mask[..., None].astype(self.states.dtype), mask


def find_evidence(
    kb: KnowledgeBase,
    pairs: Sequence[Pair],
    vectors: np.ndarray,
    num_candidates: int,
    modality: Modality = "image",
) -> list[list[Hit]]:
    """Return for each pair the `num_candidates` nearest entries by `modality`, without leaks.

    `vectors` (num_pairs, dim) are the vectors of the pairs' images. Raises InvalidInput if the base
    has no part of the modality.
    """
    if not kb.info().parts.get(modality):
        raise InvalidInput(
            f'The knowledge base "{kb.path}" contains no {modality}s, but evidence is retrieved by '
            f"{modality}. Use another base, or another evidence_modality."
        )
    return guarded_search(kb, pairs, vectors, num_candidates, modality)


def image_vectors(kb: KnowledgeBase, pairs: Sequence[Pair]) -> np.ndarray:
    """Return the vectors (num_pairs, dim) of the pairs' images as queries of the base's encoder.

    Vectors of images that are in the base are read from there, unless the encoder encodes queries
    differently.
    """
    entries = kb.get([pair.id for pair in pairs if pair.id])
    image_of = {entry.id: entry.image for entry in entries}
    ids = [
        pair.id if isinstance(pair.image, str) and image_of.get(pair.id) == pair.image else ""
        for pair in pairs
    ]
    is_same = "image" not in kb.encoder.asymmetric
    stored_ids = [entry_id for entry_id in ids if entry_id and is_same]
    stored = kb.image_vectors(stored_ids)
    new_images = [
        pair.image for pair, entry_id in zip(pairs, ids, strict=True) if entry_id not in stored
    ]
    encoded = iter(kb.encoder.encode_images(new_images, role="query") if new_images else ())
    rows = [stored[entry_id] if entry_id in stored else next(encoded) for entry_id in ids]
    return np.stack(rows).astype(np.float32)


def evidence_texts(hits: Sequence[Sequence[Hit]], num_candidates: int) -> EvidenceTexts:
    """Collect the captions of the hits of each image."""
    captions = {_key(hit): hit_captions(hit) for row in hits for hit in row}
    number_of = {key: number for number, key in enumerate(captions)}
    entries, scores = no_evidence(len(hits), num_candidates)
    for row, row_hits in enumerate(hits):
        entries[row, : len(row_hits)] = [number_of[_key(hit)] for hit in row_hits]
        scores[row, : len(row_hits)] = [hit.score for hit in row_hits]
    offsets = np.cumsum([0, *map(len, captions.values())])
    texts = [text for entry_captions in captions.values() for text in entry_captions]
    return EvidenceTexts(entries, scores, offsets, texts)


def evidence_states(evidence: EvidenceTexts, processor: StarterProcessor) -> EvidenceStates:
    """Return the same evidence as token states."""
    states = processor.text_states(evidence.texts)
    spans = np.cumsum([0, *map(len, states)])
    return EvidenceStates(
        evidence.entries, evidence.scores, evidence.text_offsets, np.concatenate(states), spans
    )


def no_evidence(num_images: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers and scores (num_images, k) to be filled: -1 and -inf."""
    numbers = np.full((num_images, k), -1, np.int64)
    scores = np.full((num_images, k), -np.inf, np.float32)
    return numbers, scores


def sample_evidence(
    neighbors: EvidenceCandidates,
    images: np.ndarray,
    k: int,
    dropout: float,
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Sample evidence for training: text numbers (n, k) and the scores of their entries.

    Each image gets k of its entries in their order, and one text of each entry. A fraction
    `dropout` of the images gets none, so that the model also works closed book."""
    texts, scores = no_evidence(len(images), k)
    for row, image in enumerate(images):
        entries = neighbors.entries[image]
        entries = entries[entries >= 0]
        if not len(entries) or random.random() < dropout:
            continue
        columns = np.sort(random.permutation(len(entries))[:k])
        first = neighbors.text_offsets[entries[columns]]
        counts = neighbors.text_offsets[entries[columns] + 1] - first
        positions = (random.random(len(columns)) * counts).astype(np.int64)
        texts[row, : len(columns)] = first + positions
        scores[row, : len(columns)] = neighbors.scores[image, columns]
    return texts, scores


def top_evidence(
    neighbors: EvidenceCandidates, images: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the evidence that inference uses: the first text of each of the k nearest entries,
    (n, k), and their scores."""
    entries = neighbors.entries[images, :k]
    texts = np.where(entries < 0, -1, neighbors.text_offsets[entries])
    return texts, neighbors.scores[images, :k]


def _key(hit: Hit) -> tuple[str, int]:
    """Identify an entry and, if a text matched, which one."""
    return hit.entry.id, hit.part.index if hit.part.modality == "text" else -1
