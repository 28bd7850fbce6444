"""Questions that people asked about passages, with short evidence: what surrounds the answer."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ravlm.data.text import is_chinese, split_sentences
from ravlm.generation.base import ABSENT, Request
from ravlm.training.chat_examples import ChatExample
from recipes.grounded_dialogs.example import make_evidence, mark
from recipes.grounded_dialogs.words import join_sentences, word_set

if TYPE_CHECKING:
    from recipes.reading_data import ReadingExample

_CHARACTERS_PER_WORD = 1.7
"""Of Chinese, as much as an English word says."""
_WORD = re.compile(r"[a-z0-9]{3,}|[\u4e00-\u9fff]")
_COMMON = word_set(
    "the and for what who how did does was were are has have had which when where why that "
    "from with this 的 是 了 在 么 什 哪 谁 多 少 有 为 和 年"
)
_MAX_ANSWER_WORDS = 25
_FIRST_SHARE = 0.5
"""How often the right passage is the first one; else its rank is random."""


@dataclass(frozen=True)
class _Cut:
    text: str
    words: frozenset[str]


class PassageQuestions:
    """Makes examples from questions about passages (`recipes.reading_data.read_examples`).

    A passage is cut to about `max_words` words around the answer, or around what is most like the
    question. `absent_share` of the examples have no passage with the answer.
    """

    def __init__(
        self,
        examples: Sequence[ReadingExample],
        max_words: int = 80,
        absent_share: float = 0.25,
    ) -> None:
        self.rng = random.Random(0)
        self.max_words = max_words
        self.absent_share = absent_share
        self._answerable: dict[bool, list[ReadingExample]] = {False: [], True: []}
        self._unanswerable: dict[bool, list[ReadingExample]] = {False: [], True: []}
        for example in examples:
            examples_by_language = self._answerable if example.answers else self._unanswerable
            examples_by_language[is_chinese(example.question)].append(example)
        self._articles: dict[str, list[str]] = defaultdict(list)
        self._passages: dict[bool, list[str]] = {False: [], True: []}
        for passage, article in dict.fromkeys((e.passage, e.article) for e in examples):
            self._articles[article].append(passage)
            self._passages[is_chinese(passage[:200])].append(passage)
        self._sentences = lru_cache(maxsize=None)(_sentences)

    def has(self, chinese: bool) -> bool:
        """Return whether there are questions in a language."""
        return bool(self._answerable[chinese])

    def example(self, chinese: bool, rng: random.Random) -> ChatExample:
        """Return an example in a language; all randomness comes from `rng`."""
        self.rng = rng
        absent = rng.random() < self.absent_share
        if absent and self._unanswerable[chinese] and rng.random() < 0.5:
            example = rng.choice(self._unanswerable[chinese])
            texts = [self._cut_near(example.passage, example.question)]
            answer = ""
        else:
            example = rng.choice(self._answerable[chinese])
            answer = example.answers[0]
            while len(answer.split()) > _MAX_ANSWER_WORDS or answer not in example.passage:
                example = rng.choice(self._answerable[chinese])
                answer = example.answers[0]
            texts = [] if absent else [self._cut_around(example.passage, answer)]
        texts += self._others(example, rng.randint(0 if texts else 1, 3))
        order = rng.sample(range(len(texts)), len(texts))
        if rng.random() < _FIRST_SHARE:
            order = sorted(order)
        evidence = make_evidence([texts[i] for i in order], rng)
        request = Request("ask", example.question, evidence=evidence, chinese=chinese)
        if absent:
            return ChatExample(request, (ABSENT[chinese],))
        return ChatExample(request, (answer + mark(chinese, order.index(0) + 1),))

    def _others(self, example: ReadingExample, count: int) -> list[str]:
        """Return pieces of other passages, most of the same article, without the answers."""
        rng = self.rng
        siblings = self._articles[example.article]
        everything = self._passages[is_chinese(example.passage[:200])]
        texts: list[str] = []
        for _ in range(count * 3):
            if len(texts) == count:
                break
            passage = rng.choice(siblings if rng.random() < 0.6 else everything)
            if passage == example.passage:
                continue
            text = self._cut_near(passage, example.question)
            lower = text.lower()
            if text not in texts and not any(a.lower() in lower for a in example.answers):
                texts.append(text)
        return texts or [self._cut_near(rng.choice(everything), example.question)]

    def _cut_around(self, passage: str, answer: str) -> str:
        """Return the sentences around the first occurrence of the answer."""
        end_of_answer, end = passage.index(answer) + len(answer), 0
        cuts = self._sentences(passage)
        index = 0
        for index, cut in enumerate(cuts):  # noqa: B007 - the last index is used
            end = passage.find(cut.text, end) + len(cut.text)
            if end >= end_of_answer:
                break
        return self._grow(cuts, index, answer)

    def _cut_near(self, passage: str, question: str) -> str:
        """Return the sentences around the one that shares most words with the question."""
        words = frozenset(_WORD.findall(question.lower())) - _COMMON
        cuts = self._sentences(passage)
        shared = [len(words & cut.words) for cut in cuts]
        return self._grow(cuts, shared.index(max(shared)), "")

    def _grow(self, cuts: Sequence[_Cut], index: int, answer: str) -> str:
        """Add sentences on both sides until the text has about `max_words` words."""
        first, last = index, index + 1
        chinese = is_chinese(cuts[index].text)
        limit = self.max_words * (_CHARACTERS_PER_WORD if chinese else 1) * self.rng.uniform(0.7, 1)
        length = _length(cuts[index].text, chinese)
        while length < limit and (first > 0 or last < len(cuts)):
            before = first > 0 and (last == len(cuts) or self.rng.random() < 0.5)
            neighbor = cuts[first - 1 if before else last].text
            length += _length(neighbor, chinese)
            if length > limit * 1.25:
                break
            first, last = (first - 1, last) if before else (first, last + 1)
        text = join_sentences((cut.text for cut in cuts[first:last]), chinese)
        if answer and answer not in text:  # it lies across two sentences
            text = join_sentences((cut.text for cut in cuts[first : last + 3]), chinese)
        return self._shorten(text, int(limit * 1.25), answer, chinese)

    def _shorten(self, text: str, limit: int, answer: str, chinese: bool) -> str:
        """Return `limit` words of a text with the answer, if a sentence is longer."""
        if _length(text, chinese) <= limit:
            return text
        words = list(text) if chinese else text.split(" ")
        position = max(0, text.find(answer))
        start = position if chinese else text.count(" ", 0, position)
        size = _length(answer, chinese) if answer else 0
        first = max(0, start - self.rng.randint(0, max(1, limit - size - 1)))
        between = "" if chinese else " "
        short = between.join(words[first : first + max(limit, size + 1)])
        return short if answer in short else text


def _length(text: str, chinese: bool) -> int:
    return len(text) if chinese else text.count(" ") + 1


def _sentences(passage: str) -> list[_Cut]:
    return [
        _Cut(sentence, frozenset(_WORD.findall(sentence.lower())))
        for sentence in split_sentences(passage)
    ]
