"""Reading answers in facts: the parts with an encoder of words, the whole with the starter."""

from __future__ import annotations

import numpy as np
import pytest

from ravlm.data.facts import Fact, parse_facts
from ravlm.encoders.base import Encoder
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.generator import ExtractiveGenerator, answer_confidence
from ravlm.generation.extractive.question_types import QuestionTypeBank, read_question_types
from ravlm.generation.extractive.questions import parse_question
from ravlm.generation.extractive.reader import FEATURES, FactReader, read_weights
from tests.helpers.generators import WordEncoder

TOWER = parse_facts(
    "Name: Needle Tower\nKind: building\nHeight: 92 m\nArchitect: Ines Calder\nOpened: 1911\n"
    "Open to visitors: no\n"
    "Materials: granite, glass\nVisitors a year: 40000\n"
    "It was built as a lighthouse for the old harbour. The stairs have 311 steps."
)


def with_words() -> FactReader:
    vectors = EmbeddingCache(WordEncoder())
    return FactReader(vectors, QuestionTypeBank(read_question_types(), vectors), read_weights())


def test_every_feature_has_a_weight() -> None:
    assert set(read_weights()) == {*FEATURES, "none"}


def test_features_say_what_fits() -> None:
    reader = with_words()
    question = parse_question("How many kcal does it have?", reader.units)
    facts = [
        Fact("Name", "Oat Bar"),
        Fact("", "energy 45 kcal"),
        Fact("Salt", "2 g"),
        Fact("Organic", "yes"),
    ]
    rows = reader.features(question, facts, reader.question_types(question))
    column = {name: rows[:, i] for i, name in enumerate(FEATURES)}
    np.testing.assert_array_equal(column["unit found"], [0, 1, 0, 0])
    np.testing.assert_array_equal(column["unit wrong"], [0, 0, 1, 0])
    np.testing.assert_array_equal(column["number found"], [0, 1, 1, 0])
    np.testing.assert_array_equal(column["number missing"], [1, 0, 0, 1])
    np.testing.assert_array_equal(column["is name"], [1, 0, 0, 0])
    np.testing.assert_array_equal(column["sentence"], [0, 1, 0, 0])
    np.testing.assert_array_equal(column["yes/no unasked"], [0, 0, 0, 1])
    np.testing.assert_array_equal(column["dimension found here alone"], [0, 1, 0, 0])


def test_no_facts_means_nothing_found() -> None:
    reader = with_words()
    reading = reader.read(parse_question("What is it?", reader.units), [])
    assert reading.fact is None
    assert reading.probability == 1.0


def test_vectors_are_computed_once_and_the_oldest_are_forgotten() -> None:
    encoder = WordEncoder()
    encoded: list[str] = []
    plain = encoder.encode_texts
    encoder.encode_texts = lambda texts, batch_size=64: encoded.extend(texts) or plain(texts)  # type: ignore[method-assign,func-returns-value]
    vectors = EmbeddingCache(encoder, max_texts=2)
    first = vectors(["red", "blue", "red"])
    vectors(["blue", "red"])
    assert encoded == ["red", "blue"]
    np.testing.assert_array_equal(first[0], first[2])
    assert not np.allclose(first[0], first[1])
    vectors(["green", "grey", "white"])
    vectors(["red"])
    assert encoded[-1] == "red"


@pytest.mark.parametrize(
    ("question", "line"),
    [
        ("What is this?", "Name: Needle Tower"),
        ("Which building can be seen in the photo?", "Name: Needle Tower"),
        ("How tall is it?", "Height: 92 m"),
        ("Who designed this building?", "Architect: Ines Calder"),
        ("What is it made of?", "Materials: granite, glass"),
        ("Can one go inside, is it open?", "Open to visitors: no"),
        ("In which year was it opened?", "Opened: 1911"),
        ("How many people come each year?", "Visitors a year: 40000"),
        ("How many steps do the stairs have?", "The stairs have 311 steps."),
        ("它有多高？", "Height: 92 m"),
        ("建筑师是谁？", "Architect: Ines Calder"),
        ("What is the currency?", None),
        ("Which language do they speak?", None),
        ("What does it eat?", None),
    ],
)
def test_the_starter_reads_questions_it_was_not_fitted_to(
    starter: Encoder, question: str, line: str | None
) -> None:
    """Keys, names and values here stand in no set; the last three questions have no answer."""
    reader = ExtractiveGenerator(starter).reader
    reading = reader.read(parse_question(question, reader.units, starter.gloss(question)), TOWER)
    assert (reading.fact.line if reading.fact else None) == line


def test_confidence_rises_with_all_that_speaks_for_an_answer() -> None:
    assert answer_confidence(0.5, 1.0, 1.0) == pytest.approx(
        1 / (1 + np.exp(-2.35 - 0.09))
    )  # logit and logarithm are 0
    features = [(0, 0, 0), (0.2, 0, 0), (0.2, 0.5, 0), (0.2, 0.5, 0.5), (1, 1, 1)]
    steps = [answer_confidence(*row) for row in features]
    assert steps == sorted(steps)
    assert steps[0] < 0.01
    assert 0.99 < steps[-1] < 1
