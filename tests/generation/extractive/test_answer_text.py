"""From a fact to the words of the answer."""

from __future__ import annotations

import numpy as np
import pytest

from ravlm.data.facts import Fact
from ravlm.generation.extractive.answer_text import phrase_answer, same_answer
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.question_types import (
    QuestionType,
    QuestionTypeBank,
    QuestionTypeScores,
)
from ravlm.generation.extractive.questions import parse_question
from ravlm.generation.extractive.reader import FEATURES, FactReader
from tests.helpers.generators import WordEncoder

QUESTION_TYPES = (
    QuestionType(("name",), "name", ("What is this called by people?",)),
    QuestionType(("wingspan",), "number", ("How wide are the wings spread?",), dimension="length"),
    QuestionType(
        ("landlocked",), "yes/no", ("Is it landlocked?",), opposite=("Does it have a coast?",)
    ),
    QuestionType(("borders",), "list", ("Which neighbours has it?",)),
)


def reader() -> FactReader:
    vectors = EmbeddingCache(WordEncoder())
    return FactReader(
        vectors, QuestionTypeBank(QUESTION_TYPES, vectors), dict.fromkeys((*FEATURES, "none"), 0.0)
    )


def scores(type_index: int, opposite: bool = False) -> QuestionTypeScores:
    question_type = QUESTION_TYPES[type_index]
    nearest = (question_type.opposite if opposite else question_type.questions)[0]
    return QuestionTypeScores(np.eye(len(QUESTION_TYPES))[type_index], nearest, 5.0, opposite)


@pytest.mark.parametrize(
    ("question", "type_index", "opposite", "fact", "answer"),
    [
        ("What is it?", 0, False, Fact("Name", "Snow Owl"), "Snow Owl"),
        (
            "What is its wingspan?",
            1,
            False,
            Fact("", '3 1/2-4" (89-102 mm).'),
            '3 1/2-4", 89-102 mm',
        ),
        (
            "What is its wingspan in mm?",
            1,
            False,
            Fact("", '3 1/2-4" (89-102 mm). Large.'),
            "89-102 mm",
        ),
        (
            "How many kilocalories has it?",
            0,
            False,
            Fact("", "energy ca 40 kilokalori"),
            "40 kilokalori",
        ),
        ("How wide is it?", 1, False, Fact("Wingspan", "9 cm"), "9 cm"),
        ("How many neighbours has it?", 3, False, Fact("borders", "Peru, Chile, Bolivia"), "3"),
        ("Is it landlocked?", 2, False, Fact("landlocked", "yes"), "yes"),
        ("Does it have a coast?", 2, True, Fact("landlocked", "yes"), "no"),
        ("Doesn't it have a coast?", 2, True, Fact("landlocked", "yes"), "yes"),
        ("Is it without a coast?", 2, True, Fact("landlocked", "yes"), "yes"),
        ("Is it landlocked or coastal?", 2, False, Fact("landlocked", "yes"), "landlocked: yes"),
        ("Does it border Chile?", 3, False, Fact("borders", "Peru, Chile"), "yes (Chile)"),
        ("Does it border Spain?", 3, False, Fact("borders", "Peru, Chile"), "no (Peru, Chile)"),
        ("Does it eat fish?", 0, False, Fact("", "It eats fish and sleeps."), "yes"),
        ("Does it eat bread?", 0, False, Fact("", "It eats fish and sleeps."), ""),
        ("它是内陆国吗？", 2, False, Fact("landlocked", "no"), "否（no）"),
        ("图中的动物是什么？", 0, False, Fact("名称", "雪鸮"), "图中的动物是雪鸮。"),
        ("它的首都是哪里？", 0, False, Fact("capital", "Lima"), "它的首都是 Lima。"),
        ("它有多少个邻国？", 3, False, Fact("borders", "Peru, Chile"), "2"),
    ],
)
def test_answers(question: str, type_index: int, opposite: bool, fact: Fact, answer: str) -> None:
    fact_reader = reader()
    assert (
        phrase_answer(
            parse_question(question, fact_reader.units),
            fact,
            scores(type_index, opposite),
            fact_reader,
        )
        == answer
    )


def test_a_long_sentence_is_cut_to_the_clause_that_answers() -> None:
    fact_reader = reader()
    fact = Fact(
        "",
        "Dark above, with a broad white band on each wing, paler below, "
        "and a long curved tail that trails behind",
    )
    answer = phrase_answer(
        parse_question("What band is on the wing?", fact_reader.units), fact, scores(0), fact_reader
    )
    assert answer == "with a broad white band on each wing"


def test_one_of_a_long_list_is_three_of_it() -> None:
    fact_reader = reader()
    fact = Fact("languages", ", ".join(f"Tongue {c}" for c in "ABCDEFGH"))
    assert (
        phrase_answer(
            parse_question("Name an official language.", fact_reader.units),
            fact,
            scores(0),
            fact_reader,
        )
        == "Tongue A, Tongue B, Tongue C"
    )
    assert (
        phrase_answer(
            parse_question("Which languages are official?", fact_reader.units),
            fact,
            scores(0),
            fact_reader,
        )
        == fact.value
    )


def test_the_same_answer_in_other_dress() -> None:
    assert same_answer("Costa Rica.", "costa  rica")
    assert not same_answer("Costa Rica", "Puerto Rico")
