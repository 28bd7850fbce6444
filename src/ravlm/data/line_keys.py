"""Keys of the lines of a page: of `key: value`, options of commands, first cells of rows."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ravlm.data.page_text import PageText

PAIR = re.compile(r"[ \t]*(?:[*•·]\s+)?([^:：\n]{1,60})[:：](?!//)[ \t]*(\S[^\n]*)")
"""A key and its value."""
OPTION = re.compile(
    r"[ \t]*(-{1,2}[^\s,]+(?:(?: [^\s,-][^\s,]*)?[ ,/|]+-{1,2}[^\s,]+)*)"
    r"((?:[ \t]+\S+){0,2})[ \t]*\n?"
)
"""The spellings of an option at the beginning of a line ("-m NUM, --max-count=NUM"), and up to two
words after them."""


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
