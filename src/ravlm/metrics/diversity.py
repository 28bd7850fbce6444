"""Diversity of texts, and how much of them is copied from their evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.citation import ratio_from_counts
from ravlm.metrics.tokenization import (
    TokenizerName,
    count_ngrams,
    require_texts,
    signature,
    tokenizer,
)
from ravlm.records import Score


def distinct_n(candidates: Sequence[str], n: int = 2, tokenize: TokenizerName = "ptb") -> Score:
    """Compute distinct-n (Li et al. 2016), 0 to 1: distinct n-grams over all n-grams.

    `value` is that of all texts together, `items` those of the single texts. It falls with the
    number of texts, so compare equal numbers only. Tested against arithmetic on paper.
    Tokenization: as in `bleu`.
    """
    _check_n(n)
    line = tokenizer(tokenize)
    counts = [
        count_ngrams(line(text).split(), n)[-1] for text in require_texts("candidates", candidates)
    ]
    total: Counter[tuple[str, ...]] = Counter()
    for text_counts in counts:
        total.update(text_counts)
    return Score(
        _distinct_ratio(total),
        tuple(_distinct_ratio(text_counts) for text_counts in counts),
        signature(f"distinct-{n}", f"tokenize:{tokenize}"),
    )


def copy_rate(
    candidates: Sequence[str],
    evidence: Sequence[Sequence[str]],
    n: int = 4,
    tokenize: TokenizerName = "ptb",
) -> Score:
    """Compute the fraction of n-grams that occur in the item's own evidence, 0 to 1.

    `evidence[i]`: the texts that item i was generated from, possibly none (closed book). A text
    shorter than n counts as one n-gram. `counts` (items, 2): copied n-grams, all n-grams;
    `ratio_from_counts` computes the value from their sum. Tested against arithmetic on paper.
    Tokenization: as in `bleu`.
    """
    _check_n(n)
    line = tokenizer(tokenize)
    tokenized = [line(text).split() for text in require_texts("candidates", candidates)]
    if len(evidence) != len(tokenized) or any(isinstance(texts, str) for texts in evidence):
        raise InvalidInput(
            f"evidence must be a list of {len(tokenized)} lists of texts, one per candidate."
        )
    rows = []
    for tokens, texts in zip(tokenized, evidence, strict=True):
        order = max(1, min(n, len(tokens)))
        candidate = count_ngrams(tokens, order)[-1]
        sources = [count_ngrams(line(text).split(), order)[-1] for text in texts]
        copied = sum(
            count
            for ngram, count in candidate.items()
            if any(ngram in source for source in sources)
        )
        rows.append((copied, candidate.total()))
    counts = np.array(rows, np.int64)  # (items, 2)
    return Score(
        value=float(ratio_from_counts(counts.sum(axis=0))),
        items=tuple(ratio_from_counts(counts).tolist()),
        signature=signature(f"copy-rate-{n}", f"tokenize:{tokenize}"),
        counts=counts,
    )


def _distinct_ratio(counts: Counter[tuple[str, ...]]) -> float:
    return len(counts) / counts.total() if counts else 0.0


def _check_n(n: int) -> None:
    if n < 1:
        raise InvalidInput(f"n is {n}; it must be 1 or more.")
