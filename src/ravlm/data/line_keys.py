"""Keys of the lines of a page: of `key: value`, options of commands, first cells of rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ravlm.data.page_text import PageText

PAIR = re.compile(r"[ \t]*(?:[*•·]\s+)?([^:：\n]{1,60})[:：](?!//)[ \t]*(\S[^\n]*)")
"""A key and its value."""
OPTION = re.compile(
    r"[ \t]*(-{1,2}[^\s,]+(?:(?: [^\s,-][^\s,]*)?[ ,/|]+-{1,2}[^\s,]+)*)"
    r"((?:[ \t]+\S+){0,2})[ \t]*\n?"
)
"""The spellings of an option at the beginning of a line ("-m NUM, --max-count=NUM"), and up to two
words after them."""


_NUMBER = re.compile(r"(?<![A-Za-z\d.,:/(-])(\d{1,3})[ \t]*(?=[^\W\d_])(?<![A-Za-z])")
_MAX_STEP = 2
"""Largest difference between the numbers of an enumeration, which may leave one out."""
_MIN_ITEMS = 3
_ENDS = " \n,，.。;；、"


class NumberedItem(NamedTuple):
    """An item of an enumeration in running text: "0 done, 1 refused, 2 usage error"."""

    number: str
    number_start: int
    start: int
    """The characters `start:end` of the text are the item, without its number."""
    end: int


def numbered_items(text: str, start: int, end: int) -> list[NumberedItem]:
    """Return the items of the longest enumeration in `start:end` of a text; none without three
    numbers that count up. Other numbers are part of an item."""
    runs: dict[int, list[re.Match[str]]] = {}  # by the last number
    for match in _NUMBER.finditer(text, start, end):
        number = int(match[1])
        earlier = [runs.get(number - step, []) for step in range(1, _MAX_STEP + 1)]
        runs[number] = [*max(earlier, key=len), match]
    numbers = max(runs.values(), key=len, default=[])
    if len(numbers) < _MIN_ITEMS:
        return []
    ends = [*(match.start() for match in numbers[1:]), end]
    return [
        NumberedItem(match[1], match.start(), first, first + len(text[first:last].rstrip(_ENDS)))
        for match, last in zip(numbers, ends, strict=True)
        if (first := match.end())
    ]


def line_keys(page: PageText, start: int, end: int) -> Iterator[str]:
    """Yield the key of each line that begins in `start:end` of the text of a page."""
    rows: dict[int, str] = {}
    for cell in page.cells:
        if start <= cell.line_start < end:
            rows.setdefault(cell.line_start, page.text[cell.start : cell.end])
    while start < end:
        match = OPTION.match(page.text, start, end) or PAIR.match(page.text, start, end)
        if start in rows:
            yield rows[start]
        elif match is not None:
            yield match[1]
        following = page.text.find("\n", start, end)
        start = end if following < 0 else following + 1
