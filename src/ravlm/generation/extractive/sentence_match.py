"""How many of a question's words stand around a span, in its sentence; rare words count more.

The span reader sees a page of text at once and takes what has the right type anywhere on it. The
sentence of the right answer usually repeats the question's words.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence

from ravlm.data.lexical_overlap import content_words, without_question_words
from ravlm.data.text import sentence_spans

_MIN_WEIGHT = 0.5
"""Weight of a word that every sentence has."""


class SentenceMatch:
    """Compares a question with the sentences of passages.

    >>> match = SentenceMatch("Who pays the rent?", ["Ann pays the rent. Ben has a dog."])
    >>> match(0, 0, 3), match(0, 19, 22)  # "Ann" and "Ben"
    (1.0, 0.0)
    """

    def __init__(self, question: str, texts: Sequence[str]) -> None:
        self.question_words = content_words(without_question_words(question))
        self.texts = texts
        self._spans = [sentence_spans(text) for text in texts]
        self._words = [
            [content_words(text[start:end]) & self.question_words for start, end in spans]
            for text, spans in zip(texts, self._spans, strict=True)
        ]
        counts = Counter(word for words in self._words for sentence in words for word in sentence)
        num_sentences = sum(map(len, self._spans))
        self._weights = {
            word: math.log((num_sentences + 1) / (count + 0.5)) + _MIN_WEIGHT
            for word, count in counts.items()
        }

    def __call__(self, passage: int, start: int, end: int) -> float:
        """Return the share of the question's words, by weight, in the sentences of a span.

        A span that says nothing but words of the question has none: it is no answer. Words that no
        sentence has are left out.
        """
        spans = self._spans[passage]
        first = max(bisect_right(spans, start, key=lambda span: span[0]) - 1, 0)
        last = max(bisect_right(spans, end - 1, key=lambda span: span[0]), first + 1)
        words = frozenset().union(*self._words[passage][first:last])
        own = content_words(self.texts[passage][start:end])
        if own and own <= self.question_words:
            return 0.0
        total = sum(self._weights.values())
        return sum(self._weights[word] for word in words) / total if total else 0.0
