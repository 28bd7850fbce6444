"""CIDEr-D: similarity of a caption to the consensus of its references, n-grams weighted by tf-idf.

Vedantam, Zitnick and Parikh 2015, as in pycocoevalcap's `Cider`: clipped, with a length penalty.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import (
    NgramCounts,
    TokenizedCorpus,
    TokenizerName,
    count_ngrams,
    require_references,
    tokenizer,
)
from ravlm.records import Score

_SIGMA = 6.0  # of the Gaussian length penalty
_MAX_N = 4
_Ngram: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class CiderFrequencies:
    """Document frequencies: in the references of how many items each n-gram occurs."""

    items: int
    tokenize: TokenizerName
    counts: Counter[_Ngram] = field(repr=False)


def cider_frequencies(
    references: Sequence[Sequence[str]], tokenize: TokenizerName = "ptb"
) -> CiderFrequencies:
    """Count the document frequencies of a whole set.

    Pass them to `cider` to give one item or a subset the score that it has within the whole set.
    """
    line = tokenizer(tokenize)
    texts = require_references(references, len(references))
    ngrams = [[count_ngrams(line(text).split()) for text in item] for item in texts]
    return _count_frequencies(ngrams, tokenize)


def cider(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: TokenizerName = "ptb",
    frequencies: CiderFrequencies | None = None,
) -> Score:
    """Compute CIDEr-D, 0 to 10: the mean of the items. Papers print it times 100.

    Reference implementation: pycocoevalcap's `Cider` (equal to 1e-6). Tokenization: Penn Treebank,
    lower-cased, without punctuation; "zh" for Chinese words, "none" for white space.

    `frequencies` default to those of `references`. With its own frequencies a single item scores 0,
    because every n-gram occurs in all items; a warning says so.

        frequencies = cider_frequencies(all_references)
        cider(["a dog runs"], [["a dog is running"]], frequencies=frequencies).value
    """
    return corpus_cider(TokenizedCorpus(candidates, references, tokenize), frequencies)


def corpus_cider(corpus: TokenizedCorpus, frequencies: CiderFrequencies | None = None) -> Score:
    """Compute `cider` of texts that are tokenized already.

    Raises InvalidInput if the frequencies were counted with another tokenization.
    """
    origin = "own" if frequencies is None else "frozen"
    if frequencies is None:
        frequencies = _count_frequencies(corpus.reference_ngrams, corpus.tokenize)
    if frequencies.tokenize != corpus.tokenize:
        raise InvalidInput(
            f'The frequencies were counted with tokenize "{frequencies.tokenize}", '
            f'the texts with "{corpus.tokenize}"; use one for both.'
        )
    if all(count == frequencies.items for count in frequencies.counts.values()):
        warnings.warn(
            "CIDEr is 0 for any caption here: each n-gram of the references occurs in every item "
            f"({frequencies.items}), so it has no weight. Score more items together, or pass "
            "frequencies=cider_frequencies(references of the whole set).",
            stacklevel=3,
        )
    tf_idf = _TfIdf(frequencies)
    items = []
    for ngrams, reference_ngrams in zip(
        corpus.candidate_ngrams, corpus.reference_ngrams, strict=True
    ):
        candidate = tf_idf(ngrams)
        total = sum(_similarity(candidate, tf_idf(reference)) for reference in reference_ngrams)
        items.append(10 * total / len(reference_ngrams))
    signature = corpus.signature("cider-d", f"frequencies:{origin}-{frequencies.items}")
    return Score(float(np.mean(items)), tuple(items), signature)


@dataclass(frozen=True)
class _TfIdfVector:
    weights: tuple[dict[_Ngram, float], ...]
    """n-gram -> weight, for n from 1 to 4."""
    norms: tuple[float, ...]
    length: int
    """Number of bigrams, by which the reference implementation measures length."""


class _TfIdf:
    """Weight n-grams by term frequency times inverse document frequency."""

    def __init__(self, frequencies: CiderFrequencies) -> None:
        log_items = math.log(frequencies.items)
        self._unknown_idf = log_items
        self._idf = {ngram: log_items - math.log(n) for ngram, n in frequencies.counts.items()}

    def __call__(self, ngrams: NgramCounts) -> _TfIdfVector:
        idf, unknown_idf = self._idf, self._unknown_idf
        weights = tuple(
            {ngram: count * idf.get(ngram, unknown_idf) for ngram, count in order.items()}
            for order in ngrams
        )
        norms = tuple(
            math.sqrt(sum(weight * weight for weight in order.values())) for order in weights
        )
        return _TfIdfVector(weights, norms, length=ngrams[1].total())


def _count_frequencies(
    references: Sequence[Sequence[NgramCounts]], tokenize: TokenizerName
) -> CiderFrequencies:
    counts: Counter[_Ngram] = Counter()
    for texts in references:
        counts.update({ngram for ngrams in texts for order in ngrams for ngram in order})
    return CiderFrequencies(len(references), tokenize, counts)


def _similarity(candidate: _TfIdfVector, reference: _TfIdfVector) -> float:
    """Return the mean of the clipped cosines over n, reduced by the difference in length."""
    total = 0.0
    for order in range(_MAX_N):
        norm = candidate.norms[order] * reference.norms[order]
        if not norm:
            continue
        ours, theirs = candidate.weights[order], reference.weights[order]
        dot = sum(
            min(ours[ngram], theirs[ngram]) * theirs[ngram] for ngram in ours.keys() & theirs.keys()
        )
        total += dot / norm
    length_difference = candidate.length - reference.length
    return total / _MAX_N * math.exp(-(length_difference**2) / (2 * _SIGMA**2))
