"""Reads the answer to a question in the facts of one entity: scores every fact, and "none of them"
among them.

A fact's score is a weighted sum of features that say how well its key, its words and the type of
its value fit the question; the weights were learnt on made-up entries (`benchmarks/reader.py`).
Knows no picture and no retrieval."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ravlm.data.facts import Fact, is_name_key, split_list
from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.files import STARTER
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.question_types import (
    AnswerType,
    QuestionTypeBank,
    QuestionTypeScores,
)
from ravlm.generation.extractive.questions import Question
from ravlm.generation.extractive.units import Units

WEIGHTS = STARTER / "reader.json"
FEATURES = (
    "key alike", "key alike, sure", "line alike", "line alike, sure", "aspect", "aspect, sure", "words of key",
    "is name", "sentence", "sentence alike", "sentence aspect", "sentence aspect, sure",
    "words of question in sentence", "caption for a name", "number found", "number missing", "list to count",
    "unit found", "unit wrong", "dimension found", "dimension found here alone", "dimension missing",
    "yes/no found", "yes/no missing", "yes/no unasked", "type fits", "said in choice", "said already", "long",
)  # fmt: skip
YES_NO = {
    "yes": True,
    "true": True,
    "no": False,
    "false": False,
    "是": True,
    "有": True,
    "否": False,
    "不是": False,
}
_MOSTLY_NUMBER = re.compile(
    r"\W*(?:(?:ca|about|circa|approx)\.? )?[\d.,]+(?:\s?\S{1,12}){0,2}", re.IGNORECASE
)
_SURE = (3.0, 6.0)
"""A nearest question of the bank this close (standard deviations) is no evidence, or is as good as
the question."""


@dataclass(frozen=True)
class Found:
    """The fact that answers best, and how likely each fact (and none: the last) answers, from the
    scores alone."""

    fact: Fact | None
    probability: float
    about: QuestionTypeScores
    probabilities: np.ndarray


def read_weights(path: Path = WEIGHTS) -> dict[str, float]:
    """The learnt weight of each feature, and of "none"."""
    return json.loads(path.read_text(encoding="utf-8"))


class Reader:
    """Scores facts for a question. `vectors` gives (and keeps) the text vectors of the encoder in
    hand."""

    def __init__(
        self, vectors: EmbeddingCache, bank: QuestionTypeBank, weights: Mapping[str, float]
    ) -> None:
        self.vectors, self.bank, self.units = vectors, bank, Units()
        self.weights = dict(weights)
        self._beta = np.array([weights[name] for name in FEATURES])

    def read(
        self, question: Question, facts: Sequence[Fact], about: QuestionTypeScores | None = None
    ) -> Found:
        """The best of `facts` (all of one entity) for `question`; none where "none of them" is
        likelier."""
        about = about or self.about(question)
        scores = np.append(self.features(question, facts, about) @ self._beta, self.weights["none"])
        probabilities = np.exp(scores - scores.max())
        probabilities /= probabilities.sum()
        best = int(probabilities.argmax())
        fact = facts[best] if best < len(facts) else None
        return Found(fact, float(probabilities[best]), about, probabilities)

    def about(self, question: Question, skip: np.ndarray | None = None) -> QuestionTypeScores:
        """Which aspects the question asks for; `skip` as in `QuestionTypeBank.about`."""
        wordings = self.vectors([question.text, question.plain])
        return self.bank.about(wordings, content_words(question.plain), skip)

    def features(
        self, question: Question, facts: Sequence[Fact], about: QuestionTypeScores
    ) -> np.ndarray:
        """How each fact fits: (facts, features)."""
        if not facts:
            return np.zeros((0, len(FEATURES)))
        asked = self.vectors([question.plain])[0]
        keys = self.vectors([fact.key or fact.value for fact in facts])
        alike = self.bank.asked(keys @ asked)
        lines = self.bank.asked(self.vectors([fact.line for fact in facts]) @ asked)
        name = next((i for i, fact in enumerate(facts) if fact.key and is_name_key(fact.key)), None)
        aspects = self.bank.match(keys, name) @ about.weights
        sure = float(np.clip((about.closeness - _SURE[0]) / (_SURE[1] - _SURE[0]), 0, 1))
        words = content_words(question.english)
        types, dimensions = self.bank.types(about), self.bank.dimensions(about)
        wanted = question.dimension or max(dimensions, key=lambda d: dimensions[d])
        measured = [wanted in self._units_of(fact)[1] for fact in facts]
        captions, names = not any(fact.key for fact in facts), self.bank.names(about)
        rows = []
        for i, fact in enumerate(facts):
            row = dict.fromkeys(FEATURES, 0.0)
            if fact.key:
                row["key alike"], row["key alike, sure"] = alike[i], sure * alike[i]
                row["line alike"], row["line alike, sure"] = lines[i], sure * lines[i]
                row["aspect"], row["aspect, sure"] = aspects[i], sure * aspects[i]
                row["words of key"] = overlap(content_words(fact.key), words)
                row["is name"] = float(i == name)
                said = overlap(content_words(fact.value), words)
                row["said in choice" if question.form == "choice" else "said already"] = said
            else:
                row["sentence"], row["sentence alike"] = 1.0, lines[i]
                row["sentence aspect"], row["sentence aspect, sure"] = aspects[i], sure * aspects[i]
                row["caption for a name"] = names if captions else 0.0
                row["words of question in sentence"] = overlap(
                    words, content_words(f"{fact.section} {fact.value}")
                )
            row["long"] = min(len(fact.value.split()), 40) / 40
            row["dimension found here alone"] = float(measured[i] and sum(measured) == 1)
            self._value_features(row, question, fact, types, dimensions)
            rows.append([row[name] for name in FEATURES])
        return np.array(rows)

    def _value_features(
        self,
        row: dict[str, float],
        question: Question,
        fact: Fact,
        types: Mapping[AnswerType, float],
        dimensions: Mapping[str, float],
    ) -> None:
        """Whether the value is of the type that the question wants."""
        units, found_dimensions = self._units_of(fact)
        yes_no = fact.value.strip(" .").lower() in YES_NO
        has_number = any(c.isdigit() for c in fact.value)
        number = types["number"] + types["time"]
        wanted = 1.0 if question.form == "number" or question.unit else types["number"]
        countable = question.counts and not has_number and not yes_no and len(split_list(fact.value)) > 1
        row[
            "number found" if has_number else "list to count" if countable else "number missing"
        ] = wanted
        if question.unit and has_number:
            row["unit found"] = float(question.unit in units)
            row["unit wrong"] = float(bool(units) and question.dimension not in found_dimensions)
        elif not question.unit:
            row["dimension found"] = sum(dimensions.get(d, 0.0) for d in found_dimensions)
            row["dimension missing"] = 1 - dimensions.get("", 0.0) - row["dimension found"]
        if question.form == "yes/no":
            row["yes/no found" if yes_no else "yes/no missing"] = 1.0
        elif yes_no:
            row["yes/no unasked"] = 1.0
        plain_number = _MOSTLY_NUMBER.fullmatch(fact.value) is not None
        row["type fits"] = (
            types["yes/no"] if yes_no else number if plain_number else 1 - types["yes/no"] - number
        )

    def _units_of(self, fact: Fact) -> tuple[set[str], set[str]]:
        """The units and the dimensions of a fact's quantities; a unit may stand in the key ("area
        km2")."""
        found = [(q.unit, q.dimension) for q in self.units.find(fact.value)]
        if any(c.isdigit() for c in fact.value):
            found.append(self.units.asked(fact.key))
        return {unit for unit, _ in found if unit}, {
            dimension for _, dimension in found if dimension
        }
