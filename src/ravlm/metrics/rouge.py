"""ROUGE (Lin 2004): COCO's ROUGE-L, and ROUGE-1, -2 and -L of rouge-score.

The two ROUGE-L differ. COCO takes the best recall and the best precision over all references and
weights recall (beta 1.2); rouge-score takes the reference with the best F1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import TokenizedCorpus, TokenizerName, count_ngrams
from ravlm.records import Score

_BETA = 1.2
_ROUGE_SCORE_TOKEN = re.compile("[a-z0-9]+")


def rouge_l(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenize: TokenizerName = "ptb"
) -> Score:
    """Compute COCO's ROUGE-L, 0 to 1: the mean of the items.

    Reference implementation: pycocoevalcap's `Rouge` (equal to 1e-6). Tokenization: Penn Treebank,
    lower-cased, without punctuation; "zh" for Chinese words, "none" for white space.
    """
    return corpus_rouge_l(TokenizedCorpus(candidates, references, tokenize))


def corpus_rouge_l(corpus: TokenizedCorpus) -> Score:
    """Compute `rouge_l` of texts that are tokenized already."""
    items = []
    for line, lines in zip(corpus.candidate_lines, corpus.reference_lines, strict=True):
        # Split at single spaces, as the reference implementation does: an empty text has one empty
        # word.
        candidate = line.split(" ")
        references = [reference.split(" ") for reference in lines]
        common = [lcs_length(candidate, reference) for reference in references]
        precision = max(common) / len(candidate)
        recall = max(c / len(reference) for c, reference in zip(common, references, strict=True))
        items.append(_f_beta(precision, recall))
    signature = corpus.signature("rouge-l", f"beta:{_BETA}")
    return Score(float(np.mean(items)), tuple(items), signature)


def rouge(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    variant: Literal["1", "2", "L"] = "L",
    tokenize: TokenizerName | Literal["rouge"] = "rouge",
) -> Score:
    """Compute the F1 of ROUGE-1, -2 or -L, 0 to 1: the best reference, mean of the items.

    Reference implementation: rouge-score 0.1.2 without stemming. Tokenization: "rouge" takes the
    runs of a to z and digits of the lower-cased text, as rouge-score does; or as in `rouge_l`.
    """
    if variant not in _OVERLAPS:
        raise InvalidInput(f'variant is "{variant}"; allowed: {", ".join(_OVERLAPS)}.')
    own_tokens = tokenize == "rouge"
    corpus = TokenizedCorpus(candidates, references, "none" if tokenize == "rouge" else tokenize)
    split = _rouge_score_tokens if own_tokens else str.split
    overlap = _OVERLAPS[variant]
    items = []
    for line, lines in zip(corpus.candidate_lines, corpus.reference_lines, strict=True):
        candidate = split(line)
        items.append(max(_f1(*overlap(candidate, split(reference))) for reference in lines))
    signature = corpus.signature(f"rouge-{variant.lower()}", "f1")
    if own_tokens:
        signature = signature.replace("tokenize:none", "tokenize:rouge")
    return Score(float(np.mean(items)), tuple(items), signature)


def lcs_length(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    A row of the dynamic programming table is kept in the bits of one integer (Hyyrö 2004).
    """
    positions: dict[str, int] = {}  # word -> bit mask of its positions in a
    for index, word in enumerate(a):
        positions[word] = positions.get(word, 0) | 1 << index
    all_bits = (1 << len(a)) - 1
    row = all_bits
    for word in b:
        matches = row & positions.get(word, 0)
        row = ((row + matches) | (row - matches)) & all_bits
    return len(a) - row.bit_count()


def _rouge_score_tokens(text: str) -> list[str]:
    return _ROUGE_SCORE_TOKEN.findall(text.lower())


def _f_beta(precision: float, recall: float) -> float:
    if not precision:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _f1(common: int, candidate: int, reference: int) -> float:
    return 2 * common / (candidate + reference) if common else 0.0


# Each overlap returns three numbers: common items, items of the candidate, items of the reference.


def _ngram_overlap(n: int) -> Callable[[list[str], list[str]], tuple[int, int, int]]:
    def overlap(candidate: list[str], reference: list[str]) -> tuple[int, int, int]:
        candidate_ngrams = count_ngrams(candidate, n)[-1]
        reference_ngrams = count_ngrams(reference, n)[-1]
        common = (candidate_ngrams & reference_ngrams).total()
        return common, candidate_ngrams.total(), reference_ngrams.total()

    return overlap


def _lcs_overlap(candidate: list[str], reference: list[str]) -> tuple[int, int, int]:
    return lcs_length(candidate, reference), len(candidate), len(reference)


_OVERLAPS = {"1": _ngram_overlap(1), "2": _ngram_overlap(2), "L": _lcs_overlap}
