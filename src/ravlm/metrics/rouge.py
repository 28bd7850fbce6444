"""ROUGE (Lin 2004): COCO's ROUGE-L, and ROUGE-1, -2 and -L of rouge-score.

The two ROUGE-L differ. COCO takes the best recall and the best precision over all references and
weights recall (beta 1.2); rouge-score takes the reference with the best F1.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import regex

from ravlm.data.chinese import HAN
from ravlm.errors import InvalidInput
from ravlm.metrics.tokenization import TokenizedCorpus, TokenizerName, count_ngrams
from ravlm.records import Score

_BETA = 1.2
_ROUGE_SCORE_TOKEN = regex.compile("[a-z0-9]+")
_LETTER = regex.compile(r"\p{L}")
_ANY_SCRIPT_TOKEN = regex.compile(rf"[{HAN}]|[\p{{L}}\p{{M}}\p{{N}}--[{HAN}]]+", regex.V1)
"""A Chinese character, or a run of letters, their marks and digits."""


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
    kind: Literal["1", "2", "L"] = "L",
    tokenize: TokenizerName | Literal["rouge"] = "rouge",
) -> Score:
    """Compute the F1 of ROUGE-1, -2 or -L, 0 to 1: the best reference, mean of the items.

    Reference implementation: rouge-score 0.1.2 without stemming. Tokenization: "rouge" takes the
    runs of a to z and digits of the lower-cased text, as rouge-score does. For items most of whose
    letters are others, of which rouge-score would leave nothing, it takes the words of any script
    and single Chinese characters. Or as in `rouge_l`.
    """
    if kind not in _OVERLAPS:
        raise InvalidInput(f'kind is "{kind}"; allowed: {", ".join(_OVERLAPS)}.')
    own_tokens = tokenize == "rouge"
    corpus = TokenizedCorpus(candidates, references, "none" if tokenize == "rouge" else tokenize)
    overlap = _OVERLAPS[kind]
    items = []
    for line, lines in zip(corpus.candidate_lines, corpus.reference_lines, strict=True):
        split = _rouge_tokenizer([line, *lines]) if own_tokens else str.split
        candidate = split(line)
        items.append(max(_f1(*overlap(candidate, split(reference))) for reference in lines))
    signature = corpus.signature(f"rouge-{kind.lower()}", "f1")
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


def _rouge_tokenizer(texts: Sequence[str]) -> Callable[[str], list[str]]:
    """Return rouge-score's tokenizer, or one of any script if most letters are not a to z."""
    letters = _LETTER.findall("".join(texts).lower())
    num_plain = sum("a" <= letter <= "z" for letter in letters)
    if num_plain >= len(letters) / 2:
        return lambda text: _ROUGE_SCORE_TOKEN.findall(text.lower())
    return lambda text: _ANY_SCRIPT_TOKEN.findall(unicodedata.normalize("NFC", text.lower()))


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
