"""Pages are split along their layout."""

from __future__ import annotations

from ravlm.data.page_text import PageText
from ravlm.encoders.chunking import split_page, split_passages
from ravlm.regions import Region, RegionKind


def split(text: str) -> list[str]:
    return split_passages(text, lambda passage: len(passage.split()) <= 12)


def region(kind: RegionKind, text: str) -> Region:
    return Region(text, kind=kind)


def test_a_page_is_split_between_blocks() -> None:
    """A page was cut every few hundred characters, through sentences, rows and captions."""
    page = PageText.of(
        [
            region("title", "Pumps"),
            region("paragraph", "One two three four five six."),
            region("paragraph", "Seven eight nine ten eleven twelve thirteen."),
            region("figure", "inlet outlet"),
            region("caption", "Figure 1: the pump from below and its two valves."),
            region("title", "Valves"),
            region("paragraph", "Red is hot. " * 6),
        ]
    )
    assert split_page(page, split) == [
        "Pumps\nOne two three four five six.",
        "Seven eight nine ten eleven twelve thirteen.",
        "inlet outlet\nFigure 1: the pump from below and its two valves.",
        "Valves Red is hot. Red is hot. Red is hot.",
        "Red is hot. Red is hot. Red is hot.",
    ]
    assert page.section_of("Seven eight nine") == page.section_of("inlet outlet") == "Pumps"
    assert page.section_of("Red is hot.") == "Valves"
    assert page.section_of("Pumps\nOne two") == ""


def test_an_empty_page_has_no_passages() -> None:
    assert split_page(PageText.of([]), split) == []
