"""The consensus caption: of all sentences of the evidence, the one most similar to the others.

(Devlin et al. 2015, arXiv:1505.04467: the consensus caption of the nearest photos.) Similarity is
the F1 of words and word pairs, which chose better captions than the cosine of sentence vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ravlm.data.facts import entity_name, free_sentences
from ravlm.data.text import is_chinese, split_words
from ravlm.records import Evidence, Hit

_MAX_CITATIONS = 3
_MIN_SIMILARITY = 0.2
"""A hit that says less of the same is not cited."""
_LEAD = 0.5
"""Weight of how far a hit stands out from equally likely ones: where one text alone matches the
image, the others agree by chance."""
_OTHER_HIT_FACTOR = 0.99
"""Sentences of the caption's own hit are cited before equally similar ones of other hits."""


class ConsensusCaption(NamedTuple):
    """A caption, the ids of the entries it is based on, and how much the evidence agrees, 0 to 1.

    The text is empty if the evidence has none.
    """

    text: str
    citations: tuple[str, ...]
    agreement: float


def consensus(evidence: Evidence, chinese: bool) -> ConsensusCaption:
    """Return the caption on which the evidence agrees. Sentences count by the weight of their hit.

    `chinese`: prefer Chinese sentences where a hit has some.
    """
    sentences = [
        (row, text)
        for row, hit in enumerate(evidence.hits)
        for text in caption_sentences(hit, chinese)
    ]
    if not sentences:
        return ConsensusCaption("", (), 0.0)
    owners = [row for row, _ in sentences]
    texts = [text for _, text in sentences]
    similarity = likeness(texts, texts)  # (n, n)
    counts = np.bincount(owners, minlength=len(evidence.hits))
    weights = np.array([(evidence.weights[row] + 1e-6) / counts[row] for row in owners])

    np.fill_diagonal(similarity, 0)  # a sentence does not support itself
    if len(texts) > 1:
        support = similarity @ weights / np.maximum(weights.sum() - weights, 1e-9)
    else:
        support = np.ones(1)
    leads = np.array([evidence.weights[row] for row in owners]) - 1 / len(evidence.hits)
    best = int((support + _LEAD * leads.clip(0) + 1e-3 * weights / weights.max()).argmax())

    factors = [1.0 if row == owners[best] else _OTHER_HIT_FACTOR for row in owners]
    similar = [i for i in range(len(texts)) if similarity[best, i] >= _MIN_SIMILARITY]
    order = sorted(similar, key=lambda i: -similarity[best, i] * factors[i])
    ids = dict.fromkeys(evidence.hits[owners[i]].entry.id for i in [best, *order])
    agreement = float(np.clip(support[best], 0, 1))
    return ConsensusCaption(texts[best], tuple(ids)[:_MAX_CITATIONS], agreement)


def caption_sentences(hit: Hit, chinese: bool) -> list[str]:
    """Return an entry's free sentences, in the language asked for if it has some, else its name."""
    sentences = [sentence for text in hit.entry.texts for sentence in free_sentences(text)]
    same_language = [text for text in sentences if is_chinese(text) == chinese]
    unique = list(dict.fromkeys(same_language or sentences))
    return unique or [name for name in [entity_name(hit.entry)] if name]


def likeness(texts: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Return the similarity (n, m) of texts: the F1 of their words and pairs of adjacent words."""
    text_grams = [_grams(text) for text in texts]
    reference_grams = [_grams(text) for text in references]
    sizes = np.add.outer(
        [grams.total() for grams in text_grams], [grams.total() for grams in reference_grams]
    )
    vocabulary = dict.fromkeys(gram for grams in text_grams for gram in grams)
    columns = {gram: column for column, gram in enumerate(vocabulary)}
    text_counts = _count(text_grams, columns)  # (n, grams)
    reference_counts = _count(reference_grams, columns)  # (m, grams)
    common = np.array([np.minimum(row, reference_counts).sum(1) for row in text_counts], np.float64)
    return 2 * common.reshape(sizes.shape) / np.maximum(sizes, 1)


def _count(rows: Sequence[Counter[object]], columns: Mapping[object, int]) -> np.ndarray:
    """Return how often each text has each of the grams that have a column: (texts, columns)."""
    counts = np.zeros((len(rows), len(columns)), np.int32)
    for row, grams in enumerate(rows):
        for gram, count in grams.items():
            if (column := columns.get(gram)) is not None:
                counts[row, column] = count
    return counts


@lru_cache(maxsize=20_000)
def _grams(text: str) -> Counter[object]:
    words = split_words(text)
    return Counter([*words, *pairwise(words)])
