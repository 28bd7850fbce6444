"""The caption on which the evidence agrees: of all its sentences the one that is most like the
others.

(Devlin et al. 2015, arXiv:1505.04467: the consensus caption of the nearest photos.) Likeness is the
F1 of words and of pairs of words, which on captions chose better than the cosine of sentence
vectors. Knows no picture and no encoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ravlm.data.facts import entity_name, parse_facts
from ravlm.data.text import is_chinese, split_words
from ravlm.records import Evidence, Hit

_MOST_CITATIONS = 3


def consensus(evidence: Evidence, chinese: bool) -> tuple[str, tuple[str, ...], float]:
    """The caption, the entries it rests on, and how much the evidence agrees with it (0 to 1).

    Sentences count by the weight of their hit. Empty where the evidence has no text.
    """
    said = [(i, text) for i, hit in enumerate(evidence.hits) for text in _sayings(hit, chinese)]
    if not said:
        return "", (), 0.0
    texts = [text for _, text in said]
    alike = likeness(texts, texts)
    counts = np.bincount([i for i, _ in said], minlength=len(evidence.hits))
    weights = np.array([(evidence.weights[i] + 1e-6) / counts[i] for i, _ in said])
    np.fill_diagonal(alike, 0)  # a sentence does not support itself
    support = (
        alike @ weights / np.maximum(weights.sum() - weights, 1e-9)
        if len(texts) > 1
        else np.ones(1)
    )
    best = int((support + 1e-3 * weights / weights.max()).argmax())
    agreeing = sorted(
        range(len(said)),
        key=lambda j: -alike[best, j] * (1.0 if said[j][0] == said[best][0] else 0.99),
    )
    cited = list(dict.fromkeys(evidence.hits[said[j][0]].entry.id for j in [best, *agreeing]))[
        :_MOST_CITATIONS
    ]
    return texts[best], tuple(cited), float(np.clip(support[best], 0, 1))


def _sayings(hit: Hit, chinese: bool) -> list[str]:
    """What an entry says in free sentences, in the language wanted where it has some; else its
    name."""
    free = [fact.value for text in hit.entry.texts for fact in parse_facts(text) if not fact.key]
    wanted = [text for text in free if is_chinese(text) == chinese] or free
    return list(dict.fromkeys(wanted)) or [name for name in [entity_name(hit.entry)] if name]


def likeness(texts: Sequence[str], others: Sequence[str]) -> np.ndarray:
    """How alike texts are to others, (n, m): the F1 of their words and pairs of neighbouring
    words."""
    ours, theirs = [_grams(text) for text in texts], [_grams(text) for text in others]
    sizes = np.add.outer([g.total() for g in ours], [g.total() for g in theirs])
    place = {
        gram: i for i, gram in enumerate(dict.fromkeys(gram for grams in ours for gram in grams))
    }
    ours_counted, theirs_counted = _counted(ours, place), _counted(theirs, place)
    common = np.array([np.minimum(row, theirs_counted).sum(1) for row in ours_counted], np.float64)
    return 2 * common.reshape(sizes.shape) / np.maximum(sizes, 1)


def _counted(rows: Sequence[Counter[object]], place: Mapping[object, int]) -> np.ndarray:
    """How often each text has each of the grams that have a place: (texts, places)."""
    counts = np.zeros((len(rows), len(place)), np.int32)
    for row, grams in enumerate(rows):
        for gram, count in grams.items():
            if (column := place.get(gram)) is not None:
                counts[row, column] = count
    return counts


@lru_cache(maxsize=20_000)
def _grams(text: str) -> Counter[object]:
    spoken = split_words(text)
    return Counter([*spoken, *pairwise(spoken)])
