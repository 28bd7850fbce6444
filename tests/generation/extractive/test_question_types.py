"""The bank of what can be asked."""

from __future__ import annotations

import numpy as np

from ravlm.data.lexical_overlap import content_words
from ravlm.generation.extractive.question_types import (
    NAME,
    QuestionType,
    QuestionTypeBank,
    read_question_types,
)
from ravlm.generation.extractive.units import _UNITS
from tests.helpers.generators import WordEncoder

QUESTION_TYPES = (
    QuestionType(
        ("name",),
        "name",
        ("Which {thing} is this?", "这是什么{thing}？"),
        things=("bird", "car", "鸟"),
    ),
    QuestionType(("capital", "capital city"), "place", ("What is the capital?",)),
    QuestionType(
        ("coastal",),
        "yes/no",
        ("Has it a coast on the sea?",),
        opposite=("Is it landlocked, far from water?",),
    ),
    QuestionType(("height",), "number", ("How tall is the tower?",), dimension="length"),
)


def bank(types: tuple[QuestionType, ...] = QUESTION_TYPES) -> QuestionTypeBank:
    return QuestionTypeBank(types, WordEncoder().encode_texts)


def vector(text: str) -> np.ndarray:
    return WordEncoder().encode_texts([text])


def test_the_bank_that_comes_along_is_sound() -> None:
    types = read_question_types()
    dimensions = {dimension for dimension, _ in _UNITS.values()} | {""}
    assert len(types) > 90
    assert "name" in types[NAME].keys
    for question_type in types:
        assert question_type.keys
        assert len(question_type.questions) >= 2
        assert question_type.dimension in dimensions
        assert not question_type.opposite or question_type.answer == "yes/no"
        assert all("{" not in question for question in question_type.all_questions())


def test_things_are_filled_in_by_language() -> None:
    assert QUESTION_TYPES[0].all_questions() == [
        "Which bird is this?",
        "Which car is this?",
        "这是什么鸟？",
    ]


def test_the_nearest_question_says_what_is_asked() -> None:
    scores = bank().scores(vector("So what is its capital?"))
    assert scores.nearest == "What is the capital?"
    assert scores.weights.argmax() == 1
    assert scores.weights.sum() == np.float64(1) or abs(scores.weights.sum() - 1) < 1e-6


def test_a_key_in_the_question_counts_even_where_no_question_is_near() -> None:
    words = content_words("Give me the height, o tower keeper of the capital")
    near = bank().scores(vector("zzz"), frozenset())
    assert bank().scores(vector("zzz"), words).weights[3] > near.weights[3]


def test_the_opposite_is_known_as_such() -> None:
    assert bank().scores(vector("is it landlocked and far away")).opposite
    assert not bank().scores(vector("does the sea touch a coast")).opposite


def test_questions_can_be_left_out() -> None:
    question_bank = bank()
    skip = question_bank.owner == 1
    assert question_bank.scores(vector("What is the capital?"), skip=skip).weights[1] < 0.5


def test_keys_match_aspects_by_likeness_and_the_name_line_is_the_name() -> None:
    question_bank = bank()
    matches = question_bank.match(WordEncoder().encode_texts(["capital city", "label"]), name=1)
    assert matches[0].argmax() == 1
    assert matches[0, 1] > 0.9
    assert matches[1, NAME] == 1
    assert question_bank.match(WordEncoder().encode_texts(["height"]))[0, 1] == 0
