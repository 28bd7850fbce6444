"""Tables that continue on the next page."""

from __future__ import annotations

from collections.abc import Sequence

from ravlm.data.page_text import PageText
from ravlm.data.table_text import with_continued_head
from ravlm.regions import Region

LEFTS = (0.1, 0.4, 0.7)


def table(rows: Sequence[Sequence[str]], page: int, lefts: Sequence[float] = LEFTS) -> list[Region]:
    cells = [
        Region(text, (left, 0.1 + n / 20, left + 0.2, 0.12 + n / 20), page)
        for n, row in enumerate(rows)
        for text, left in zip(row, lefts[len(lefts) - len(row) :], strict=True)
    ]
    return [Region("", (0.1, 0.1, 0.9, 0.9), page, "table"), *cells]


HEAD, PEAR, PLUM = ("Fruit", "Price", "Origin"), ("Pear", "2.35", "Peru"), ("Plum", "0.95", "Spain")


def text_of(previous: Sequence[Region], regions: Sequence[Region]) -> list[str]:
    return PageText.of(with_continued_head(previous, regions)).text.split("\n")


def test_a_table_on_the_next_page_has_the_names_of_its_columns() -> None:
    """Rows on the second page were "Plum | 0.95 | Spain": nothing said which is the price."""
    footer = Region("3", (0.5, 0.95, 0.52, 0.97), 1, "footer")
    first, second = [*table([HEAD, PEAR], 1), footer], table([PLUM], 2)
    assert text_of(first, second)[-1] == "Fruit: Plum; Price: 0.95; Origin: Spain"
    page = PageText.of(with_continued_head(first, second))
    start = page.text.index("0.95")
    assert page.part(start, start + 4, 0).box == second[2].box
    third = table([("Fig", "1.10", "Greece")], 3)
    assert text_of(with_continued_head(first, second), third)[-1].startswith("Fruit: Fig; Price")
    nameless = table([HEAD[1:], PEAR], 1)
    assert text_of(nameless, second)[-1] == "Plum; Price: 0.95; Origin: Spain"


def test_other_tables_stay_as_they_are() -> None:
    first = table([HEAD, PEAR], 1)
    paragraph = Region("A paragraph.", (0.1, 0.8, 0.9, 0.82), 1, "paragraph")
    for previous, regions in (
        ([*first, paragraph], table([PLUM], 2)),  # it ends above a paragraph
        (first, table([PLUM], 2, (0.2, 0.5, 0.8))),  # other columns
        (first, table([HEAD, PLUM], 2)),  # its head is repeated
        (table([PEAR], 1), table([PLUM], 2)),  # no head
        ([], table([PLUM], 2)),
        (first, []),
    ):
        assert with_continued_head(previous, regions) == regions


def test_a_row_with_an_empty_cell_keeps_the_columns_of_the_others() -> None:
    """With a head that lacks its first name, "Greece" was the price in a row without a price."""
    regions = table([HEAD[1:], PEAR, ("Fig", "", "Greece")], 1)
    page = PageText.of([region for region in regions if region.text or region.kind == "table"])
    assert page.text.split("\n") == [
        "Price | Origin",
        "Pear; Price: 2.35; Origin: Peru",
        "Fig; Origin: Greece",
    ]
    names = [(page.text[c.start : c.end], c.column) for c in page.cells]
    assert names == [
        ("Pear", ""),
        ("2.35", "Price"),
        ("Peru", "Origin"),
        ("Fig", ""),
        ("Greece", "Origin"),
    ]
