"""Made-up fact cards and tables with questions: training data that no real name or value is in.

A card is an invented entity with `key: value` lines in random order, asked about in many wordings,
in English or Chinese. A reader trained on them learns to match a question to a key, and cannot
learn an answer by heart.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from recipes.fact_cards.values import FOLDER, ValueMaker

NAME_KEYS = {
    "en": ("Name", "Name", "Title", "Product", "Entity", "Common name"),
    "zh": ("名称", "名称", "名字"),
}
PERSON_KEYS = {"en": ("Name", "Name", "Title"), "zh": ("姓名", "名字")}
REFERENCES = {
    "en": ("it", "this", "the thing in the picture", "this {thing}", "the {thing}"),
    "zh": ("它", "这个", "图片中的东西", "这件物品"),
}
PERSON_REFERENCES = {"en": ("he", "she", "this person"), "zh": ("他", "她", "这个人")}
NAME_QUESTIONS = {
    "en": (
        "What is this?",
        "What is shown?",
        "What is it called?",
        "What can be seen in the picture?",
        "What is in the image?",
        "Which {thing} is this?",
        "Which {thing} is shown in the picture?",
        "What is the {thing} in the picture?",
        "What {thing} is it?",
        "What is the name of this {thing}?",
        "Which {thing} does the picture show?",
        "To which {thing} does this {thing} belong?",
        "What is this {thing} called?",
    ),
    "zh": (
        "这是什么？",
        "图片里是什么？",
        "它叫什么名字？",
        "图中有什么？",
        "这是什么{thing}？",
        "这是哪个{thing}？",
        "图片中的{thing}是什么？",
        "图中是哪种{thing}？",
        "这张图片里的{thing}叫什么？",
        "这个{thing}叫什么名字？",
    ),
}
KEY_QUESTIONS = {
    "en": (
        "What is the {k} of {n}?",
        "Which {k} does {n} have?",
        "{k} of {n}?",
        "Tell me the {k} of {n}.",
    ),
    "zh": ("{n}的{k}是什么？",),
}
SENTENCES = {
    "en": (
        "{n} is popular with visitors.",
        "A short note follows.",
        "Many people know {n}.",
        "The picture shows {n}.",
    ),
    "zh": ("{n}很受欢迎。", "这是一段说明文字。", "人们常常提起{n}。"),
}
SEPARATORS = {"en": (": ",), "zh": ("：", ": ", ":")}
LINE_ENDS = {"en": "; ", "zh": "；"}
HOURS_QUESTIONS = {
    "en": ("When does {n} open?", "When does {n} close?", "On which day is {n} closed?"),
    "zh": ("{n}几点开门？", "{n}几点关门？", "{n}哪天不开门？"),
}
EXCLUSIVE_KINDS = {"person", "company", "length", "money", "percent"}
"""Two concepts of such a kind do not answer each other's questions."""
GROUPS = {
    **dict.fromkeys(("year", "date"), "time"),
    **dict.fromkeys(
        ("city", "country", "region", "continent", "address", "place", "habitat"), "where"
    ),
    **dict.fromkeys(("category", "animal"), "kind"),
}


@dataclass(frozen=True)
class Concept:
    """One kind of fact: how it is called, what values it has, how people ask for it."""

    keys: tuple[str, ...]
    kind: str
    questions: tuple[str, ...]
    yes_no: tuple[str, ...]

    @property
    def group(self) -> str:
        """Kinds of one group may answer each other's questions: a city says where, too."""
        return GROUPS.get(self.kind, self.kind)


@dataclass(frozen=True)
class CardQuestion:
    """A question about a card. `answer` is a stretch of its text, or "" if the text lacks it."""

    question: str
    answer: str


@dataclass(frozen=True)
class Card:
    """A made-up entry."""

    name: str
    text: str
    questions: tuple[CardQuestion, ...]


class CardMaker(ValueMaker):
    """Makes cards and tables in one language ("en" or "zh"); all randomness is `rng`'s."""

    def __init__(self, language: str, rng: random.Random) -> None:
        super().__init__(language, rng)
        self.concepts = read_concepts(FOLDER / f"concepts.{language}.txt")

    def card(self) -> Card:
        """Make a card with two to eight facts and questions about all of them and two others."""
        rng, language = self.rng, self.language
        concepts = rng.sample(self.concepts, rng.randint(2, 8))
        if rng.random() < 0.15:  # their parts are asked for, too
            concepts[0] = next(c for c in self.concepts if c.kind == "hours")
        is_person = any("{p}" in q for concept in concepts for q in concept.questions)
        name = self.person() if is_person else self.thing()
        separator = rng.choice(SEPARATORS[language])
        lines: list[str] = []
        facts: dict[str, tuple[Concept, str]] = {}  # key -> its concept and value
        for concept in concepts:
            key = rng.choice(concept.keys)
            if key.lower() in map(str.lower, facts):
                continue
            value = self.value(concept.kind)
            label = key.lower() if language == "en" and rng.random() < 0.2 else key
            lines.append(f"{label}{separator}{value}")
            facts[key] = (concept, value)
        if rng.random() < 0.5:
            rng.shuffle(lines)
        if rng.random() < 0.8:
            keys = PERSON_KEYS if is_person else NAME_KEYS
            name_line = f"{rng.choice(keys[language])}{separator}{name}"
            lines.insert(0 if rng.random() < 0.85 else len(lines) // 2, name_line)
        if rng.random() < 0.3:
            lines.append(rng.choice(SENTENCES[language]).replace("{n}", name))
        text = ("\n" if rng.random() < 0.85 else LINE_ENDS[language]).join(lines)
        return Card(name, text, tuple(self._questions(name, is_person, text, facts)))

    def table(self) -> tuple[str, CardQuestion, int]:
        """Make a table in text form, a question about one cell, and where the cell starts."""
        rng = self.rng
        concepts = rng.sample(self.concepts, rng.randint(2, 4))
        keys = [rng.choice(concept.keys) for concept in concepts]
        names = [self.word() for _ in range(rng.randint(2, 5))]
        rows = [[self.value(c.kind).replace(",", "") for c in concepts] for _ in names]
        separator = rng.choice((" | ", ", ", "\t"))
        row, column = rng.randrange(len(names)), rng.randrange(len(keys))
        lines = [separator.join(("Name", *keys))]
        lines += [separator.join((n, *cells)) for n, cells in zip(names, rows, strict=True)]
        before = "\n".join(lines[: row + 1]) + "\n"
        start = len(before + separator.join((names[row], *rows[row][:column], "")))
        question = self._fill(rng.choice(concepts[column].questions), names[row], keys[column])
        return "\n".join(lines), CardQuestion(question, rows[row][column]), start

    def _questions(
        self, name: str, is_person: bool, text: str, facts: dict[str, tuple[Concept, str]]
    ) -> list[CardQuestion]:
        rng, language = self.rng, self.language
        pronouns = PERSON_REFERENCES if is_person else REFERENCES
        references = (*[name] * 5, *pronouns[language])
        questions = []
        for key, (concept, value) in facts.items():
            if concept.yes_no and rng.random() < 0.2:
                claim = value if rng.random() < 0.4 else self.value(concept.kind)
                question = self._fill(rng.choice(concept.yes_no), name, key)
                questions.append(CardQuestion(question.replace("{v}", claim), value))
            else:
                question = self._ask(concept, key, rng.choice(references))
                questions.append(CardQuestion(question, value))
        questions += self._absent_questions(facts, rng.choice(references))
        for _, value in (fact for fact in facts.values() if fact[0].kind == "hours"):
            questions += self._hours_questions(name, value)
        if name in text and rng.random() < 0.5:
            question = self._fill(rng.choice(NAME_QUESTIONS[language]), name, "")
            questions.append(CardQuestion(question, name))
        return questions

    def _absent_questions(
        self, facts: dict[str, tuple[Concept, str]], reference: str
    ) -> Iterator[CardQuestion]:
        """Yield questions that no fact answers: one about anything and, where there is such a one,
        one that shares a word with a key, as "Who built it?" does with "Built: 1974"."""
        present = [concept for concept, _ in facts.values()]
        groups = {c.group for c in present if c.kind not in EXCLUSIVE_KINDS}
        keys = {key.lower() for key in facts}
        absent = [
            concept
            for concept in self.concepts
            if concept not in present
            and concept.group not in groups
            and not keys & {key.lower() for key in concept.keys}
        ]
        words = self._rare_words & {word for key in keys for word in _words(key, self.language)}
        confusing = [
            (question, concept)
            for concept in absent
            for question in concept.questions
            if words & set(_words(question.lower(), self.language))
        ]
        if confusing:
            question, concept = self.rng.choice(confusing)
            key = self.rng.choice(concept.keys)
            yield CardQuestion(self._fill(question, reference, key), "")
        if absent:
            concept = self.rng.choice(absent)
            key = self.rng.choice(concept.keys)
            yield CardQuestion(self._ask(concept, key, reference), "")

    @cached_property
    def _rare_words(self) -> set[str]:
        """The words of keys and questions that at most eight concepts have."""
        counts = Counter(
            word
            for concept in self.concepts
            for word in {
                word
                for text in (*concept.keys, *concept.questions)
                for word in _words(text.lower(), self.language)
            }
        )
        return {word for word, count in counts.items() if count <= 8}

    def _hours_questions(self, name: str, value: str) -> Iterator[CardQuestion]:
        """Yield questions about the parts of opening hours."""
        first, last = re.findall(r"\d+:\d\d", value)
        english = self.language == "en"
        day = re.search(r"closed on (\w+)|(周.)闭馆", value)
        closed = next(filter(None, day.groups())) if day else ""
        ask = HOURS_QUESTIONS[self.language]
        for question, answer in zip(ask, (first, last, closed), strict=True):
            yield CardQuestion(question.replace("{n}", name), answer)
        if day:
            other = self.rng.choice(self.words["weekday"]) + ("s" if english else "")
            asked = self.rng.choice((closed, other))
            answer = day.group() if asked == closed else value.split(",")[0].split("，")[0]
            question = f"Is {name} open on {asked}?" if english else f"{name}{asked}开门吗？"
            yield CardQuestion(question, answer)

    def _ask(self, concept: Concept, key: str, reference: str) -> str:
        question = self.rng.choice(concept.questions)
        if concept.kind != "boolean" and self.rng.random() < 0.15:
            question = self.rng.choice(KEY_QUESTIONS[self.language])
        return self._fill(question, reference, key)

    def _fill(self, question: str, name: str, key: str) -> str:
        label = key if self.language == "zh" else key.lower()
        filled = question.replace("{n}", name).replace("{p}", name).replace("{k}", label)
        while "{thing}" in filled:
            kind = self.rng.choice(("things", "animal", "category"))
            filled = filled.replace("{thing}", self.rng.choice(self.words[kind]).lower(), 1)
        return filled


def _words(text: str, language: str) -> Iterable[str]:
    """Return the beginnings of English words, and pairs of Chinese characters."""
    plain = re.sub(r"\{\w+\}", " ", text)
    if language == "zh":
        return (plain[i : i + 2] for i in range(len(plain) - 1) if plain[i : i + 2].isalpha())
    return (word[:5] for word in re.findall(r"[a-z]{3,}", plain))


def read_concepts(path: Path) -> list[Concept]:
    """Read a table of concepts: keys, kind, questions, yes-no questions."""
    return [
        Concept(split_items(keys), kind, split_items(questions), split_items(yes_no))
        for keys, kind, questions, yes_no in read_rows(path)
    ]


def read_rows(path: Path) -> Iterator[list[str]]:
    """Yield the columns of each row of a table; "|" separates them, and "#" begins a comment."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield [column.strip() for column in line.split("|")]


def split_items(column: str) -> tuple[str, ...]:
    """Return the items of a column, which ";" separates."""
    return tuple(item.strip() for item in column.split(";") if item.strip())
