"""BLEU of a corpus with several references, as the caption tools count it. Knows n-grams, and no
task.

Papineni, Roukos, Ward and Zhu 2002; the constants and the closest reference length are
pycocoevalcap's `Bleu`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import NgramCounts, TokenizedCorpus, TokenizerName
from ravlm.records import Score

_TINY, _SMALL = 1e-15, 1e-9
_ORDERS = 4


def bleu(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    n: int = 4,
    tokenize: TokenizerName = "ptb",
) -> Score:
    """BLEU-`n` (1 to 4) of the whole corpus, 0 to 1; `items` hold each sentence's own, and are not
    averaged.

    `counts` (items, 2 + 2 n): words, words of the closest reference, n-grams a candidate has and
    those that are right, for n from 1 on; `bleu_from_counts` makes the value of their sum, and so
    of any resample."""
    return corpus_bleu(TokenizedCorpus(candidates, references, tokenize), n)


def corpus_bleu(texts: TokenizedCorpus, n: int = 4) -> Score:
    """`bleu` of texts that are tokenised."""
    if n not in (1, 2, 3, 4):
        raise InvalidInput(f"n is {n!r}; BLEU counts n-grams of 1, 2, 3 or 4 words.")
    return corpus_bleus(texts)[n - 1]


def corpus_bleus(texts: TokenizedCorpus) -> list[Score]:
    """BLEU-1 to BLEU-4 of texts that are tokenised, counted once."""
    rows = zip(
        texts.candidate_grams,
        texts.candidates,
        texts.reference_grams,
        texts.references,
        strict=True,
    )
    counts = np.array(
        [
            _counts(candidate, len(words), grams, [len(reference) for reference in references])
            for candidate, words, grams, references in rows
        ],
        np.int64,
    )
    found = []
    for n in range(1, _ORDERS + 1):
        table = counts[:, [0, 1, *range(2, 2 + n), *range(2 + _ORDERS, 2 + _ORDERS + n)]]
        found.append(
            Score(
                value=float(bleu_from_counts(table.sum(axis=0))),
                items=tuple(bleu_from_counts(table).tolist()),
                signature=texts.signature(f"bleu-{n}", "length:closest"),
                counts=table,
            )
        )
    return found


def bleu_from_counts(counts: np.ndarray) -> np.ndarray:
    """BLEU of summed counts: (..., 2 + 2 n) to (...)."""
    words, wanted = counts[..., 0], counts[..., 1]
    n = (counts.shape[-1] - 2) // 2
    precisions = (counts[..., 2 + n :] + _TINY) / (counts[..., 2 : 2 + n] + _SMALL)
    ratio = (words + _TINY) / (wanted + _SMALL)
    return precisions.prod(axis=-1) ** (1 / n) * np.exp(np.minimum(0, 1 - 1 / ratio))


def _counts(
    candidate: NgramCounts, words: int, references: list[NgramCounts], lengths: list[int]
) -> list[int]:
    closest = min((abs(length - words), length) for length in lengths)[1]
    right = [
        sum(
            min(count, max(r[order].get(gram, 0) for r in references))
            for gram, count in candidate[order].items()
        )
        for order in range(_ORDERS)
    ]
    return [words, closest, *(max(0, words - order) for order in range(_ORDERS)), *right]
