"""Questions and passages to train the span reader on: human questions, made-up cards and tables."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ravlm.data.text import is_chinese
from ravlm.generation.extractive.aligned_tokenizer import AlignedTokenizer, AlignedTokens
from ravlm.generation.extractive.span_reader import (
    MAX_QUESTION_TOKENS,
    MAX_TOKENS,
    Window,
    make_window,
)
from recipes.fact_cards import CardMaker
from recipes.fact_cards.statements import StatementWriter

TABLE_SHARE = 1 / 6
PROSE_SHARE = 0.4
_CONTEXT_TOKENS = (10, 30)
"""Tokens of context before and after the answer in a training window, at least."""


@dataclass(frozen=True)
class ReadingExample:
    """A question about a passage."""

    question: str
    passage: str
    answers: tuple[str, ...]
    """All right answers, word for word in the passage; empty where the passage has none."""
    article: str = ""
    start: int | None = None
    """Where the answer starts, if only one place in the passage is right."""


@dataclass(frozen=True)
class TrainingWindow:
    """A window with the positions of its right spans in `window.ids`."""

    window: Window
    starts: tuple[int, ...]
    ends: tuple[int, ...]


def read_examples(folder: Path, split: str) -> list[ReadingExample]:
    """Read passages.jsonl and qa.jsonl of `folder` (squad or cmrc2018)."""
    passages = {}
    for line in (folder / "passages.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        passages[row["id"]] = row
    examples = []
    for line in (folder / "qa.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["split"] == split:
            passage = passages[row["passage"]]
            answers = tuple(row["answers"]) if row["answerable"] else ()
            article = passage.get("title") or row["passage"]
            examples.append(ReadingExample(row["question"], passage["text"], answers, article))
    return examples


def distractors(
    examples: Sequence[ReadingExample], share: float, rng: random.Random
) -> Iterator[ReadingExample]:
    """Yield a share of the answerable questions with a passage of the same article (or of another
    one, where the article is one passage) that lacks the answer."""
    by_article = defaultdict(list)
    for example in examples:
        by_article[example.article].append(example.passage)
    everything = [example.passage for example in examples]
    for example in examples:
        if not example.answers or rng.random() >= share:
            continue
        siblings = [p for p in by_article[example.article] if p != example.passage]
        passage = rng.choice(siblings or everything)
        lowered = passage.lower()
        if not any(answer.lower() in lowered for answer in example.answers):
            yield ReadingExample(example.question, passage, (), example.article)


def card_examples(makers: Sequence[CardMaker], count: int) -> list[ReadingExample]:
    """Make questions about cards, tables and made-up prose."""
    examples: list[ReadingExample] = []
    writers = [StatementWriter(maker) for maker in makers]
    while len(examples) < count:
        maker = makers[len(examples) % len(makers)]
        writer = writers[len(examples) % len(makers)]
        if maker.rng.random() < TABLE_SHARE:
            text, cell, start = maker.table()
            examples.append(ReadingExample(cell.question, text, (cell.answer,), start=start))
            continue
        make = writer.passage if maker.rng.random() < PROSE_SHARE else maker.card
        card, distractor = make(), make()
        for question in maker.rng.sample(card.questions, min(3, len(card.questions))):
            about_other = card.name in question.question and card.name not in distractor.text
            if about_other and maker.rng.random() < 0.12:
                examples.append(ReadingExample(question.question, distractor.text, ()))
            elif not question.answer:
                examples.append(ReadingExample(question.question, card.text, ()))
            elif question.answer == card.name or card.text.count(question.answer) == 1:
                answers = (question.answer,)
                examples.append(ReadingExample(question.question, card.text, answers))
    return examples[:count]


class ExampleEncoder:
    """Turns examples into windows; tokens of passages are computed once."""

    def __init__(self, tokenizer: AlignedTokenizer) -> None:
        self._encode = lru_cache(maxsize=100_000)(tokenizer.encode)

    def encode(self, text: str) -> AlignedTokens:
        """Return the tokens of a text."""
        return self._encode(text)

    def window(self, example: ReadingExample, rng: random.Random) -> TrainingWindow | None:
        """Return a random window around an answer; None if no token has the answer."""
        question, passage = self.encode(example.question), self.encode(example.passage)
        spans = list(answer_tokens(example, passage))
        if not passage.ids or (example.answers and not spans):
            return None
        size = MAX_TOKENS - 3 - len(question.ids[:MAX_QUESTION_TOKENS])
        last = max(0, len(passage.ids) - size)
        first = rng.randint(0, last)
        if spans and last:
            before, after = _CONTEXT_TOKENS
            answer = rng.choice(spans)[0] - rng.randint(before, size - after)
            first = min(max(answer, 0), last)
        window = make_window(question, passage, first)
        inside = [
            (start - first + window.offset, end - first + window.offset)
            for start, end in spans
            if first <= start and end < first + window.length
        ]
        starts = tuple(start for start, _ in inside)
        return TrainingWindow(window, starts, tuple(end for _, end in inside))


def answer_tokens(example: ReadingExample, passage: AlignedTokens) -> Iterator[tuple[int, int]]:
    """Yield the first and last token of every occurrence of an answer."""
    for answer in set(filter(None, example.answers)):
        for match in re.finditer(re.escape(answer), example.passage):
            if example.start not in (None, match.start()):
                continue
            tokens = [
                token
                for token, (start, end) in enumerate(zip(passage.starts, passage.ends, strict=True))
                if end > match.start() and start < match.end()
            ]
            if tokens:
                yield tokens[0], tokens[-1]


def known_characters(texts: Iterable[str]) -> list[str]:
    """Return the Chinese characters of the texts, sorted."""
    return sorted({character for text in texts for character in text if is_chinese(character)})
