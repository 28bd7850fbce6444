"""The words that keyword search goes by: those of a text, and those of a query.

Chinese runs are found by their pairs of characters, and single characters by themselves: that needs
no dictionary, so every machine cuts a text into the same words. Knows no index (see `postings`).
"""

from __future__ import annotations

from ravlm.data.text import is_chinese, split_words

MAX_QUERY_WORDS = 64
"""Different words of a query that are looked up."""


def index_words(text: str) -> str:
    """The words that `text` is found by, separated by blanks."""
    if not is_chinese(text):
        return " ".join(split_words(text))
    pairs_and_words = [word for word in split_words(text) if len(word) > 1 or not is_chinese(word)]
    return " ".join([*pairs_and_words, *(character for character in text if is_chinese(character))])


def query_words(text: str) -> list[str]:
    """The words of a query, each once."""
    return list(dict.fromkeys(split_words(text)))[:MAX_QUERY_WORDS]
