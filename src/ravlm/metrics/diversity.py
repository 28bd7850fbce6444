"""How various texts are, and how much of them is copied from their evidence. Knows n-grams only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.citation import ratio_from_counts
from ravlm.metrics.tokenization import (
    TokenizerName,
    require_texts,
    count_ngrams,
    signature,
    tokenizer,
)
from ravlm.records import Score


def distinct_n(candidates: Sequence[str], n: int = 2, tokenize: TokenizerName = "ptb") -> Score:
    """Different n-grams over all n-grams, 0 to 1 (Li et al. 2016): `value` of all texts together,
    `items` of each.

    It falls with the number of texts: compare equal numbers only.
    """
    line = tokenizer(tokenize)
    grams = [
        count_ngrams(line(text).split(), _order(n))[-1]
        for text in require_texts("candidates", candidates)
    ]
    items = tuple(len(g) / g.total() if g else 0.0 for g in grams)
    whole: Counter[tuple[str, ...]] = Counter()
    for each in grams:
        whole.update(each)
    value = len(whole) / whole.total() if whole else 0.0
    return Score(value, items, signature(f"distinct-{n}", f"tokenize:{tokenize}"))


def copy_rate(
    candidates: Sequence[str],
    evidence: Sequence[Sequence[str]],
    n: int = 4,
    tokenize: TokenizerName = "ptb",
) -> Score:
    """The share of the n-grams that stand in the item's own evidence, 0 to 1; shorter texts count
    as one n-gram.

    `evidence[i]` are the texts that item was given, maybe none (closed book). `counts` (items, 2):
    copied ones, all."""
    line = tokenizer(tokenize)
    found = [line(text).split() for text in require_texts("candidates", candidates)]
    if len(evidence) != len(found) or any(isinstance(texts, str) for texts in evidence):
        raise InvalidInput(
            f"evidence must be a list of {len(found)} lists of texts, one a candidate."
        )
    counts = []
    for tokens, texts in zip(found, evidence, strict=True):
        order = max(1, min(_order(n), len(tokens)))
        sources = [count_ngrams(line(text).split(), order)[-1] for text in texts]
        ours = count_ngrams(tokens, order)[-1]
        counts.append(
            (sum(c for gram, c in ours.items() if any(gram in s for s in sources)), ours.total())
        )
    table = np.array(counts, np.int64)
    return Score(
        float(ratio_from_counts(table.sum(axis=0))),
        tuple(ratio_from_counts(table).tolist()),
        signature(f"copy-rate-{n}", f"tokenize:{tokenize}"),
        table,
    )


def _order(n: int) -> int:
    if n < 1:
        raise InvalidInput(f"n is {n}; it must be 1 or more.")
    return n
