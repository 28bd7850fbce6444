"""Definitions on pages, and the questions that ask for them."""

from __future__ import annotations

import pytest

from ravlm.data.page_text import PageText, region_text_index
from ravlm.generation.extractive.definitions import asked_term, definitions, find_definition
from ravlm.generation.extractive.passages import Passage
from ravlm.records import Entry, Hit, Part
from ravlm.regions import Region


def passage(title: str, *paragraphs: str, confidence: float = 1.0) -> Passage:
    regions = [
        Region(text, (0.1, 0.1 + n / 20, 0.9, 0.12 + n / 20), 1, "paragraph", confidence)
        for n, text in enumerate(paragraphs)
    ]
    entry = Entry(f"{title}.pdf#page=1", regions=regions, metadata={"title": title})
    page = PageText.of(regions)
    part = Part("text", region_text_index(entry), page.text)
    return Passage(part, Hit(entry, 0.5, part), 0.5, page)


LEASE = passage(
    "Tenancy agreement",
    '"Quiet Hours" means the time between 10 p.m. and 7 a.m. on weekdays; "Term" means a year.',
    'To "sublet" a room means to let others live in it for money. The "Source" form shall mean the '
    "signed copy. “Common Areas” refers to the stairs and the garden.",
    "A guarantor is a person who pays if the tenant does not. The rent is due on Mondays.",
    'Ann (the "Landlord"), to the extent that she is an owner, signs.',
    '"You" (or "Your") means a guest.',
    "Eine Kaution bezeichnet eine Sicherheit.",
)
RULES = passage(
    "借阅办法",
    "“流动书车”是指每周三开往各村的车辆。共享书架指的是无需登记的书架。青石馆是一个社区图书馆。",
    "合同中的定义：“货物”是指农业机械；演示照片 是库中照片的副本。",
)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ('What does "Quiet Hours" mean?', "the time between 10 p.m. and 7 a.m. on weekdays"),
        ("What are the Quiet Hours?", "the time between 10 p.m. and 7 a.m. on weekdays"),
        ("How is Term defined in the tenancy agreement?", "a year"),
        ('What does it mean to "sublet" a room?', "to let others live in it for money"),
        ("What does it mean to sublet a room?", "to let others live in it for money"),
        ('What does "Source" form mean?', "the signed copy"),
        ("What is meant by Common Areas?", "the stairs and the garden"),
        ("What is a guarantor in the agreement?", "a person who pays if the tenant does not"),
        ("Who is meant by You?", "a guest"),
        ("Was ist eine Kaution?", "eine Sicherheit"),
        ("什么是流动书车？", "每周三开往各村的车辆"),
        ("共享书架是什么意思？", "无需登记的书架"),
        ("青石馆是什么？", "一个社区图书馆"),
        ("合同中的“货物”指什么？", "农业机械"),
        ("演示照片是什么？", "库中照片的副本"),
    ],
)
def test_a_term_is_defined_by_the_rest_of_the_sentence(question: str, text: str) -> None:
    """The span reader answered "weekdays" and "light bulbs", or nothing."""
    found = find_definition(question, [RULES, LEASE])
    assert found is not None
    assert found.passage.part.text[found.start : found.end] == text


@pytest.mark.parametrize(
    "question",
    [
        "When is the rent due?",
        "What is the rent of the flat?",  # "due" defines nothing
        "What is the salary of the guarantor?",
        'Who is the "Landlord"?',  # what follows is not about the term
        'What does "Term" mean in the Norwegian constitution?',  # of another document
        "流动书车什么时候来？",
    ],
)
def test_other_questions_have_no_definition(question: str) -> None:
    assert find_definition(question, [RULES, LEASE]) is None


def test_definitions_read_with_doubt_are_left_out() -> None:
    doubtful = passage("Terms", '"Deposit" means five rents.', confidence=0.5)
    assert find_definition("What is the Deposit?", [doubtful]) is None


def test_a_name_of_several_documents_is_that_of_the_one_asked_for() -> None:
    """ "You" was defined by the license that came first."""
    first = passage("Apache License", '"You" means a person.')
    second = passage("Mozilla License", '"You" means a company.')
    for question, text in (
        ('Who is meant by "You" in the Mozilla License?', "a company"),
        ('Who is meant by "You" in the Apache License?', "a person"),
    ):
        found = find_definition(question, [first, second])
        assert found is not None
        assert found.passage.part.text[found.start : found.end] == text


def test_terms_and_texts_without_one() -> None:
    assert asked_term("Why are barbecues forbidden?") is None
    assert list(definitions("It rains. Ann pays the rent.", 0, 28)) == []
