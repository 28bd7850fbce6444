"""What a recognized page takes over from the page before it."""

from __future__ import annotations

from typing import Any

from ravlm.data.carried_context import page_titles, top_section, with_carried_context
from ravlm.records import Entry
from ravlm.regions import Region

NAMES = {"title": "rules", "file": "rules.pdf"}  # as the reader of PDF files names a scan


def page(number: int, regions: list[Region], **metadata: Any) -> Entry:
    values = {**NAMES, "page": number, **metadata}
    return Entry(f"rules.pdf#page={number}", f"rules.pdf#page={number}", (), values, tuple(regions))


def title(text: str) -> Region:
    return Region(text, (0.1, 0.1, 0.5, 0.12), 1, "title")


def line(text: str, left: float = 0.1, top: float = 0.3) -> Region:
    return Region(text, (left, top, left + 0.1, top + 0.02), 1)


def test_titles_and_sections_go_on() -> None:
    first = with_carried_context(page(1, [title("House rules"), line("a"), title("Keys")]), None)
    assert first.metadata == {**NAMES, "title": "House rules", "section": "House rules", "page": 1}
    second = with_carried_context(page(2, [line("b"), title("Noise"), line("c")]), first)
    assert (second.metadata["title"], second.metadata["section"]) == ("House rules", "Keys")
    third = with_carried_context(page(3, [title("Pets"), line("d")]), second)
    assert third.metadata["section"] == "Pets"
    fourth = with_carried_context(page(4, [line("e")]), with_carried_context(page(3, []), second))
    assert fourth.metadata["section"] == "Noise"


def test_titles_of_the_file_are_kept() -> None:
    named = page(2, [title("Noise")], title="Hotel handbook", section="Chapter 2")
    entry = with_carried_context(named, page(1, [title("Keys")]))
    assert (entry.metadata["title"], entry.metadata["section"]) == ("Hotel handbook", "Chapter 2")


def test_a_page_without_titles_has_no_section() -> None:
    entry = with_carried_context(page(1, [line("a")]), None)
    assert entry.metadata == {**NAMES, "page": 1}


def test_a_table_that_goes_on_gets_its_head() -> None:
    table = Region("", (0.1, 0.3, 0.9, 0.4), 1, "table")
    head = [line("Fruit"), line("Price", 0.5)]
    first = page(1, [table, *head, line("Fig", 0.1, 0.33), line("3.10", 0.5, 0.33)])
    second = page(2, [table, line("Plum"), line("2.40", 0.5)])
    regions = with_carried_context(second, first).regions
    assert [region.text for region in regions] == ["", "Fruit | Price", "Plum", "2.40"]


def test_titles_of_several_lines() -> None:
    regions = [("title", ""), ("line", "Rules for the co-"), ("line", "owners"), ("table", "")]
    assert page_titles([*regions, ("line", "no title")]) == ["Rules for the coowners"]
    assert top_section([("header", "7"), *regions], "Keys") == "Rules for the coowners"
    assert top_section([("paragraph", "x"), ("title", "Noise")], "Keys") == "Keys"
