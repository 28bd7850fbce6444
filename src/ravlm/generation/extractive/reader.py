"""Read the answer to a question from the facts of one entity: score every fact, and "none of them".

A fact's score is a weighted sum of features of how well its key, its words and the type of its
value fit the question. The weights were fitted on generated entries (`benchmarks/reader.py`)."""

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
    "key alike", "key alike, sure", "line alike", "line alike, sure", "aspect", "aspect, sure",
    "words of key", "is name", "sentence", "sentence alike", "sentence aspect",
    "sentence aspect, sure", "words of question in sentence", "caption for a name", "number found",
    "number missing", "list to count", "unit found", "unit wrong", "dimension found",
    "dimension found here alone", "dimension missing", "yes/no found", "yes/no missing",
    "yes/no unasked", "type fits", "said in choice", "said already", "long",
)  # fmt: skip
"""Names of the features, as in the stored weights."""
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
"""From a nearest question that is no evidence to one as good as the question itself, in standard
deviations."""


@dataclass(frozen=True)
class Reading:
    """The fact that answers best (None if none does), and its probability."""

    fact: Fact | None
    probability: float
    types: QuestionTypeScores
    probabilities: np.ndarray
    """(facts + 1,), the last for "none of them"."""


def read_weights(path: Path = WEIGHTS) -> dict[str, float]:
    """Read the fitted weight of each feature, and of "none"."""
    return json.loads(path.read_text(encoding="utf-8"))


class FactReader:
    """Scores facts for a question. `vectors` caches the text vectors of the encoder."""

    def __init__(
        self, vectors: EmbeddingCache, bank: QuestionTypeBank, weights: Mapping[str, float]
    ) -> None:
        self.vectors, self.bank, self.units = vectors, bank, Units()
        self.weights = dict(weights)
        self._beta = np.array([weights[name] for name in FEATURES])

    def read(
        self, question: Question, facts: Sequence[Fact], types: QuestionTypeScores | None = None
    ) -> Reading:
        """Return the best of the facts of one entity, or none if "none of them" is likelier."""
        types = types or self.question_types(question)
        scores = np.append(self.features(question, facts, types) @ self._beta, self.weights["none"])
        probabilities = np.exp(scores - scores.max())
        probabilities /= probabilities.sum()
        best = int(probabilities.argmax())
        fact = facts[best] if best < len(facts) else None
        return Reading(fact, float(probabilities[best]), types, probabilities)

    def question_types(
        self, question: Question, skip: np.ndarray | None = None
    ) -> QuestionTypeScores:
        """Score what the question asks for; `skip` as in `QuestionTypeBank.scores`."""
        wordings = self.vectors([question.text, question.plain])
        return self.bank.scores(wordings, content_words(question.plain), skip)

    def features(
        self, question: Question, facts: Sequence[Fact], types: QuestionTypeScores
    ) -> np.ndarray:
        """Return how each fact fits: (facts, features)."""
        if not facts:
            return np.zeros((0, len(FEATURES)))
        question_vector = self.vectors([question.plain])[0]
        keys = self.vectors([fact.key or fact.value for fact in facts])
        key_scores = self.bank.question_to_key(keys @ question_vector)
        line_vectors = self.vectors([fact.line for fact in facts])
        line_scores = self.bank.question_to_key(line_vectors @ question_vector)
        name = next((i for i, fact in enumerate(facts) if fact.key and is_name_key(fact.key)), None)
        type_scores = self.bank.match(keys, name) @ types.weights
        sure = float(np.clip((types.closeness - _SURE[0]) / (_SURE[1] - _SURE[0]), 0, 1))
        words = content_words(question.english)
        answer_types = self.bank.answer_types(types)
        dimensions = self.bank.dimensions(types)
        dimension = question.dimension or max(dimensions, key=lambda d: dimensions[d])
        has_dimension = [dimension in self._units_of(fact)[1] for fact in facts]
        only_sentences = not any(fact.key for fact in facts)
        name_score = self.bank.names(types)
        rows = []
        for i, fact in enumerate(facts):
            row = dict.fromkeys(FEATURES, 0.0)
            if fact.key:
                row["key alike"] = key_scores[i]
                row["key alike, sure"] = sure * key_scores[i]
                row["line alike"] = line_scores[i]
                row["line alike, sure"] = sure * line_scores[i]
                row["aspect"] = type_scores[i]
                row["aspect, sure"] = sure * type_scores[i]
                row["words of key"] = overlap(content_words(fact.key), words)
                row["is name"] = float(i == name)
                repeated = overlap(content_words(fact.value), words)
                row["said in choice" if question.form == "choice" else "said already"] = repeated
            else:
                row["sentence"] = 1.0
                row["sentence alike"] = line_scores[i]
                row["sentence aspect"] = type_scores[i]
                row["sentence aspect, sure"] = sure * type_scores[i]
                row["caption for a name"] = name_score if only_sentences else 0.0
                row["words of question in sentence"] = overlap(
                    words, content_words(f"{fact.section} {fact.value}")
                )
            row["long"] = min(len(fact.value.split()), 40) / 40
            row["dimension found here alone"] = float(has_dimension[i] and sum(has_dimension) == 1)
            self._value_features(row, question, fact, answer_types, dimensions)
            rows.append([row[name] for name in FEATURES])
        return np.array(rows)

    def _value_features(
        self,
        row: dict[str, float],
        question: Question,
        fact: Fact,
        answer_types: Mapping[AnswerType, float],
        dimensions: Mapping[str, float],
    ) -> None:
        """Add the features of whether the value has the type that the question asks for."""
        units, value_dimensions = self._units_of(fact)
        yes_no = fact.value.strip(" .").lower() in YES_NO
        has_number = any(c.isdigit() for c in fact.value)
        number = answer_types["number"] + answer_types["time"]
        number_wanted = (
            1.0 if question.form == "number" or question.unit else answer_types["number"]
        )
        countable = (
            question.counts and not has_number and not yes_no and len(split_list(fact.value)) > 1
        )
        row[
            "number found" if has_number else "list to count" if countable else "number missing"
        ] = number_wanted
        if question.unit and has_number:
            row["unit found"] = float(question.unit in units)
            row["unit wrong"] = float(bool(units) and question.dimension not in value_dimensions)
        elif not question.unit:
            row["dimension found"] = sum(dimensions.get(d, 0.0) for d in value_dimensions)
            row["dimension missing"] = 1 - dimensions.get("", 0.0) - row["dimension found"]
        if question.form == "yes/no":
            row["yes/no found" if yes_no else "yes/no missing"] = 1.0
        elif yes_no:
            row["yes/no unasked"] = 1.0
        plain_number = _MOSTLY_NUMBER.fullmatch(fact.value) is not None
        row["type fits"] = (
            answer_types["yes/no"]
            if yes_no
            else number
            if plain_number
            else 1 - answer_types["yes/no"] - number
        )

    def _units_of(self, fact: Fact) -> tuple[set[str], set[str]]:
        """Return the units and dimensions of a fact's quantities.

        A unit may be in the key ("area km2").
        """
        units = [(q.unit, q.dimension) for q in self.units.find(fact.value)]
        if any(c.isdigit() for c in fact.value):
            units.append(self.units.requested(fact.key))
        return {unit for unit, _ in units if unit}, {
            dimension for _, dimension in units if dimension
        }
