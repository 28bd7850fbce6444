"""Accuracy of short answers: VQA soft accuracy, exact match, token F1, containment.

All of them first normalize answers by the published rules of the VQA evaluation (Antol et al. 2015,
Goyal et al. 2017): punctuation, number words, articles and contractions. Two things stay that these
rules delete, because they are the answer: an "a" that no word follows (the grade A, hepatitis A),
and signs (-5, A+, or a + alone). Chinese answers lose their punctuation and are
compared character by character; traditional and simplified, full and half width are equal.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import numpy as np

from ravlm.data.chinese import HAN
from ravlm.data.text import normalize_text
from ravlm.metrics.tokenization import (
    TokenizedCorpus,
    TokenizerName,
    require_references,
    require_texts,
    signature,
)
from ravlm.records import Score

AnswerTokenizer = TokenizerName | Literal["answer"]
"""How answers are tokenized: "answer" (normalized, Chinese by characters), or like captions."""

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS_SEPARATOR = re.compile(r"\d,\d")
_SIGN = re.compile(r"(?<!\S)[-\u2212](?=\.?\d)|\b[A-Za-z]{1,2}[-+\u2212]+(?!\w)")
"""The sign of a number or a grade (-5, A+, AB-), which the rules delete as punctuation."""
_PROTECTED = str.maketrans("-\u2212+", "\ue000\ue000\ue001")
_RESTORED = str.maketrans("\ue000\ue001", "-+")
_PERIOD = re.compile(r"\.(?!\d)")
_CHINESE_PUNCTUATION = re.compile("[，。！？；：、“”‘’（）《》【】…·]")
_ANSWER_TOKEN = re.compile(rf"[{HAN}]|[^\s{HAN}]+")
_DIGITS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
    "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
_ARTICLES = ("a", "an", "the")
_CORRECT_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've
    hasn't haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't
    mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't
    she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
    someone'd've someone'll someone's something'd something'd've something'll that's there'd
    there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've
    we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've
    who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll
    y'all'd've you'd you'd've you'll you're you've
"""
_CONTRACTIONS = {
    word[:i] + word[i + 1 :]: word
    for word in _CORRECT_CONTRACTIONS.split()
    for i, character in enumerate(word)
    if character == "'"
} | {"somebody'd": "somebodyd"}
"""Misspelled -> correct: contractions that lack one apostrophe, and one oddity of the rules."""


def normalize_answer(text: str) -> str:
    """Return `text` as the VQA evaluation compares it.

    Lower case, no punctuation, no articles before a word, numbers as digits. Only a blank text
    becomes an empty one.

        normalize_answer("The two dogs.")    # "2 dogs"
        normalize_answer("Vitamin A")        # "vitamin a"
    """
    text = normalize_text(text).replace("\n", " ").replace("\t", " ").strip()
    has_thousands = _THOUSANDS_SEPARATOR.search(text) is not None
    result = _SIGN.sub(lambda match: match[0].translate(_PROTECTED), text)
    for mark in _PUNCTUATION:
        if mark in text:
            at_word_edge = f"{mark} " in text or f" {mark}" in text
            result = result.replace(mark, "" if has_thousands or at_word_edge else " ")
    result = _CHINESE_PUNCTUATION.sub(" ", _PERIOD.sub("", result))
    words = (result.translate(_RESTORED) if result.strip() else text).lower().split()
    words = _without_articles([_DIGITS.get(word, word) for word in words])
    return " ".join(_CONTRACTIONS.get(word, word) for word in words)


def _without_articles(words: list[str]) -> list[str]:
    """Drop articles before another word; what ends the answer is no article: "plan A", "A"."""
    return [
        word for word, following in pairwise([*words, ""]) if word not in _ARTICLES or not following
    ]


def vqa_accuracy(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    """Compute VQA accuracy, 0 to 1; the mean of the items.

    An answer is fully correct if three of the other annotators gave it, averaged over leaving out
    each annotator. `references[i]`: the answers of all annotators (ten in VQA), duplicates
    included. With fewer than four, all others must agree; a single answer counts as in
    `exact_match`. Reference implementation: the published rules of the VQA evaluation, which does
    not normalize when all annotators agree, and deletes an "a" at the end, too. Tokenization: none,
    answers are compared as normalized.
    """
    return _mean(candidates, references, _soft_accuracy, "vqa-accuracy")


def exact_match(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    """Compute the fraction of answers that equal a reference after normalization, 0 to 1.

    Tested against arithmetic on paper.
    """
    return _mean(
        candidates, references, lambda answer, correct: float(answer in correct), "exact-match"
    )


def containment(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    max_extra_words: int | None = None,
) -> Score:
    """Compute the fraction of texts that contain a reference as consecutive words, 0 to 1.

    `max_extra_words`: how many words the text may have besides those of the reference; None for any
    number. Tested against arithmetic on paper. Tokenization: words of the normalized text, Chinese
    by characters.
    """

    def contains(text: str, correct: list[str]) -> float:
        tokens = _answer_tokens(text)
        return float(any(_contains(tokens, _answer_tokens(a), max_extra_words) for a in correct))

    limit = "any" if max_extra_words is None else max_extra_words
    return _mean(candidates, references, contains, f"containment-{limit}")


def token_f1(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: AnswerTokenizer = "answer",
) -> Score:
    """Compute the F1 of the tokens with the best reference, 0 to 1; the mean of the items.

    Tested against arithmetic on paper. Tokenization: "answer" takes the words of the normalized
    text, Chinese by characters; or as in `bleu`.
    """
    if tokenize == "answer":
        return _mean(
            candidates,
            references,
            lambda text, correct: max(
                _f1(_answer_tokens(text), _answer_tokens(answer)) for answer in correct
            ),
            "token-f1",
        )
    corpus = TokenizedCorpus(candidates, references, tokenize)
    items = [
        max(_f1(candidate, reference) for reference in item_references)
        for candidate, item_references in zip(corpus.candidates, corpus.references, strict=True)
    ]
    return Score(float(np.mean(items)), tuple(items), corpus.signature("token-f1"))


def _mean(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    item_score: Callable[[str, list[str]], float],
    name: str,
) -> Score:
    """Average `item_score(answer, correct answers)` of the normalized texts."""
    answers = [normalize_answer(text) for text in require_texts("candidates", candidates)]
    correct_answers = [
        [normalize_answer(text) for text in texts]
        for texts in require_references(references, len(answers))
    ]
    items = tuple(
        item_score(answer, correct)
        for answer, correct in zip(answers, correct_answers, strict=True)
    )
    # The spelling "normalise" is kept: signatures of earlier scores stay comparable.
    return Score(float(np.mean(items)), items, signature(name, "normalise:vqa"))


def _soft_accuracy(answer: str, correct: list[str]) -> float:
    if len(correct) == 1:
        return float(answer == correct[0])
    quorum = min(3, len(correct) - 1)
    num_equal = correct.count(answer)
    accuracies = [min(1.0, (num_equal - (answer == annotation)) / quorum) for annotation in correct]
    return float(np.mean(accuracies))


def _contains(tokens: list[str], answer: list[str], max_extra_words: int | None) -> bool:
    num_extra = len(tokens) - len(answer)
    if not answer or (max_extra_words is not None and num_extra > max_extra_words):
        return False
    return any(tokens[i : i + len(answer)] == answer for i in range(num_extra + 1))


def _answer_tokens(text: str) -> list[str]:
    """Return the words of a normalized answer; each Chinese character is one."""
    return _ANSWER_TOKEN.findall(text)


def _f1(candidate: list[str], reference: list[str]) -> float:
    common = (Counter(candidate) & Counter(reference)).total()
    return 2 * common / (len(candidate) + len(reference)) if common else 0.0
