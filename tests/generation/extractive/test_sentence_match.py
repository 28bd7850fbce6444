"""The words of a question around a span."""

from __future__ import annotations

import pytest

from ravlm.generation.extractive.sentence_match import SentenceMatch

TEXTS = (
    "The library opens at nine. Volunteers sort the shelves and read to children.",
    "图书馆有三名职员。志愿者主要负责整理书架。",
)


def match(question: str, span: str) -> float:
    text = next(number for number, text in enumerate(TEXTS) if span in text)
    start = TEXTS[text].index(span)
    return SentenceMatch(question, TEXTS)(text, start, start + len(span))


def test_the_sentence_with_the_words_of_the_question_matches_best() -> None:
    """ "志愿者主要负责什么？" was answered by the staff of another sentence."""
    assert match("What do volunteers sort?", "the shelves") == pytest.approx(1.0)
    assert match("What do volunteers sort?", "nine") == 0.0
    assert match("志愿者主要负责什么？", "整理书架") > 0.9
    assert match("志愿者主要负责什么？", "三名职员") == 0.0


def test_rare_words_count_more() -> None:
    texts = ("The ship left. The ship sank in May. The storm came in June.",)
    matcher = SentenceMatch("When came the storm to the ship?", texts)
    may, june = texts[0].index("May"), texts[0].index("June")
    assert 0 < matcher(0, may, may + 3) < 0.5 < matcher(0, june, june + 4) < 1


def test_words_of_the_question_alone_are_no_answer() -> None:
    """A condition that the question repeats was taken for what follows from it."""
    assert match("What do volunteers sort?", "Volunteers") == 0.0
    assert match("What do volunteers sort?", "Volunteers sort the shelves") == pytest.approx(1.0)


def test_a_span_over_two_sentences_has_the_words_of_both() -> None:
    assert match("When do volunteers open?", "nine. Volunteers sort") == pytest.approx(1.0)


def test_questions_without_words_match_nothing() -> None:
    assert match("Why?", "nine") == 0.0
