"""Tables and their cells, wrapped or not, from pieces of text with boxes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ravlm.data.page_layout import find_blocks, to_regions
from ravlm.data.page_text import PageText
from ravlm.data.reading_order import TextRow, TextSegment
from ravlm.data.table_layout import table_rows

PITCH, GAP = 12.0, 6.0
"""Distance of lines within a cell, and space between rows."""
WIDTH = 5.0
"""Of a character."""

Table = Sequence[Sequence[str]]


def page_of(
    rows: Table, lefts: Sequence[float] = (50, 200, 330), gap: float = GAP, align: float = 0.0
) -> PageText:
    """Set a table whose cells have lines separated by line ends; `align` 0.5 centers them."""
    segments: list[TextSegment] = []
    top = 100.0
    for row in rows:
        cells = [cell.split("\n") if cell else [] for cell in row]
        num_lines = max(map(len, cells))
        for left, lines in zip(lefts, cells, strict=False):
            offset = (num_lines - len(lines)) * PITCH * align
            for number, text in enumerate(lines):
                y = top + offset + number * PITCH
                box = (left, y, left + WIDTH * len(text), y + 10)
                segments.append(TextSegment(text, *box, len(segments)))
        top += num_lines * PITCH + gap
    boxes = [(s.left / 600, s.top / 800, s.right / 600, s.bottom / 800) for s in segments]
    blocks = find_blocks(segments, 600, 800)
    return PageText.of(to_regions(blocks, boxes, 1, [1.0] * len(segments)))


WRAPPED = [
    ("Symptom", "Cause", "Remedy"),
    ("The pump does not start", "No voltage at the\nterminals of the\nmotor", "Check the fuse"),
    (
        "It runs but no water\ncomes out of the pipe",
        "Air in the hose",
        "Open the valve and\nvent it",
    ),
]


@pytest.mark.parametrize("align", [0.0, 0.5])
def test_wrapped_cells_keep_their_columns(align: float) -> None:
    """A row was read line by line: "No voltage at the | Check the fuse", "terminals of the" ..."""
    page = page_of(WRAPPED, align=align)
    assert page.text.split("\n") == [
        "Symptom | Cause | Remedy",
        "Symptom: The pump does not start; Cause: No voltage at the terminals of the motor; "
        "Remedy: Check the fuse",
        "Symptom: It runs but no water comes out of the pipe; Cause: Air in the hose; "
        "Remedy: Open the valve and vent it",
    ]
    start = page.text.index("No voltage")
    box = page.part(start, start + 10, 0).box
    assert box is not None
    top = (100 + PITCH + GAP) / 800
    assert box == pytest.approx((200 / 600, top, (200 + 85) / 600, top + 34 / 800))


def test_rows_without_space_between_them_begin_with_their_first_cell() -> None:
    rows = [("Part", "Note", "Price"), ("Hose", "two meters, made of\nsoft rubber", "12.50")]
    page = page_of([*rows, ("Valve", "brass", "3.20"), ("Seal", "", "0.40")], gap=0.0)
    assert page.text.split("\n")[1:] == [
        "Part: Hose; Note: two meters, made of soft rubber; Price: 12.50",
        "Part: Valve; Note: brass; Price: 3.20",
        "Part: Seal; Price: 0.40",
    ]


def test_columns_of_codes_are_not_wrapped_text() -> None:
    """Codes fill their columns as wrapped lines do, and the head stands apart."""
    rows = [(f"A{i}", f"{10 + i}", f"{20 + i}") for i in range(5)]
    page = page_of([("Co", "km", "kg")], (50, 72, 94))
    assert page.text == "Co km kg"  # one row is no table
    segments = [("Co", "km", "kg"), *rows]
    page = page_of(segments, (50, 82, 114), gap=0.0)
    assert page.text.count("\n") == 5
    assert "Co: A3; km: 13; kg: 23" in page.text


def test_rows_may_lack_their_first_cell() -> None:
    rows = [("Year", "Quarter", "Sold"), ("2019", "Q1", "5"), ("", "Q2", "6"), ("2020", "Q1", "7")]
    assert page_of(rows).text.split("\n")[1:] == [
        "Year: 2019; Quarter: Q1; Sold: 5",
        "Quarter: Q2; Sold: 6",
        "Year: 2020; Quarter: Q1; Sold: 7",
    ]


def test_a_head_may_lack_its_first_name_and_have_digits() -> None:
    """Such a head was taken for a row, so cells had no names."""
    page = page_of(
        [("", "8 retrieved", "none"), ("sunset", "0.158", "0.223"), ("night", "0.216", "0.441")]
    )
    assert page.text.split("\n") == [
        "8 retrieved | none",
        "sunset; 8 retrieved: 0.158; none: 0.223",
        "night; 8 retrieved: 0.216; none: 0.441",
    ]


def test_a_paragraph_below_a_table_is_not_part_of_it() -> None:
    segments = [
        TextSegment(text, left, top, left + WIDTH * len(text), top + 10, number)
        for number, (text, left, top) in enumerate(
            [
                (text, left, 100 + 12 * row)
                for row, cells in enumerate([("Name", "Price"), ("Pear", "2.35"), ("Plum", "0.95")])
                for text, left in zip(cells, (50.0, 200.0), strict=True)
            ]
            + [
                ("Prices", 50.0, 136.0),
                ("hold until the end of the year or the next list.", 50.0, 148.0),
            ]
        )
    ]
    kinds = [(block.kind, len(block.rows)) for block in find_blocks(segments, 600, 800)]
    assert kinds == [("table", 3), ("paragraph", 2)]


LONG = "which says what is promised\nhere, what it means and how\nit is kept in each case"


def test_cells_of_prose_are_no_columns_of_a_page() -> None:
    """Long cells were read as columns of a newspaper, so rows lost their first cells."""
    rows = [("guarantee", "meaning", "proof")]
    rows += [
        (f"promise number {n} of\nthe house", LONG, "a test of this promise\nand more")
        for n in range(4)
    ]
    page = page_of(rows, (50, 190, 380))
    assert page.text.count("\n") == 4
    assert page.text.split("\n")[3] == (
        "guarantee: promise number 2 of the house; meaning: which says what is promised here, what "
        "it means and how it is kept in each case; proof: a test of this promise and more"
    )


def test_two_tables_below_each_other_are_two() -> None:
    """The prices below a timetable got its columns, and became one row."""
    texts = [
        ("Abfahrt", "Ankunft", "Schiff"),
        ("06:15", "07:00", "Moewe"),
        ("09:30", "10:20", "Seestern"),
        ("Fahrkarte", "Preis"),
        ("Erwachsene", "12,50"),
        ("Kinder", "6,00"),
    ]
    rows = []
    for number, cells in enumerate(texts):
        top = 100 + 20 * number + 14 * (number > 2)
        lefts = (50, 230, 420) if len(cells) == 3 else (50, 320)
        segments = [
            TextSegment(text, left, top, left + 6 * len(text), top + 12)
            for text, left in zip(cells, lefts, strict=True)
        ]
        rows.append(TextRow(segments, top, top + 12))
    assert table_rows(rows) == [1, 1, 1, 2, 2, 2]
    prices = [TextRow(row.segments, row.top, row.bottom) for row in rows[3:]]
    assert table_rows(prices + prices) == [1] * 6  # of the same columns
