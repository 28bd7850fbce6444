"""Made-up fact cards and tables with questions: training data that no real name or value is in.

A card is an invented entity with `key: value` lines in random order, asked about in many wordings,
in English or Chinese. A reader trained on them learns to match a question to a key, and cannot
learn an answer by heart.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

FOLDER = Path(__file__).parent
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
LISTS = {"ingredients": "ingredient", "languages": "language", "countries": "country"}


@dataclass(frozen=True)
class Concept:
    """One kind of fact: how it is called, what values it has, how people ask for it."""

    keys: tuple[str, ...]
    kind: str
    questions: tuple[str, ...]
    yes_no: tuple[str, ...]


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


class CardMaker:
    """Makes cards and tables in one language ("en" or "zh"); all randomness is `rng`'s."""

    def __init__(self, language: str, rng: random.Random) -> None:
        self.language = language
        self.rng = rng
        self.concepts = read_concepts(FOLDER / f"concepts.{language}.txt")
        values = (FOLDER / f"values.{language}.json").read_text(encoding="utf-8")
        self.words: dict[str, list[str]] = json.loads(values)
        self._makers = self._chinese_makers() if language == "zh" else self._english_makers()

    def card(self) -> Card:
        """Make a card with two to eight facts and questions about all of them and two others."""
        rng, language = self.rng, self.language
        concepts = rng.sample(self.concepts, rng.randint(2, 8))
        is_person = any("{p}" in q for concept in concepts for q in concept.questions)
        name = self._person() if is_person else self._thing()
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
        names = [self._word() for _ in range(rng.randint(2, 5))]
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
        kinds = {concept.kind for concept, _ in facts.values()}
        keys = {key.lower() for key in facts}
        absent = [
            concept
            for concept in self.concepts
            if concept.kind not in kinds and not keys & {key.lower() for key in concept.keys}
        ]
        for concept in rng.sample(absent, min(2, len(absent))):
            key = rng.choice(concept.keys)
            questions.append(CardQuestion(self._ask(concept, key, rng.choice(references)), ""))
        if name in text and rng.random() < 0.5:
            question = self._fill(rng.choice(NAME_QUESTIONS[language]), name, "")
            questions.append(CardQuestion(question, name))
        return questions

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

    def value(self, kind: str) -> str:
        """Make a value of a kind: a date, a length, a person ..."""
        maker = self._makers.get(kind)
        return maker() if maker else self.rng.choice(self.words[kind])

    def _person(self) -> str:
        given_name = self.rng.choice(self.words["given_names"])
        family = self.rng.choice(self.words["family_names"])
        return f"{family}{given_name}" if self.language == "zh" else f"{given_name} {family}"

    def _thing(self) -> str:
        choice, words = self.rng.choice, self.words
        if self.language == "zh":
            return choice(words["stems"]) + choice(words["things"])
        thing = choice(words["things"])
        color = choice(words["color"]).title()
        return choice((
            f"{self._word()} {thing}",
            self._word(),
            f"{color} {thing}",
            f"{self._word()} {self._word()}",
        ))  # fmt: skip

    def _word(self) -> str:
        if self.language == "zh":
            return self.rng.choice(self.words["stems"])
        syllables = self.rng.choices(self.words["syllables"], k=self.rng.randint(2, 3))
        return "".join(syllables).capitalize()

    def _number(self) -> str:
        upper = self.rng.choice((99, 9_999, 99_999_999))
        number = self.rng.randint(2, upper)
        return f"{number:,}" if self.rng.random() < 0.4 else str(number)

    def _decimal(self, upper: int = 900) -> str:
        if self.rng.random() < 0.6:
            return str(self.rng.randint(1, upper))
        return f"{self.rng.uniform(0, upper):.{self.rng.randint(1, 2)}f}"

    def _measure(self, units: str, upper: int = 900) -> str:
        return self._decimal(upper) + self.rng.choice(units.split("|"))

    def _listed(self, kind: str) -> str:
        items = self.rng.sample(self.words[LISTS[kind]], self.rng.randint(1, 5))
        separator = "、" if self.language == "zh" and self.rng.random() < 0.7 else ", "
        return separator.join(items)

    def _code(self) -> str:
        letters = "".join(self.rng.choices("ABCDEFGHKLMNPRSTXZ", k=self.rng.randint(1, 3)))
        return f"{letters}{self.rng.choice(('-', '', ' '))}{self.rng.randint(10, 99_999)}"

    def _phone(self) -> str:
        parts = [str(self.rng.randint(100, 9999)) for _ in range(self.rng.randint(2, 3))]
        return "-".join(parts)

    def _hours(self, to: str) -> str:
        first = f"{self.rng.randint(6, 11)}:{self.rng.choice(('00', '30'))}"
        last = f"{self.rng.randint(15, 23)}:{self.rng.choice(('00', '30'))}"
        return first + self.rng.choice((" - ", "-", to)) + last

    def _shared_makers(self) -> dict[str, Callable[[], str]]:
        return {
            "person": self._person,
            "code": self._code,
            "phone": self._phone,
            "score": lambda: f"{self.rng.randint(0, 9)}:{self.rng.randint(0, 9)}",
            **{kind: partial(self._listed, kind) for kind in LISTS},
        }

    def _english_makers(self) -> dict[str, Callable[[], str]]:
        rng, words, choice = self.rng, self.words, self.rng.choice

        def date() -> str:
            day, month, year = rng.randint(1, 28), choice(words["months"]), rng.randint(1400, 2026)
            number = words["months"].index(month) + 1
            return choice((
                f"{day} {month} {year}",
                f"{month} {day}, {year}",
                f"{year}-{number:02d}-{day:02d}",
                f"{month} {year}",
            ))  # fmt: skip

        def money() -> str:
            amount = self._decimal()
            return choice((f"${amount}", f"{amount} euros", f"€{amount}", f"{amount} kr", "free"))

        def place(kind: str) -> str:
            return self._word() if rng.random() < 0.3 else choice(words[kind])

        return {
            **self._shared_makers(),
            "city": partial(place, "city"),
            "country": partial(place, "country"),
            "year": lambda: str(rng.randint(900, 2024)),
            "date": date,
            "hours": partial(self._hours, " to "),
            "duration": lambda: f"{rng.randint(2, 180)} {choice(('minutes', 'hours', 'days'))}",
            "length": partial(self._measure, " m| cm| km| mm| feet| metres| inches|-930 mm"),
            "area": lambda: self._number() + choice((" km2", " hectares", " m2", "")),
            "weight": partial(self._measure, " kg| g| tonnes| grams|g| lb"),
            "speed": partial(self._measure, " km/h| mph| knots", 400),
            "count": self._number,
            "age": lambda: f"{rng.randint(1, 120)}" + choice((" years", "", " months")),
            "money": money,
            "kcal": lambda: f"{rng.randint(5, 900)}" + choice((" kcal", " kcal per 100 g", "")),
            "percent": partial(self._measure, "%| g| g per 100 g", 60),
            "email": lambda: f"{self._word().lower()}@{self._word().lower()}.org",
            "url": lambda: f"www.{self._word().lower()}.com",
            "address": lambda: f"{rng.randint(1, 300)} {self._word()} {choice(('Street', 'Road'))}",
            "boolean": lambda: choice(("yes", "no", "true", "false")),
            "latin": lambda: f"{self._word()} {self._word().lower()}us",
            "latin1": lambda: self._word() + choice(("idae", "us", "")),
        }

    def _chinese_makers(self) -> dict[str, Callable[[], str]]:
        rng, words, choice = self.rng, self.words, self.rng.choice

        def date() -> str:
            return f"{rng.randint(1400, 2026)}年{rng.randint(1, 12)}月{rng.randint(1, 28)}日"

        def money() -> str:
            amount = self._decimal()
            return choice(
                (f"{amount}元", f"{amount}美元", f"{rng.randint(1, 99)}万元", f"¥{amount}")
            )

        def place(kind: str, suffix: str) -> str:
            made_up = f"{choice(words['stems'])}{suffix}"
            return made_up if rng.random() < 0.25 else choice(words[kind])

        return {
            **self._shared_makers(),
            "city": partial(place, "city", "市"),
            "country": partial(place, "country", "国"),
            "year": lambda: str(rng.randint(900, 2024)) + choice(("年", "年", "")),
            "date": date,
            "hours": partial(self._hours, "至"),
            "duration": lambda: f"{rng.randint(2, 180)}" + choice(("分钟", "小时", "天", "个月")),
            "length": partial(self._measure, "米|厘米|千米|毫米|公里"),
            "area": lambda: self._number() + choice(("平方千米", "平方米", "万平方米", "公顷")),
            "weight": partial(self._measure, "克|千克|公斤|吨"),
            "speed": partial(self._measure, "公里每小时|千米/小时", 400),
            "count": lambda: self._number() + choice(("", "人", "个", "间", "万人")),
            "age": lambda: f"{rng.randint(1, 120)}" + choice(("岁", "")),
            "money": money,
            "kcal": lambda: f"{rng.randint(5, 900)}千卡",
            "percent": partial(self._measure, "%|克", 60),
            "address": lambda: f"{choice(words['stems'])}路{rng.randint(1, 300)}号",
            "boolean": lambda: choice(("是", "否", "有", "没有")),
            "latin": lambda: choice(("Panthera uncia", "Felis catus", "Vulpes vulpes")),
        }


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
