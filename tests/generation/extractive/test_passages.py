"""Answers from pages and from print on photos: with page and box, and not from doubtful words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ravlm.data.facts import entity_key, entity_name, read_facts
from ravlm.generation.base import Request, cited_parts
from ravlm.generation.extractive.passage_reader import answer_from_passages
from ravlm.generation.extractive.passages import MAX_CHARACTERS, passages_of
from ravlm.generation.extractive.questions import parse_question
from ravlm.generation.extractive.units import Units
from ravlm.records import Answer, Entry, Evidence, Hit, Part
from ravlm.regions import Region
from tests.generation.extractive.test_passage_reader import FakeReader

TITLE = Region("Pump manual", (0.1, 0.05, 0.5, 0.08), 3, "title")
OIL = Region("Oil pressure: *4.5 bar*!", (0.1, 0.2, 0.5, 0.22), 3)
SPEED = Region("Speed: *3000 rpm*", (0.1, 0.9, 0.5, 0.92), 3, "line", 0.95)
PAGE = Entry(
    "manual.pdf#page=3", "manual.pdf#page=3", (), {"title": "Pump manual"}, (TITLE, OIL, SPEED)
)


def ask(*entries: Entry) -> Answer | None:
    hits = tuple(Hit(entry, 0.5, Part("text", 0, "")) for entry in entries)
    evidence = Evidence(hits, (1 / len(hits),) * len(hits), linked=False)
    question = parse_question("What?", Units(), "What?")
    reader = FakeReader()
    return answer_from_passages(reader, Request("ask", "What?", evidence=evidence), question)  # type: ignore[arg-type]


def test_an_answer_cites_the_line_of_the_page() -> None:
    answer = ask(PAGE)
    assert answer is not None
    (source,) = answer.sources
    assert (answer.text, answer.citations) == ("4.5 bar", ("manual.pdf#page=3",))
    assert source.part == Part("text", 0, "Oil pressure: *4.5 bar*!", OIL.box, 3)
    assert source.part.text[source.start : source.end] == "4.5 bar"


def test_doubtful_words_are_no_answer() -> None:
    """A word that was read with a confidence of 0.4 was given as the answer."""
    doubtful = replace(OIL, confidence=0.4)
    assert ask(replace(PAGE, regions=(TITLE, doubtful))) is None
    plain = Entry("card", None, ("*3000 rpm*",))
    answer = ask(replace(PAGE, regions=(TITLE, doubtful)), plain)
    assert answer is not None
    assert answer.citations == ("card",)


def test_print_on_a_photo_is_read_after_its_texts() -> None:
    photo = Entry("crate", "crate.jpg", ("a wooden crate",), {}, [replace(OIL, page=None)])
    evidence = Evidence((Hit(photo, 1.0, Part("image")),), (1.0,))
    passages = passages_of(Request("ask", "What?", evidence=evidence))
    assert [(p.part.index, p.part.text) for p in passages] == [
        (0, "a wooden crate"),
        (1, "Oil pressure: *4.5 bar*!"),
    ]
    assert passages[1].source(15, 22).part.box == OIL.box
    assert passages[0].source(2, 8).part == Part("text", 0, "a wooden crate")


def test_a_long_page_is_read_around_what_matched() -> None:
    lines = [
        Region(f"Line {n} of a long page.", (0.1, n / 900, 0.9, n / 900), 1) for n in range(800)
    ]
    entry = Entry("long", regions=lines)
    hit = Hit(entry, 1.0, Part("text", 0, "Line 600 of a long page."))
    (passage,) = passages_of(Request("ask", "What?", evidence=Evidence((hit,), (1.0,))))
    assert len(passage.part.text) <= MAX_CHARACTERS
    start = passage.part.text.index("600")
    source = passage.source(start, start + 3)
    assert source.part.box == lines[600].box
    assert source.part.text[source.start : source.end] == "600"


def test_the_title_of_a_document_is_the_name_of_none_of_its_pages() -> None:
    """All pages of a document were one entity, and only the first was evidence."""
    assert entity_name(PAGE) == ""
    assert entity_key(PAGE) == "manual.pdf#page=3"
    assert [fact.line for fact in read_facts(PAGE)] == [
        "Pump manual",
        "Oil pressure: *4.5 bar*!",
        "Speed: *3000 rpm*",
    ]
    assert entity_name(replace(PAGE, regions=())) == "Pump manual"


@pytest.mark.parametrize(
    ("quote", "box"), [("3000 rpm", SPEED.box), ("", None), ("not there", None)]
)
def test_a_quote_leads_to_its_lines(quote: str, box: object) -> None:
    hit = Hit(PAGE, 1.0, Part("image", page=3))
    (source,) = cited_parts([PAGE.id], [hit], {PAGE.id: quote})
    assert source.part.box == box
    assert source.part.page == 3
    assert source.part.modality == ("text" if box else "image")
