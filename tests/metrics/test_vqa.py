"""Answer metrics: the published normalization rule by rule, and arithmetic on paper."""

from __future__ import annotations

import pytest

from ravlm.errors import InvalidInput
from ravlm.metrics import containment, exact_match, normalize_answer, token_f1, vqa_accuracy

RULES = {
    "The Cat": "cat",  # lower case, articles
    "an apple a day": "apple day",
    "two": "2",  # number words
    "none": "0",
    "ten dogs": "10 dogs",
    "eleven": "eleven",
    "dont": "don't",  # contractions
    "couldnt've": "couldn't've",
    "couldn'tve": "couldn't've",
    "hed": "he'd",
    "its": "its",
    "somebody'd": "somebodyd",
    "ow's'at": "'ow's'at",
    "yall'd've": "y'all'd've",
    "x-ray": "x ray",  # a mark inside becomes a space
    "x - ray": "x ray",  # one beside a space goes
    "yes!": "yes",
    "no, sir": "no sir",
    "well-known, yes": "well known yes",
    "1,000": "1000",  # thousands: all marks go
    "1,000-2": "10002",
    "3.5 cm.": "3.5 cm",  # a stop stays before a digit
    "U.S.": "us",
    "what\nis\tit?": "what is it",
    "$5": "$5",
    "A": "a",  # beyond the published rules: what no word follows is no article
    "The The": "the",
    "vitamin A.": "vitamin a",
    "an A and a B": "and b",
    "-5 °C": "-5 °c",  # signs of numbers and grades
    "−5": "-5",
    "9 - 5": "9 5",
    "B+": "b+",
    "AB-": "ab-",
    "+": "+",  # nothing else would be left
    "?!": "?!",
    " ": "",
    "“天空”。": "天空",  # beyond the published rules: Chinese marks
    "東方明珠，４６８米！": "东方明珠 468米",  # and one form for scripts and widths
    "It’s a “cafe\u0301”": "it's café",
}


@pytest.mark.parametrize("text", RULES)
def test_normalization(text: str) -> None:
    assert normalize_answer(text) == RULES[text]


def test_soft_accuracy_on_paper() -> None:
    """Each of ten annotators is left out once: of 2 who agree, 1 or 2 remain; of 4, 3 or 4."""
    people = ["Yes."] * 2 + ["no"] * 4 + ["two"] * 4
    score = vqa_accuracy(["yes", "2", "maybe"], [people] * 3)
    assert score.items == pytest.approx(((2 * 1 / 3 + 8 * 2 / 3) / 10, 1.0, 0.0))
    assert score.value == pytest.approx((0.6 + 1) / 3)


def test_soft_accuracy_of_few_people() -> None:
    """With a single reference the leave-one-out rule gave 0 for every answer."""
    assert vqa_accuracy(["cat", "cat"], [["a cat"], ["dog"]]).items == (1.0, 0.0)
    assert vqa_accuracy(["cat"], [["cat", "cat", "dog"]]).items == pytest.approx(
        ((0.5 + 0.5 + 1) / 3,)
    )


def test_any_of_the_answers_is_right() -> None:
    assert exact_match(
        ["The cat", "cats", "天空。"], [["dog", "cat"], ["cat"], ["天空"]]
    ).items == (1.0, 0.0, 1.0)


def test_containment_asks_for_whole_words_in_order() -> None:
    texts = ["It is a red cat.", "a catalogue", "cat red", "它在天空中"]
    assert containment(texts, [["red cat"], ["cat"], ["red cat"], ["天空"]]).items == (
        1.0,
        0.0,
        0.0,
        1.0,
    )
    assert containment(["anything"], [["the"]]).items == (0.0,)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("D", ""), ("A", ""), ("an", "the"), ("A", "B"), ("+", "-"), ("-3", "3"), ("A+", "A"),
     ("Plan A", "Plan"), ("?", ""), ("。", "")],
)  # fmt: skip
def test_short_answers_count_as_what_they_are(right: str, wrong: str) -> None:
    """The grade A lost its letter as an article: twelve right answers of twelve scored 0.667, and
    an abstention, an empty text, was counted right where the answer was A."""
    for metric in (exact_match, containment, token_f1, vqa_accuracy):
        assert metric([right], [[right]]).value == 1, metric.__name__
        if metric is not token_f1 or len(right) == 1:
            assert metric([wrong], [[right]]).value == 0, metric.__name__
    assert vqa_accuracy([wrong], [[right] * 10]).value == 0
    if right.isalpha():
        assert containment([f"It is {right}."], [[right]]).value == 1


def test_token_f1_on_paper() -> None:
    score = token_f1(
        ["the red cat sat", "蓝色的天空", "dog"], [["dog", "red cat"], ["天空"], ["cat"]]
    )
    assert score.items == pytest.approx((2 * 2 / (3 + 2), 2 * 2 / (5 + 2), 0.0))
    assert token_f1(["the red cat sat"], [["red cat"]], tokenize="ptb").items == pytest.approx(
        (2 * 2 / (4 + 2),)
    )
    assert "tokenize:ptb" in token_f1(["a"], [["b"]], tokenize="ptb").signature


@pytest.mark.parametrize(
    "metric", [vqa_accuracy, exact_match, containment, token_f1], ids=lambda m: m.__name__
)
def test_bad_input_is_refused(metric) -> None:
    with pytest.raises(InvalidInput, match=r"references\[0\] is the text 'cat'; it must be a list"):
        metric(["cat"], ["cat"])
    with pytest.raises(InvalidInput, match=r"references\[1\] is empty"):
        metric(["cat", "dog"], [["cat"], []])
    with pytest.raises(InvalidInput, match=r"same length \(1 and 2\)"):
        metric(["cat"], [["cat"], ["dog"]])
