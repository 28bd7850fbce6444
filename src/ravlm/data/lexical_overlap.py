"""Lexical overlap of two texts: English words by a crude stem, Chinese words as they are."""

from __future__ import annotations

import re
from collections.abc import Set

from ravlm.data.text import is_chinese, normalize_text, split_words, strip_accents

FUNCTION_WORDS = frozenset({
    "'s", "a", "about", "am", "an", "and", "any", "are", "as", "at", "be", "been", "being", "by",
    "call", "called", "can", "could", "did", "do", "does", "each", "every", "for", "from", "give",
    "had", "has", "have", "he", "her", "here", "hers", "him", "his", "how", "i", "in", "into",
    "is", "it", "its", "many", "may", "me", "mine", "much", "must", "my", "name", "no", "not",
    "of", "on", "one", "or", "our", "ours", "per", "please", "shall", "she", "should", "so",
    "some", "tell", "than", "that", "the", "their", "theirs", "them", "then", "there", "these",
    "they", "this", "those", "to", "us", "was", "we", "were", "what", "when", "where", "which",
    "who", "whom", "whose", "why", "will", "with", "would", "yes", "you", "your", "yours",
})  # fmt: skip
"""English words that carry no meaning by themselves."""
_CHINESE_QUESTION = re.compile(
    "请问|为什么|为何|什么|哪[些个种里位]?|怎么样?|怎样|如何|多少|谁|吗|呢|是|的|有"
)
"""Question words and particles of Chinese: pairs of characters with one of them match by chance."""
_SUFFIXES = ("ies", "ing", "ed", "es", "s", "y")
_MIN_STEM = 3  # characters
_MIN_COGNATE = 5  # characters; shorter words begin alike by chance
_COGNATE_WEIGHT = 2 / 3


def content_words(text: str) -> frozenset[str]:
    """Return the stems of the words of `text` that carry meaning, in any script, width or accent.

    >>> content_words("How tall is the Café Central?") == content_words("tall cafe central")
    True
    """
    words = split_words(strip_accents(normalize_text(text)))
    return frozenset(_stem(word) for word in words if word not in FUNCTION_WORDS)


def without_question_words(text: str) -> str:
    """Remove the question words of Chinese from a text.

    Texts in other languages, and those of question words alone, are returned unchanged.

    >>> without_question_words("水泵用什么油？")
    '水泵用 油？'
    """
    if not is_chinese(text):
        return text
    return _CHINESE_QUESTION.sub(" ", text).strip() or text


def overlap(query: Set[str], text: Set[str]) -> float:
    """Return the fraction of the stems `query` that occur in `text`, 0 to 1.

    A stem that only begins like one of `text` (colour, color; kilocalorie, kilokalori) counts two
    thirds. An empty query gives 0.
    """
    if not query:
        return 0.0
    prefixes = {_prefix(word) for word in text} - {None}
    weights = (_match_weight(word, text, prefixes) for word in query)
    return sum(weights) / len(query)


def _match_weight(word: str, text: Set[str], prefixes: Set[str | None]) -> float:
    if word in text:
        return 1.0
    return _COGNATE_WEIGHT if _prefix(word) in prefixes else 0.0


def _prefix(word: str) -> str | None:
    """Return the first characters that cognates share, or None for a word that is too short."""
    return word[: _MIN_COGNATE - 1] if len(word) >= _MIN_COGNATE else None


def _stem(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("’s")
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _MIN_STEM:
            return word[: -len(suffix)]
    return word
