"""BLEU of a corpus with several references (Papineni, Roukos, Ward and Zhu 2002).

The constants and the choice of the closest reference length are those of pycocoevalcap's `Bleu`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import NgramCounts, TokenizedCorpus, TokenizerName
from ravlm.records import Score

# Smoothing of numerators and denominators, as in pycocoevalcap.
_TINY = 1e-15
_SMALL = 1e-9
_MAX_N = 4


def bleu(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    n: int = 4,
    tokenize: TokenizerName = "ptb",
) -> Score:
    """Compute BLEU-`n` (1 to 4) of the whole corpus, 0 to 1.

    Reference implementation: pycocoevalcap's `Bleu` (equal to 1e-6). Tokenization: Penn Treebank,
    lower-cased, without punctuation; "zh" for Chinese words, "none" for white space.

    `items` are the scores of the single sentences; `value` is not their mean. `counts` (items, 2 +
    2 n): length of the candidate, length of the closest reference, then the n-grams of the
    candidate and the matched n-grams, each for n from 1 on. `bleu_from_counts` computes the value
    from their sum, also for a resample.

        bleu(["a dog runs"], [["a dog is running", "the dog runs"]]).value
    """
    return corpus_bleu(TokenizedCorpus(candidates, references, tokenize), n)


def corpus_bleu(corpus: TokenizedCorpus, n: int = 4) -> Score:
    """Compute `bleu` of texts that are tokenized already."""
    if n not in range(1, _MAX_N + 1):
        raise InvalidInput(f"n is {n!r}; BLEU counts n-grams of 1, 2, 3 or 4 words.")
    return corpus_bleus(corpus)[n - 1]


def corpus_bleus(corpus: TokenizedCorpus) -> list[Score]:
    """Compute BLEU-1 to BLEU-4 of texts that are tokenized already, counting n-grams once."""
    counts = np.array([_counts(corpus, i) for i in range(len(corpus))], np.int64)  # (items, 10)
    scores = []
    for n in range(1, _MAX_N + 1):
        candidate_columns = range(2, 2 + n)
        matched_columns = range(2 + _MAX_N, 2 + _MAX_N + n)
        table = counts[:, [0, 1, *candidate_columns, *matched_columns]]  # (items, 2 + 2 n)
        scores.append(
            Score(
                value=float(bleu_from_counts(table.sum(axis=0))),
                items=tuple(bleu_from_counts(table).tolist()),
                signature=corpus.signature(f"bleu-{n}", "length:closest"),
                counts=table,
            )
        )
    return scores


def bleu_from_counts(counts: np.ndarray) -> np.ndarray:
    """Compute BLEU from summed counts: (..., 2 + 2 n) -> (...)."""
    candidate_length = counts[..., 0]
    reference_length = counts[..., 1]
    n = (counts.shape[-1] - 2) // 2
    precisions = (counts[..., 2 + n :] + _TINY) / (counts[..., 2 : 2 + n] + _SMALL)  # (..., n)
    ratio = (candidate_length + _TINY) / (reference_length + _SMALL)
    brevity_penalty = np.exp(np.minimum(0, 1 - 1 / ratio))
    return precisions.prod(axis=-1) ** (1 / n) * brevity_penalty


def _counts(corpus: TokenizedCorpus, item: int) -> list[int]:
    """Return both lengths, and the candidate's and the matched n-grams for n from 1 to 4."""
    candidate_length = len(corpus.candidates[item])
    reference_lengths = [len(reference) for reference in corpus.references[item]]
    closest = min((abs(length - candidate_length), length) for length in reference_lengths)[1]
    totals = [max(0, candidate_length - n + 1) for n in range(1, _MAX_N + 1)]
    matched = [
        _clipped_matches(corpus.candidate_ngrams[item], corpus.reference_ngrams[item], order)
        for order in range(_MAX_N)
    ]
    return [candidate_length, closest, *totals, *matched]


def _clipped_matches(candidate: NgramCounts, references: list[NgramCounts], order: int) -> int:
    """Count the n-grams of the candidate, each at most as often as one reference has it."""
    return sum(
        min(count, max(reference[order].get(ngram, 0) for reference in references))
        for ngram, count in candidate[order].items()
    )
