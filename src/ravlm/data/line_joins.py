"""Join the lines of a paragraph or a cell: hyphenated words, and Chinese without spaces."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ravlm.data.chinese import HAN

CJK = re.compile(f"[{HAN}\u3000-\u303f\uff00-\uffef]")
"""A Chinese character or full-width mark."""
_HYPHENATED = re.compile(r"([^\W\d_]+)[-\u00ad\u2010]$")


def line_join(text: str, following: str) -> tuple[int, str]:
    """Return how many characters to cut from the end of a line before it is joined with the
    following line, and the separator between them.

    >>> line_join("a com-", "pany"), line_join("a state-of-the-", "art"), line_join("a", "b")
    ((1, ''), (0, ''), (0, ' '))
    """
    if _HYPHENATED.search(text) and following[:1].islower():
        is_compound = "-" in text.rsplit(" ", 1)[-1][:-1]
        return (0 if is_compound else 1), ""
    is_cjk = CJK.match(text[-1:]) and CJK.match(following[:1])
    return 0, "" if is_cjk else " "


def joined_lines(texts: Sequence[str]) -> str:
    """Return lines as one text."""
    joined = texts[0] if texts else ""
    for text in texts[1:]:
        cut, separator = line_join(joined, text)
        joined = f"{joined[: len(joined) - cut]}{separator}{text}"
    return joined
