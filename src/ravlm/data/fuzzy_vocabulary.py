"""A vocabulary that finds the word meant by a misread one: the most similar by character bigrams.

The similarity is Dice's coefficient of the bigrams of both words, with a mark at each end
(Adamson & Boreham, "The use of an association measure based on character structure ...", 1974).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

MIN_SIMILARITY = 0.65
"""A wrong, missing or additional letter in a word of five leaves 0.67 to 0.73."""


class FuzzyVocabulary:
    """A set of words.

    >>> FuzzyVocabulary(["tropicana", "orange"]).closest("iropicana")
    ('tropicana', 0.8)
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._sizes: dict[str, int] = {}
        self._words_with: defaultdict[str, list[str]] = defaultdict(list)
        for word in sorted(set(words)):
            bigrams = _bigrams(word)
            self._sizes[word] = len(bigrams)
            for bigram in bigrams:
                self._words_with[bigram].append(word)

    def __contains__(self, word: str) -> bool:
        return word in self._sizes

    def closest(self, word: str) -> tuple[str, float]:
        """Return the most similar word and its similarity, 0 to 1; ("", 0.0) if none has at least
        MIN_SIMILARITY."""
        if word in self._sizes:
            return word, 1.0
        bigrams = _bigrams(word)
        shared = Counter(w for bigram in bigrams for w in self._words_with.get(bigram, ()))
        best = ("", 0.0)
        for candidate, count in sorted(shared.items()):
            similarity = 2 * count / (len(bigrams) + self._sizes[candidate])
            if similarity >= MIN_SIMILARITY and similarity > best[1]:
                best = (candidate, similarity)
        return best


def _bigrams(word: str) -> frozenset[str]:
    marked = f"\n{word}\n"
    return frozenset(marked[i : i + 2] for i in range(len(marked) - 1))
