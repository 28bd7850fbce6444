"""Taking entry texts apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravlm.data.facts import Fact, entity_key, entity_name, parse_facts, read_facts, split_list
from ravlm.records import Entry


def test_lines_become_facts_and_sentences() -> None:
    text = "\ufeffName: Ruby Finch\narea_km2: 12\nIt sings. The nest hangs low.\n名称：红雀"
    assert parse_facts(text) == [
        Fact("Name", "Ruby Finch"),
        Fact("area km2", "12"),
        Fact("", "It sings."),
        Fact("", "The nest hangs low."),
        Fact("名称", "红雀"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "2 bright eyespots on each wing above. On the forewing: one near the tip",
        "see https://example.org/a for more",
        "Above, tawny: with an orange bar",
        "one two three four five six seven: eight",
    ],
)
def test_prose_with_a_colon_is_no_fact(line: str) -> None:
    """Field-guide sentences with a colon were once parsed as a key and half a sentence."""
    assert all(fact.key == "" for fact in parse_facts(line))


def test_an_address_stays_whole_as_a_value() -> None:
    assert parse_facts("URL: https://example.org/a") == [Fact("URL", "https://example.org/a")]


def test_a_heading_goes_with_the_lines_below_it() -> None:
    facts = parse_facts(
        "Nutrition per 100 gram: \n   energy ca 40 kilokalori \n   salt 1 g \nColour: red\nRound."
    )
    assert facts[0] == Fact("", "energy ca 40 kilokalori", "Nutrition per 100 gram")
    assert [fact.section for fact in facts] == ["Nutrition per 100 gram"] * 2 + ["", ""]


def test_a_joined_key_is_split_when_the_value_has_two_parts() -> None:
    assert parse_facts("Country and volume: Italy,\xa0ca 180g") == [
        Fact("Country", "Italy"),
        Fact("volume", "ca 180g"),
    ]
    assert parse_facts("Salt and pepper: yes") == [Fact("Salt and pepper", "yes")]


def test_metadata_is_read_too_and_nothing_twice() -> None:
    entry = Entry(
        "a", None, ("Capital: Lima",),
        {"facts": {"capital": "Lima", "landlocked": False, "languages": ["Spanish", "Quechua"]},
         "split": "train", "n": {}},
    )  # fmt: skip
    assert read_facts(entry) == [
        Fact("Capital", "Lima"),
        Fact("landlocked", "no"),
        Fact("languages", "Spanish, Quechua"),
    ]


def test_the_name_is_the_first_line_that_names_then_metadata() -> None:
    assert (
        entity_name(Entry("a", None, ("Kind: Bird\nCommon name: Wren\nTitle: Wren, class 1",)))
        == "Wren"
    )
    assert entity_name(Entry("a", None, ("A wren.",), {"facts": {"entity": "Wren"}})) == "Wren"
    assert entity_name(Entry("a", None, ("A wren.",))) == ""


def test_entries_of_one_name_are_one_entity() -> None:
    one, other = Entry("a", None, ("Name: Wren",)), Entry("b", None, ("NAME: wren",))
    assert entity_key(one) == entity_key(other) == "wren"
    assert entity_key(Entry("c", None, ("A bird.",), {"group": 7})) == "7"
    assert entity_key(Entry("d", None, ("A bird.",))) == "d"


def test_items_of_a_list() -> None:
    assert split_list("Spain, Portugal; Italy、法国") == ["Spain", "Portugal", "Italy", "法国"]
    assert split_list("1,000") == ["1,000"]


@given(st.text().map(lambda text: text.replace(":", ",").replace("：", "，")))
def test_no_word_is_lost(text: str) -> None:
    """No letter of a text is lost, for any text."""
    kept = "".join(fact.section + fact.key + fact.value for fact in parse_facts(text))
    assert sorted({c for c in text if c.isalnum()}) == sorted({c for c in kept if c.isalnum()})
