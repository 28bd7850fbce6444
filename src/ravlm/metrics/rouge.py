"""ROUGE: the overlap with a reference as recall and precision. COCO's ROUGE-L, and ROUGE-1, -2 and
-L of rouge-score.

Lin 2004. The two are told apart because their numbers differ: COCO takes the best recall and the
best precision of any reference and weighs recall (beta 1.2); rouge-score takes the reference of the
best F1. Knows no task."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import TokenizedCorpus, TokenizerName, count_ngrams
from ravlm.records import Score

_BETA = 1.2
_LETTERS = re.compile("[a-z0-9]+")


def rouge_l(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenize: TokenizerName = "ptb"
) -> Score:
    """COCO's ROUGE-L, 0 to 1: the mean of the items. Equal to pycocoevalcap's `Rouge`."""
    return corpus_rouge_l(TokenizedCorpus(candidates, references, tokenize))


def corpus_rouge_l(texts: TokenizedCorpus) -> Score:
    """`rouge_l` of texts that are tokenised."""
    items = []
    for line, lines in zip(texts.candidate_lines, texts.reference_lines, strict=True):
        # Single spaces part the words here, as in the reference: no word at all counts as one empty
        # word.
        candidate, references = line.split(" "), [reference.split(" ") for reference in lines]
        common = [lcs_length(candidate, reference) for reference in references]
        precision = max(common) / len(candidate)
        recall = max(c / len(reference) for c, reference in zip(common, references, strict=True))
        items.append(
            (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)
            if precision
            else 0.0
        )
    return Score(float(np.mean(items)), tuple(items), texts.signature("rouge-l", f"beta:{_BETA}"))


def rouge(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    kind: Literal["1", "2", "L"] = "L",
    tokenize: TokenizerName | Literal["rouge"] = "rouge",
) -> Score:
    """F1 of ROUGE-1, -2 or -L, 0 to 1: of the best reference, mean of the items. Equal to
    rouge-score without stemming.

    `tokenize` "rouge" takes the runs of a to z and digits, as that package does.
    """
    if kind not in _OVERLAP:
        raise InvalidInput(f'kind is "{kind}"; allowed: {", ".join(_OVERLAP)}.')
    if tokenize == "rouge":
        texts = TokenizedCorpus(candidates, references, "none")
        read: Callable[[str], list[str]] = lambda line: _LETTERS.findall(line.lower())  # noqa: E731
    else:
        texts = TokenizedCorpus(candidates, references, tokenize)
        read = str.split
    overlap = _OVERLAP[kind]
    items = []
    for line, lines in zip(texts.candidate_lines, texts.reference_lines, strict=True):
        candidate = read(line)
        items.append(max(_f1(*overlap(candidate, read(reference))) for reference in lines))
    signature = texts.signature(f"rouge-{kind.lower()}", "f1").replace(
        "tokenize:none", f"tokenize:{tokenize}"
    )
    return Score(float(np.mean(items)), tuple(items), signature)


def lcs_length(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence; a row of the table is the bits of one number
    (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(one) - row.bit_count()


def _f1(common: int, candidate: int, reference: int) -> float:
    return 2 * common / (candidate + reference) if common else 0.0


def _gram_overlap(n: int) -> Callable[[list[str], list[str]], tuple[int, int, int]]:
    def overlap(candidate: list[str], reference: list[str]) -> tuple[int, int, int]:
        ours, theirs = (count_ngrams(tokens, n)[-1] for tokens in (candidate, reference))
        return (ours & theirs).total(), ours.total(), theirs.total()

    return overlap


def _common_words(candidate: list[str], reference: list[str]) -> tuple[int, int, int]:
    return lcs_length(candidate, reference), len(candidate), len(reference)


_OVERLAP = {"1": _gram_overlap(1), "2": _gram_overlap(2), "L": _common_words}
"""What is common, and how many there are in the candidate and in the reference."""
