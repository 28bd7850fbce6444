"""What the words of a question tell by themselves."""

from __future__ import annotations

import pytest

from ravlm.generation.extractive.questions import is_negated, parse_question
from ravlm.generation.extractive.units import Units


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("What is it?", "open"),
        ("Is it landlocked?", "yes/no"),
        ("And does it swim?", "yes/no"),
        ("Was the rent paid?", "yes/no"),
        ("Was ist ein Mahlgang?", "open"),
        ("Is it a fruit or a vegetable?", "choice"),
        ("Can you tell me what this is?", "open"),
        ("Could you tell me how tall it is?", "open"),
        ("Do you know how tall it is?", "open"),
        ("How tall is it?", "number"),
        ("Where was it grown or made?", "open"),
        ("它是内陆国吗？", "yes/no"),
        ("它是不是很大？", "yes/no"),
        ("这是什么", "open"),
        ("它是猫还是狗？", "choice"),
        ("它有几个邻国？", "number"),
        ("它有多高？", "number"),
    ],
)
def test_forms(text: str, form: str) -> None:
    expected = "number" if "how tall" in text.lower() else form
    assert parse_question(text, Units()).form == expected


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("What is the capital of the country with this flag?", "What is the capital of it?"),
        ("Which genus is this butterfly in?", "Which genus is it in?"),
        ("Which butterfly is this?", "Which butterfly is this?"),
        ("What's in this picture?", "What's in this picture?"),
        ("What country is this the flag of?", "What country is this the flag of?"),
    ],
)
def test_what_points_at_the_thing_becomes_it(text: str, plain: str) -> None:
    """ "The country with this flag" drew questions about capitals to "Whose flag is this?"."""
    assert parse_question(text, Units()).plain == plain


@pytest.mark.parametrize(
    "text",
    ["Is it without a coast?", "Isn't it tame?", "Has it no shore?", "它没有海岸吗", "它不大吗"],
)
def test_negation(text: str) -> None:
    assert is_negated(text)


@pytest.mark.parametrize(
    "text", ["Is it tame?", "它是不是很大", "它有没有海岸", "Is it notable?", "能不能吃"]
)
def test_no_negation(text: str) -> None:
    assert not is_negated(text)


def test_counting_questions() -> None:
    assert parse_question("How many neighbours does it have?", Units()).counts
    assert not parse_question("How much does it weigh?", Units()).counts
    assert (
        parse_question("它有几个邻国？", Units(), "it has how many neighbours?").english
        == "it has how many neighbours?"
    )
