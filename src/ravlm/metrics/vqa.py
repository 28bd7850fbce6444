"""How right short answers are: soft accuracy of VQA, exact match, F1 of words, containment. Knows
no model and no task.

All normalise first by the published rules of the VQA evaluation (Antol et al. 2015, Goyal et al.
2017): punctuation, number words, articles and contractions. Chinese answers lose their punctuation
and compare character by character."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from ravlm.data.chinese import HAN
from ravlm.metrics.tokenization import (
    TokenizedCorpus,
    TokenizerName,
    require_references,
    require_texts,
    signature,
)
from ravlm.records import Score

AnswerWords = TokenizerName | Literal["answer"]
"""How answers fall into words: "answer" (normalised, Chinese by characters), or as captions do."""

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_THOUSANDS = re.compile(r"\d,\d")
_STOP = re.compile(r"\.(?!\d)")
_HAN_MARKS = re.compile("[，。！？；：、“”‘’（）《》【】…·]")
_WORD = re.compile(rf"[{HAN}]|[^\s{HAN}]+")
_NUMBERS = dict(
    zip(
        (
            "none",
            "zero",
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
        ),
        ("0", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"),
        strict=True,
    )
)
_ARTICLES = ("a", "an", "the")
_FULL = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
    he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
    somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
    that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've
    we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's
    who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've
    you'll you're you've
"""
_CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in _FULL.split()
    for place, character in enumerate(word)
    if character == "'"
} | {"somebody'd": "somebodyd"}
"""Contractions that lack one of their apostrophes, and the one that the published rules take
apart."""


def normalize_answer(text: str) -> str:
    """`text` as the VQA evaluation compares it: lower-cased, no punctuation, no articles, numbers
    as digits."""
    text = text.replace("\n", " ").replace("\t", " ").strip()
    joined = _THOUSANDS.search(text) is not None
    plain = text
    for mark in _MARKS:
        if mark in text:
            plain = plain.replace(
                mark, "" if joined or f"{mark} " in text or f" {mark}" in text else " "
            )
    plain = _HAN_MARKS.sub(" ", _STOP.sub("", plain))
    words = (_NUMBERS.get(word, word) for word in plain.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    """Soft accuracy, 0 to 1: an answer is right as far as three of the other people gave it, each
    left out in turn.

    `references[i]` are the answers of all people asked (ten in VQA), equal ones repeated. Of fewer
    than four, all the others must agree; one answer alone counts as in `exact_match`."""
    return _mean(candidates, references, _soft, "vqa-accuracy")


def exact_match(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    """1 where the answer is one of the right ones, else 0; the mean of the items."""
    return _mean(
        candidates, references, lambda answer, right: float(answer in right), "exact-match"
    )


def containment(
    candidates: Sequence[str], references: Sequence[Sequence[str]], words_more: int | None = None
) -> Score:
    """1 where the words of a right answer stand in the text one after another, else 0; the mean of
    the items.

    `words_more`: the text may have so many words more than the answer; without it, any number.
    """

    def contains(text: str, right: list[str]) -> float:
        words = _pieces(text)
        for answer in map(_pieces, right):
            longer = len(words) - len(answer)
            within = words_more is None or longer <= words_more
            if (
                answer
                and within
                and any(words[i : i + len(answer)] == answer for i in range(longer + 1))
            ):
                return 1.0
        return 0.0

    return _mean(
        candidates,
        references,
        contains,
        f"containment-{'any' if words_more is None else words_more}",
    )


def token_f1(
    candidates: Sequence[str], references: Sequence[Sequence[str]], tokenize: AnswerWords = "answer"
) -> Score:
    """F1 of the words, 0 to 1: with the right answer that is nearest; the mean of the items."""
    if tokenize == "answer":
        return _mean(
            candidates,
            references,
            lambda text, right: max(_f1(_pieces(text), _pieces(answer)) for answer in right),
            "token-f1",
        )
    texts = TokenizedCorpus(candidates, references, tokenize)
    items = [
        max(_f1(c, r) for r in right)
        for c, right in zip(texts.candidates, texts.references, strict=True)
    ]
    return Score(float(np.mean(items)), tuple(items), texts.signature("token-f1"))


def _mean(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    item: Callable[[str, list[str]], float],
    name: str,
) -> Score:
    found = [normalize_answer(text) for text in require_texts("candidates", candidates)]
    wanted = [
        [normalize_answer(text) for text in texts]
        for texts in require_references(references, len(found))
    ]
    items = tuple(item(answer, right) for answer, right in zip(found, wanted, strict=True))
    return Score(float(np.mean(items)), items, signature(name, "normalise:vqa"))


def _soft(answer: str, right: list[str]) -> float:
    if len(right) == 1:
        return float(answer == right[0])
    needed = min(3, len(right) - 1)
    same = right.count(answer)
    return float(np.mean([min(1.0, (same - (one == answer)) / needed) for one in right]))


def _pieces(text: str) -> list[str]:
    """The words of a normalised answer; each Chinese character is one."""
    return _WORD.findall(text)


def _f1(ours: list[str], theirs: list[str]) -> float:
    common = (Counter(ours) & Counter(theirs)).total()
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0
