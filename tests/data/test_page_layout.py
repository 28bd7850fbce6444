"""Blocks of a page from pieces of text with boxes."""

from __future__ import annotations

from collections.abc import Sequence

from ravlm.data.page_layout import find_blocks, to_regions
from ravlm.data.reading_order import TextSegment, is_right_to_left, order_segments
from ravlm.regions import Region


def lines(rows: Sequence[tuple[str, float, float]], height: float = 10) -> list[TextSegment]:
    """Return segments of (text, left, top), five units of width per character."""
    return [
        TextSegment(text, left, top, left + 5 * len(text), top + height, number)
        for number, (text, left, top) in enumerate(rows)
    ]


def kinds(segments: Sequence[TextSegment]) -> list[tuple[str, int]]:
    return [(block.kind, len(block.rows)) for block in find_blocks(segments, 600, 800)]


def test_references_and_initials_do_not_divide_paragraphs() -> None:
    """ "Figure 3" or "J. Smith" at the beginning of a line began a caption or a list."""
    paragraph = [
        ("The towers are shown from both sides in", 50, 100),
        ("Figure 3 and in the plan of the engineer", 50, 112),
        ("J. Smith, who drew all of them by hand.", 50, 124),
    ]
    assert kinds(lines(paragraph)) == [("paragraph", 3)]
    items = [("- oil the bearing", 50, 150), ("1. tighten", 50, 162), ("(a) wash", 50, 174)]
    caption = [("Figure 3: the tower", 50, 210)]
    assert kinds(lines([*paragraph, *items, *caption])) == [
        ("paragraph", 3),
        ("list", 3),
        ("caption", 1),
    ]


def test_a_table_is_no_pair_of_columns_and_columns_are_no_table() -> None:
    cells = [(text, 50 + 150 * c, 100 + 14 * r) for r in range(4) for c, text in enumerate("abc")]
    assert kinds(lines(cells)) == [("table", 4)]
    prose = [
        (f"{side} column with some words {r}", x, 100 + 14 * r)
        for r in range(4)
        for x, side in ((50, "left"), (330, "right"))
    ]
    areas = order_segments(lines(prose))
    assert [[row.text[:5] for row in rows] for rows in areas] == [["left "] * 4, ["right"] * 4]


def test_cells_stay_in_order_and_blocks_are_followed_by_their_lines() -> None:
    segments = lines(
        [("Name", 50, 100), ("Price", 200, 101), ("Pear", 50, 114), ("2.35", 200, 113)]
    )
    segments += lines([("Plum", 50, 128), ("0.95", 200, 128)])
    for number, segment in enumerate(segments):
        segment.index = number
    boxes = [(s.left / 600, s.top / 800, s.right / 600, s.bottom / 800) for s in segments]
    regions = to_regions(find_blocks(segments, 600, 800), boxes, 7, [1, 1, 1, 0.5, 1, 1])
    assert [(region.kind, region.text, region.confidence) for region in regions] == [
        ("table", "", 1),
        ("line", "Name", 1),
        ("line", "Price", 1),
        ("line", "Pear", 1),
        ("line", "2.35", 0.5),
        ("line", "Plum", 1),
        ("line", "0.95", 1),
    ]
    assert {region.page for region in regions} == {7}
    block, *rows = regions
    assert all(_is_inside(row, block) for row in rows)


def _is_inside(region: Region, block: Region) -> bool:
    assert region.box is not None
    assert block.box is not None
    return all(a >= b for a, b in zip(region.box[:2], block.box[:2], strict=True)) and all(
        a <= b for a, b in zip(region.box[2:], block.box[2:], strict=True)
    )


def test_direction_of_writing() -> None:
    assert is_right_to_left(["שלום עולם", "abc 12"])
    assert not is_right_to_left(["שלום", "a sentence in English", "中文"])
    assert not is_right_to_left(["12.50", ""])
    assert find_blocks([], 600, 800) == []
