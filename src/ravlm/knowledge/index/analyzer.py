"""Split texts and queries into the terms of keyword search (Lucene's analyzer).

Both are normalized first: traditional and simplified Chinese, full and half width, composed and
decomposed accents meet. Chinese is indexed by character bigrams and by single characters. That
needs no dictionary, so every machine splits a text into the same terms. `terms` stems the words and
splits those of other scripts without spaces.
"""

from __future__ import annotations

from ravlm.data.text import is_chinese, normalize_text, split_words

MAX_QUERY_WORDS = 64
"""Distinct words of a query that are looked up."""


def index_words(text: str) -> str:
    """Return the words under which `text` is indexed, separated by blanks."""
    text = normalize_text(text)
    if not is_chinese(text):
        return " ".join(split_words(text))
    terms = [word for word in split_words(text) if len(word) > 1 or not is_chinese(word)]
    characters = [character for character in text if is_chinese(character)]
    return " ".join([*terms, *characters])


def query_words(text: str) -> list[str]:
    """Return the distinct words of a query."""
    return list(dict.fromkeys(split_words(normalize_text(text))))[:MAX_QUERY_WORDS]
