"""Split texts and queries into the terms of keyword search (Lucene's analyzer).

Both are normalized first: traditional and simplified Chinese, full and half width, composed and
decomposed accents meet. Chinese is indexed by character bigrams and by single characters. That
needs no dictionary, so every machine splits a text into the same terms. `terms` stems the words and
splits those of other scripts without spaces.
"""

from __future__ import annotations

import re

from ravlm.data.lexical_overlap import FUNCTION_WORDS, without_question_words
from ravlm.data.stemming import ENGLISH, detect_language, function_words
from ravlm.data.text import is_chinese, normalize_text, split_words

MAX_QUERY_WORDS = 64
"""Distinct words of a query that are looked up."""
_ALPHANUMERIC = r"[0-9A-Za-z\u00c0-\u024f\u0370-\u058f]"
_COMPOUND = re.compile(
    rf"{_ALPHANUMERIC}+(?:[-_./:+]{_ALPHANUMERIC}+)+|(?<![\w-])--?[A-Za-z][\w-]*"
)
"""Words joined by a mark ("USB-C", "10.4.2", "sys.path"), and options of commands ("-a")."""


def index_words(text: str) -> str:
    """Return the words under which `text` is indexed, separated by blanks."""
    text = normalize_text(text)
    compounds = _compounds(text)
    if not is_chinese(text):
        return " ".join([*split_words(text), *compounds])
    terms = [word for word in split_words(text) if len(word) > 1 or not is_chinese(word)]
    characters = [character for character in text if is_chinese(character)]
    return " ".join([*terms, *characters, *compounds])


def query_words(text: str) -> list[str]:
    """Return the distinct words of a query; function words only if it has no others.

    >>> query_words("What does the option --line-number of grep do?")
    ['option', 'line', 'number', 'grep', '--line-number']
    """
    text = without_question_words(normalize_text(text))
    words = list(dict.fromkeys([*split_words(text), *_compounds(text)]))
    language = detect_language(words)
    ignored = FUNCTION_WORDS if language == ENGLISH else function_words(language)
    content = [word for word in words if word not in ignored]
    return (content or words)[:MAX_QUERY_WORDS]


def _compounds(text: str) -> list[str]:
    """Return joined words as a whole: their parts may be frequent where the whole is rare.

    Numbers with a decimal point or comma are words already.
    """
    words = (match.lower() for match in _COMPOUND.findall(text))
    return [word for word in words if not word.replace(".", "").isdigit()]
