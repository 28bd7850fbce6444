"""How far the words of one text are found in another: English words by a crude stem, Chinese ones
as they are.

Knows no meaning; that is the encoder's matter.
"""

from __future__ import annotations

from collections.abc import Set

from ravlm.data.text import split_words

_FUNCTION_WORDS = frozenset(
    {
        "'s", "a", "about", "am", "an", "and", "any", "are", "as", "at", "be", "been", "being", "by", "call",
        "called", "can", "could", "did", "do", "does", "each", "every", "for", "from", "give", "had", "has", "have",
        "he", "her", "here", "hers", "him", "his", "how", "i", "in", "into", "is", "it", "its", "many", "may", "me",
        "mine", "much", "must", "my", "name", "no", "not", "of", "on", "one", "or", "our", "ours", "per", "please",
        "shall", "she", "should", "so", "some", "tell", "than", "that", "the", "their", "theirs", "them", "then",
        "there", "these", "they", "this", "those", "to", "us", "was", "we", "were", "what", "when", "where", "which",
        "who", "whom", "whose", "why", "will", "with", "would", "yes", "you", "your", "yours",
    }
)  # fmt: skip
_ENDINGS = ("ies", "ing", "ed", "es", "s", "y")
_SHORTEST_STEM, _SHORTEST_COGNATE = 3, 5


def content_words(text: str) -> frozenset[str]:
    """The stems of the words of `text` that carry meaning."""
    return frozenset(_stem(word) for word in split_words(text) if word not in _FUNCTION_WORDS)


def overlap(wanted: Set[str], given: Set[str]) -> float:
    """The share of the stems `wanted` that are among `given`, 0 to 1; one that begins alike
    (colour, color; kilocalorie, kilokalori) counts two thirds. 0 where nothing is wanted."""
    if not wanted:
        return 0.0
    beginnings = {word[: _SHORTEST_COGNATE - 1] for word in given if len(word) >= _SHORTEST_COGNATE}
    found = sum(
        1.0 if word in given else 2 / 3 if _cognate(word) in beginnings else 0.0 for word in wanted
    )
    return found / len(wanted)


def _cognate(word: str) -> str | None:
    return word[: _SHORTEST_COGNATE - 1] if len(word) >= _SHORTEST_COGNATE else None


def _stem(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("’s")
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return word[: -len(ending)]
    return word
