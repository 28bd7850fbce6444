"""The text of regions: how lines are joined, and how characters lead back to boxes."""

from __future__ import annotations

import doctest

from ravlm.data import page_text
from ravlm.data.page_text import PageText, all_texts, in_context
from ravlm.records import Entry
from ravlm.regions import Box, Region, RegionKind


def line(
    text: str, left: float, top: float, right: float, height: float = 0.015, page: int = 1
) -> Region:
    return Region(text, (left, top, right, top + height), page)


def block(kind: RegionKind, box: Box) -> Region:
    return Region("", box, 1, kind)


def test_docstring_examples() -> None:
    results = doctest.testmod(page_text)
    assert results.attempted == 2
    assert results.failed == 0


PROSE = [
    line("The lighthouse of Alden was built in 1848 by a com-", 0.1, 0.1, 0.9),
    line("pany of fishermen, and it is forty-two metres high and", 0.1, 0.12, 0.88),
    line("still in use.", 0.1, 0.14, 0.3),
    line("A second tower was planned but never built, because", 0.1, 0.16, 0.89),
    line("the money was gone.", 0.1, 0.18, 0.35),
]


def test_lines_flow_where_the_next_word_did_not_fit() -> None:
    """A sentence over two lines was read as two halves, and "com-pany" was not found."""
    page = PageText.of(PROSE)
    assert page.text == (
        "The lighthouse of Alden was built in 1848 by a company of fishermen, and it is forty-two "
        "metres high and still in use.\n"
        "A second tower was planned but never built, because the money was gone."
    )
    start = page.text.index("company")
    (first, second) = page.spans_within(start, start + len("company"))
    assert (first.region, second.region) == (PROSE[0], PROSE[1])
    start = page.text.index("1848")
    part = page.part(start, start + 4, index=2)
    assert (part.index, part.page, part.box) == (2, 1, PROSE[0].box)
    assert part.text == "The lighthouse of Alden was built in 1848 by a com"


def test_a_compound_keeps_its_hyphen() -> None:
    page = PageText.of(
        [
            block("paragraph", (0, 0, 1, 0.5)),
            line("a state-of-the-", 0.1, 0.1, 0.5),
            line("art reader", 0.1, 0.12, 0.4),
        ]
    )
    assert page.text == "a state-of-the-art reader"


def test_chinese_lines_are_joined_without_a_space() -> None:
    page = PageText.of(
        [
            line("这座灯塔由一群渔民于一八四八年建造，", 0.1, 0.1, 0.9),
            line("至今仍在使用。", 0.1, 0.12, 0.4),
        ]
    )
    assert page.text == "这座灯塔由一群渔民于一八四八年建造，至今仍在使用。"


def test_key_value_lines_and_lists_stay_apart() -> None:
    page = PageText.of(
        [
            line("Weight of the whole machine: 12 kilograms", 0.1, 0.1, 0.6),
            line("Height of the whole machine: 30 centimetre", 0.1, 0.12, 0.6),
            line("- the first item of a list of things to do", 0.1, 0.14, 0.6),
            line("- the second", 0.1, 0.16, 0.3),
        ]
    )
    assert page.text.split("\n") == [
        "Weight of the whole machine: 12 kilograms",
        "Height of the whole machine: 30 centimetre",
        "- the first item of a list of things to do",
        "- the second",
    ]


def test_rows_of_two_cells_are_key_and_value() -> None:
    """ "Total ... 12.50" of a receipt: the words stand far apart, and so are two regions."""
    cells = [
        line("Apples", 0.1, 0.1, 0.2), line("3.20", 0.8, 0.1, 0.85),
        line("Total:", 0.1, 0.12, 0.2), line("12.50", 0.8, 0.12, 0.85),
    ]  # fmt: skip
    page = PageText.of(cells)
    assert page.text == "Apples: 3.20\nTotal: 12.50"
    start = page.text.index("12.50")
    assert page.part(start, start + 5, 0).box == cells[3].box


def test_rows_of_a_table_carry_the_names_of_their_columns() -> None:
    table = [
        block("table", (0, 0, 1, 1)),
        line("Fruit", 0.1, 0.1, 0.2), line("Price", 0.4, 0.1, 0.5), line("Origin", 0.7, 0.1, 0.8),
        line("Apple", 0.1, 0.12, 0.2), line("3.20", 0.4, 0.12, 0.5), line("Peru", 0.7, 0.12, 0.8),
        line("Pear", 0.1, 0.14, 0.2), line("Chile", 0.7, 0.14, 0.8),
    ]  # fmt: skip
    page = PageText.of(table)
    assert page.text.split("\n") == [
        "Fruit | Price | Origin",
        "Fruit: Apple; Price: 3.20; Origin: Peru",
        "Fruit: Pear; Origin: Chile",
    ]
    start = page.text.index("Chile")
    assert page.part(start, start + 5, 0).box == table[-1].box


def test_rows_that_are_one_region_are_split_at_their_bars() -> None:
    """As a layout gives them: a table, and a line for each row."""
    box = (0.1, 0.1, 0.9, 0.2)
    table = [
        block("table", box),
        line("Fruit | Price | Origin", 0.1, 0.1, 0.8),
        line("Apple | 3.20 | Peru", 0.1, 0.12, 0.8),
        block("table", (0.1, 0.3, 0.9, 0.4)),
        line("Weight | 12 kg", 0.1, 0.3, 0.8),
        line("Made in: | Ulm", 0.1, 0.32, 0.8),
    ]
    page = PageText.of(table)
    assert page.text.split("\n") == [
        "Fruit | Price | Origin",
        "Fruit: Apple; Price: 3.20; Origin: Peru",
        "Weight: 12 kg",
        "Made in: Ulm",
    ]
    start = page.text.index("Peru")
    assert page.part(start, start + 4, 0).box == table[2].box
    price = page.text.rindex("Price")
    assert page.part(price, price + 5, 0).box == table[1].box


def test_lines_of_a_paragraph_flow_but_not_keys_and_values() -> None:
    """A layout takes lines at one distance for one paragraph."""
    lines = [
        line("Weight: 12 kg", 0.1, 0.1, 0.3),
        line("Height: 30 cm", 0.1, 0.12, 0.3),
        line("The pump has two", 0.1, 0.14, 0.3),
        line("valves.", 0.1, 0.16, 0.18),
    ]
    page = PageText.of([block("paragraph", (0.1, 0.1, 0.3, 0.2)), *lines])
    assert page.text == "Weight: 12 kg\nHeight: 30 cm\nThe pump has two valves."


def test_words_become_lines_and_doubtful_ones_are_told_apart() -> None:
    words = [
        Region("Gala", (0.1, 0.1, 0.2, 0.15), None, "word", 0.98),
        Region("apples", (0.22, 0.1, 0.36, 0.15), None, "word", 0.99),
        Region("18O", (0.38, 0.1, 0.44, 0.15), None, "word", 0.41),
        Region("Peru", (0.1, 0.2, 0.2, 0.25), None, "word", 0.95),
    ]
    page = PageText.of(words)
    assert page.text == "Gala apples 18O\nPeru"
    assert page.is_certain(0, 11)
    assert not page.is_certain(0, 15)
    assert page.is_certain(page.text.index("Peru"), len(page.text))


def test_blocks_have_the_title_above_them() -> None:
    page = PageText.of(
        [
            line("History of the tower", 0.1, 0.05, 0.5, height=0.03),
            *PROSE,
            Region("", (0.1, 0.4, 0.9, 0.6), 1, "figure"),
            Region("Figure 1: the tower", (0.1, 0.62, 0.5, 0.64), 1, "caption"),
        ]
    )
    section = "History of the tower"
    assert [(b.kind, b.section) for b in page.blocks] == [
        ("title", ""),
        ("line", section),
        ("caption", section),
    ]


def test_a_passage_leads_back_to_its_box_and_a_tile_is_no_text() -> None:
    tile = Region("", (0, 0, 0.5, 0.5), None, "tile")
    dog = Region("dog", (0, 0, 0.5, 0.5), None, "object")
    entry = Entry("lighthouse", "photo.jpg", ("a photo",), regions=[tile, dog, *PROSE])
    text = all_texts(entry)[1]
    assert all_texts(entry)[0] == "a photo"
    assert "dog" not in text
    page = PageText.of(entry.regions)
    passage = "still in use. A second tower was planned"  # cut and joined by an encoder
    part = page.part_of_passage(passage, 1)
    assert part.text == "still in use.\nA second tower was planned"
    assert part.box == (0.1, 0.14, 0.89, 0.175)
    assert page.part_of_passage("not on the page", 1).box is None
    assert all_texts(Entry("x", texts=("a",))) == ("a",)


def test_a_passage_stands_under_the_titles_of_its_document_and_section() -> None:
    """The question what -v of cp does found other commands: only the first page named cp."""
    title = line("Options", 0.1, 0.05, 0.5, height=0.03)
    option = line("-v explains what is being done", 0.1, 0.1, 0.5)
    metadata = {"file": "cp.pdf", "page": 2, "title": "cp(1)", "section": "Manual"}
    entry = Entry("cp.pdf#page=2", regions=[title, option, *PROSE], metadata=metadata)
    page = PageText.of(entry.regions)
    assert in_context(entry, page, "-v explains") == "cp(1)\nOptions\n-v explains"
    assert in_context(entry, page, "Options\n-v explains") == "cp(1)\nManual\nOptions\n-v explains"
    photo = Entry("x", regions=[Region("SALE")], metadata={"title": "a poster"})
    assert in_context(photo, PageText.of(photo.regions), "SALE") == "SALE"
