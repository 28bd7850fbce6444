"""CIDEr-D: how near a caption comes to what people agree on, n-grams weighed by how seldom they
are.

Vedantam, Zitnick and Parikh 2015, as in pycocoevalcap's `Cider`: clipped, with a penalty on the
length. Knows no task."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import (
    NgramCounts,
    TokenizedCorpus,
    TokenizerName,
    require_references,
    count_ngrams,
    tokenizer,
)
from ravlm.records import Score

_SIGMA = 6.0
_ORDERS = 4


@dataclass(frozen=True)
class CiderFrequencies:
    """In how many items' references each n-gram occurs, of how many items: what an n-gram's weight
    is made of."""

    items: int
    tokenize: TokenizerName
    counts: Counter[tuple[str, ...]] = field(repr=False)


def cider_frequencies(
    references: Sequence[Sequence[str]], tokenize: TokenizerName = "ptb"
) -> CiderFrequencies:
    """The frequencies of a whole set, kept so that one item or a subset scores as it does in the
    whole."""
    line = tokenizer(tokenize)
    wanted = require_references(references, len(references))
    return _frequencies(
        [[count_ngrams(line(t).split()) for t in texts] for texts in wanted], tokenize
    )


def cider(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: TokenizerName = "ptb",
    frequencies: CiderFrequencies | None = None,
) -> Score:
    """CIDEr-D, 0 to 10: the mean of the items. `frequencies` default to those of `references`.

    With its own frequencies a single item scores 0: every n-gram occurs in all items. Papers print
    it times 100."""
    return corpus_cider(TokenizedCorpus(candidates, references, tokenize), frequencies)


def corpus_cider(texts: TokenizedCorpus, frequencies: CiderFrequencies | None = None) -> Score:
    """`cider` of texts that are tokenised. Raises InvalidInput for frequencies of another
    tokenisation."""
    frozen = frequencies is not None
    frequencies = frequencies or _frequencies(texts.reference_grams, texts.tokenize)
    if frequencies.tokenize != texts.tokenize:
        raise InvalidInput(
            f'The frequencies were counted with tokenize "{frequencies.tokenize}", the texts with "{texts.tokenize}"; '
            "use one for both."
        )
    items = []
    weigh = _Weights(frequencies)
    for candidate, references in zip(texts.candidate_grams, texts.reference_grams, strict=True):
        ours = weigh(candidate)
        items.append(
            10
            * sum(_likeness(ours, weigh(reference)) for reference in references)
            / len(references)
        )
    source = f"frequencies:{'frozen' if frozen else 'own'}-{frequencies.items}"
    return Score(float(np.mean(items)), tuple(items), texts.signature("cider-d", source))


@dataclass(frozen=True)
class _Weighted:
    vectors: tuple[dict[tuple[str, ...], float], ...]
    norms: tuple[float, ...]
    length: int


class _Weights:
    """N-grams to their weights: how often, times the logarithm of how seldom."""

    def __init__(self, frequencies: CiderFrequencies) -> None:
        most = math.log(frequencies.items)
        self.unknown = most
        self.rarity = {gram: most - math.log(count) for gram, count in frequencies.counts.items()}

    def __call__(self, grams: NgramCounts) -> _Weighted:
        rarity, unknown = self.rarity, self.unknown
        vectors = tuple(
            {gram: count * rarity.get(gram, unknown) for gram, count in order.items()}
            for order in grams
        )
        norms = tuple(
            math.sqrt(sum(weight * weight for weight in vector.values())) for vector in vectors
        )
        return _Weighted(vectors, norms, grams[1].total())


def _frequencies(
    references: Sequence[Sequence[NgramCounts]], tokenize: TokenizerName
) -> CiderFrequencies:
    counts: Counter[tuple[str, ...]] = Counter()
    for texts in references:
        counts.update({gram for grams in texts for order in grams for gram in order})
    return CiderFrequencies(len(references), tokenize, counts)


def _likeness(ours: _Weighted, theirs: _Weighted) -> float:
    """The mean over n of the clipped cosines, less for another length (counted in pairs of words,
    as the reference)."""
    total = 0.0
    for vector, other, norm, other_norm in zip(
        ours.vectors, theirs.vectors, ours.norms, theirs.norms, strict=True
    ):
        if norm and other_norm:
            common = sum(
                min(vector[gram], other[gram]) * other[gram]
                for gram in vector.keys() & other.keys()
            )
            total += common / (norm * other_norm)
    return total / _ORDERS * math.exp(-((ours.length - theirs.length) ** 2) / (2 * _SIGMA**2))
