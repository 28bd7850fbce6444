"""Which entries a question in words alone is about."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ravlm.records import Entry, Hit, Part
from ravlm.regions import Region
from ravlm.retrieval.entity_linking import entity_names, link, unmatched_entity_name


def hits(*texts: str) -> list[Hit]:
    return [Hit(Entry(f"e{i}", None, (text,)), 0.5, Part("text")) for i, text in enumerate(texts)]


BASE = hits(
    "Name: Monaco\nborders: France\ncapital: Monaco",
    "Name: Equatorial Guinea\nofficial name: Republic of Equatorial Guinea\ncapital: Malabo",
    "Name: United Kingdom\ncapital: London",
    "名称: 法国\n首都: 巴黎",
    "A cup of coffee stands on a wooden table.",
    "A red bus stands at the station.",
)


def test_a_name_in_the_question_leads_to_its_entry() -> None:
    linked = link("What is the capital of Monaco?", "What is the capital of Monaco?", BASE)
    assert [hit.entry.id for hit in linked.hits] == ["e0"]
    assert linked.subject == "Monaco"
    assert linked.support > 0.9


@pytest.mark.parametrize(
    "question",
    [
        "What is the capital of France?",
        "What is the capital of Guinea?",
        "What is the capital of the United States?",
    ],
)
def test_a_neighbour_or_half_a_name_is_not_the_thing(question: str) -> None:
    """Monaco borders France, and so was once taken for the answer to questions about France."""
    assert link(question, question, BASE).hits == ()


def test_chinese_names_are_found_as_written() -> None:
    linked = link("法国的首都是哪里？", "France capital is where?", BASE)
    assert [hit.entry.id for hit in linked.hits] == ["e3"]
    assert linked.subject == "法国"


def test_words_that_cover_one_entry_lead_to_it() -> None:
    linked = link("What stands on the wooden table?", "What stands on the wooden table?", BASE)
    assert [hit.entry.id for hit in linked.hits] == ["e4"]
    assert linked.subject == ""


def test_words_that_fit_several_entries_are_shared_out() -> None:
    linked = link("What is the capital?", "What is the capital?", BASE)
    assert len(linked.hits) == 3
    assert linked.support < 0.5
    assert sum(linked.weights) == pytest.approx(1)


def test_nothing_in_common_is_nothing_found() -> None:
    linked = link("Who painted the ceiling?", "Who painted the ceiling?", BASE)
    assert linked.hits == ()
    assert linked.support < 0.5
    assert link("Who?", "Who?", []).hits == ()


def test_the_matter_of_another_name_is_not_the_images() -> None:
    """A photo of a temple in China was on the table, and the capital of France was said to be
    China."""
    temple = hits("name: Tower of Buddhist Incense\ncountry: China\nheight: 41 m")
    glosses = {"法国": "France", "中国": "China", "建筑物": "building"}

    def gloss(text: str) -> str:
        return glosses.get(text, text)

    for question in (
        "What is the capital of France?",
        "And what is France's capital?",
        "法国的首都是哪里？",
    ):
        assert unmatched_entity_name(question, gloss, temple)
    for question in (
        "What is the capital of China?",
        "What is the height of it?",
        "What is the Latin name?",
        "Is it in France?",
        "中国的首都是哪里？",
        "建筑物的高度是多少？",
    ):
        assert unmatched_entity_name(question, gloss, temple) == "", question


def test_pages_are_no_entities() -> None:
    """All pages of a document have its title; the first one was evidence for every question. And a
    line that had most words of a question kept the other pages from being read."""
    metadata = {"title": "Pump manual"}
    pages = [
        Entry(f"p{n}", regions=[Region(text, (0, 0, 1, 1), n)], metadata=metadata)
        for n, text in enumerate(["Name: the maker", "Oil pressure: 4.5 bar"], 1)
    ]
    page_hits = [Hit(page, 1.0, Part("text", 0, page.regions[0].text, page=1)) for page in pages]
    for question in ("What is the oil pressure in the pump manual?", "What is the oil pressure?"):
        linked = link(question, "", page_hits)
        assert (linked.hits, linked.subject) == ((), "")
    assert entity_names(pages[0]) == entity_names(pages[1]) == []
    card = replace(pages[0], texts=("Name: Alden pump",))
    assert entity_names(card) == ["Alden pump"]
