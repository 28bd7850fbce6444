"""Made-up prose with questions: short passages about invented things and people.

Each passage tells one to five statements about one subject and, half of the time, some about
another. A question asks for a value of one statement; half as many ask what only the other subject
has, or what nobody has, so that a shared word alone does not make an answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from recipes.fact_cards import Card, CardQuestion, read_rows, split_items
from recipes.fact_cards.values import FOLDER, ValueMaker

_SLOT = re.compile(r"\{(\w+)\}")
_OPENINGS = {
    "en": {
        "thing": ("The {n} is a {color} {category}.", "{n} is known to many.", ""),
        "person": ("{n} is a friend of the house.", "{n} comes from {country}.", ""),
    },
    "zh": {
        "thing": ("{n}很有名。", "{n}是当地的一处名胜。", ""),
        "person": ("{n}来自{country}。", "大家都认识{n}。", ""),
    },
}
_PRONOUNS = {
    "en": {"thing": ("It", "{n}"), "person": ("He", "She", "{n}")},
    "zh": {"thing": ("它", "{n}"), "person": ("他", "她", "{n}")},
}
_AND = {"en": " and ", "zh": "，"}


@dataclass(frozen=True)
class Statement:
    """A statement with slots for values, and the questions that ask for each slot."""

    subject: str
    """What it is about: "thing", "person" or "any"."""
    text: str
    questions: tuple[tuple[str, str], ...]
    """Pairs of the slot's name and the question."""


@dataclass(frozen=True)
class _Profile:
    """What a passage says about one subject."""

    name: str
    text: str
    statements: tuple[tuple[Statement, dict[str, str]], ...]
    """Statements with the values of their slots."""


class StatementWriter:
    """Writes passages; values and randomness come from a `ValueMaker`."""

    def __init__(self, maker: ValueMaker) -> None:
        self.maker = maker
        self.rng = maker.rng

    @cached_property
    def statements(self) -> tuple[Statement, ...]:
        """All statements of the maker's language."""
        rows = read_rows(FOLDER / f"statements.{self.maker.language}.txt")
        return tuple(
            Statement(subject, text, tuple(map(_question_of, split_items(questions))))
            for subject, text, questions in rows
        )

    def passage(self) -> Card:
        """Write a passage and its questions. An answer stands once in the passage or is ""."""
        rng = self.rng
        kind = rng.choice(("thing", "thing", "person"))
        about = self._profile(kind, rng.randint(1, 5))
        others = [self._profile(kind, rng.randint(1, 4))] if rng.random() < 0.5 else []
        profiles = [about, *others]
        rng.shuffle(profiles)
        joint = " " if self.maker.language == "en" else ""
        text = joint.join(profile.text for profile in profiles)
        return Card(about.name, text, tuple(self._questions(kind, about, others)))

    def _profile(self, kind: str, count: int) -> _Profile:
        rng, language = self.rng, self.maker.language
        name = self.maker.person() if kind == "person" else self.maker.thing()
        fitting = [one for one in self.statements if one.subject in (kind, "any")]
        chosen = [(one, self._values(one)) for one in rng.sample(fitting, count)]
        opening = _fill(rng.choice(_OPENINGS[language][kind]), self._values_of_opening(name))
        sentences = [opening] if opening else []
        clauses = [_fill(one.text, values) for one, values in chosen]
        end, space = (".", " ") if language == "en" else ("。", "")
        while clauses:
            pair = clauses[: 2 if rng.random() < 0.4 else 1]
            del clauses[: len(pair)]
            subject = rng.choice(_PRONOUNS[language][kind]) if sentences else "{n}"
            said = _AND[language].join(pair)
            sentences.append(subject.replace("{n}", name) + space + said + end)
        return _Profile(name, space.join(sentences), tuple(chosen))

    def _questions(self, kind: str, about: _Profile, others: list[_Profile]) -> list[CardQuestion]:
        rng = self.rng
        text = about.text + "".join(other.text for other in others)
        questions = []
        for statement, values in about.statements:
            slot, question = rng.choice(statement.questions)
            if text.count(values[slot]) == 1:
                questions.append(CardQuestion(question.replace("{n}", about.name), values[slot]))
        slots = {slot for one, _ in about.statements for slot, _ in one.questions}
        wordings = {question for one, _ in about.statements for _, question in one.questions}
        elsewhere = [one for other in others for one, _ in other.statements]
        fitting = [one for one in self.statements if one.subject in (kind, "any")]
        for pool in (elsewhere, fitting):
            absent = [
                question
                for one in pool
                for slot, question in one.questions
                if question not in wordings and (slot not in slots or pool is elsewhere)
                and not self._same_topic(one, about)
            ]  # fmt: skip
            if absent and rng.random() < 0.6:
                questions.append(CardQuestion(rng.choice(absent).replace("{n}", about.name), ""))
        return questions

    def _same_topic(self, statement: Statement, about: _Profile) -> bool:
        """Return whether something that `about` tells answers the statement's questions."""
        mine = {(slot, _verb(question)) for slot, question in statement.questions}
        return any(
            mine & {(slot, _verb(question)) for slot, question in other.questions}
            for other, _ in about.statements
        )

    def _values(self, statement: Statement) -> dict[str, str]:
        return {slot: self._value(slot) for slot in _SLOT.findall(statement.text)}

    def _values_of_opening(self, name: str) -> dict[str, str]:
        slots = ("color", "category", "country")
        return {"n": name, **{slot: self._value(slot) for slot in slots}}

    def _value(self, slot: str) -> str:
        rng = self.rng
        if slot == "small":
            return str(rng.randint(2, 40))
        if slot in ("clock", "clock2"):
            hour = rng.randint(6, 11) if slot == "clock" else rng.randint(14, 23)
            return f"{hour}:{rng.choice(('00', '15', '30'))}"
        if slot == "weekday" and self.maker.language == "en":
            return rng.choice(self.maker.words["weekday"]) + "s"
        return self.maker.value(slot)


def _question_of(item: str) -> tuple[str, str]:
    slot, _, question = item.partition(": ")
    return slot, question


def _verb(question: str) -> str:
    """Return the last word of a question: "built" of "When was {n} built?"."""
    return question.rstrip("?？").replace("{n}", "").split(" ")[-1][-2:]


def _fill(text: str, values: dict[str, str]) -> str:
    return _SLOT.sub(lambda match: values[match.group(1)], text)
