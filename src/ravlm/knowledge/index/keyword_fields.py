"""The words by which keyword search finds a part: those of its text and its titles, weighted."""

from __future__ import annotations

from pathlib import PurePath

from ravlm.data.line_keys import line_keys
from ravlm.data.page_text import PageText, all_texts, is_page, titles_of
from ravlm.knowledge.index.analyzer import index_words
from ravlm.records import Entry

TITLE_WEIGHT = 3
"""Weight of the words of titles, next to those of the text."""
KEY_WEIGHT = 3
"""Weight of the keys of lines: a key's line explains it, others only mention it."""


def keyword_terms(entry: Entry, position: int, passage: str | None, precomputed: bool) -> str:
    """Return the words by which keyword search finds a stored text part, separated by blanks.

    A precomputed vector stands for all texts.
    """
    if precomputed:
        return index_words("\n".join(all_texts(entry)))
    if position < len(entry.texts):
        return index_words(entry.texts[position] if passage is None else passage)
    return page_terms(entry, PageText.of(entry.regions), passage or "")


def page_terms(entry: Entry, page: PageText, passage: str) -> str:
    """Return the words of a passage of a page, and more often those of its titles and keys.

    These are the fields of BM25F: a weight multiplies counts and length. The name of the file adds
    its words to the title.
    """
    titles = index_words("\n".join(titles_of(entry, page, passage))).split()
    file = entry.metadata.get("file") if is_page(entry) else None
    if isinstance(file, str):
        name = index_words(PurePath(file).stem).split()
        titles += [word for word in name if word not in titles]
    keys = index_words("\n".join(line_keys(page, *page.find(passage)))).split()
    return " ".join([index_words(passage), *titles * TITLE_WEIGHT, *keys * (KEY_WEIGHT - 1)])
