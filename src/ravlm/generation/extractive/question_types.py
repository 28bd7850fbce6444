"""Classify what a question asks for: a bank of question types (capital, price, taste ...).

Each type has keys and ways to ask for it. A question is compared with every question of the bank by
the encoder's text vectors; the likeliest types then say under which keys its answer may be ("Where
was it grown?" -> origin, country). Cosines are standardized per encoder, so that the same weights
serve any encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ravlm.config import from_mapping
from ravlm.data.lexical_overlap import content_words
from ravlm.data.text import is_chinese

AnswerType = Literal["name", "place", "person", "list", "text", "number", "time", "yes/no"]
ANSWER_TYPES: tuple[AnswerType, ...] = get_args(AnswerType)
BANK = Path(__file__).with_name("question_types.jsonl")
NAME = 0
"""The bank's first type: what a thing is called."""
_SHARPNESS = 2.4
"""Inverse temperature of the weights, in standard deviations of cosines between questions of
different types."""
_KEY_BONUS = 1.0
"""Bonus, in standard deviations, of a type whose key occurs in the question."""
_NAME_WILL_DO = 0.6
_SAME_KEY, _UNRELATED_KEY = 6.0, 1.5
"""Keys this many standard deviations alike mean the same, or have nothing in common."""


@dataclass(frozen=True)
class QuestionType:
    """One thing that can be asked for: the keys of its answer, and questions for it."""

    keys: tuple[str, ...]
    answer: AnswerType
    questions: tuple[str, ...]
    opposite: tuple[str, ...] = ()
    """Questions whose yes is this type's no."""
    dimension: str = ""
    """Of a number: length, mass ... as in `units.py`."""
    all: bool = False
    """Whether all facts together are the answer: "Tell me about it."."""
    things: tuple[str, ...] = ()
    """Words for {thing} in a question of the same language."""

    name_will_do: bool = False
    """Whether the name answers if no key does: "What kind of animal is this?"."""

    def all_questions(self) -> list[str]:
        """Return all questions, the opposite ones included, with each {thing} filled in."""
        questions = []
        for question in (*self.questions, *self.opposite):
            things = [t for t in self.things if is_chinese(t) == is_chinese(question)]
            questions.extend(
                [question.format(thing=t) for t in things] if "{thing}" in question else [question]
            )
        return questions


@dataclass(frozen=True)
class QuestionTypeScores:
    """How likely a question is of each type (`weights` sum to 1), and the nearest question of
    the bank."""

    weights: np.ndarray
    nearest: str
    """The nearest question of the likeliest type."""
    closeness: float
    """Similarity of the likeliest type, in standard deviations of unrelated questions."""
    opposite: bool
    """Whether the nearest question asks for the opposite."""


def read_question_types(path: Path = BANK) -> tuple[QuestionType, ...]:
    """Read the bank that comes with the package."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple(from_mapping(QuestionType, row, str(path)) for row in rows)


def bank_hash(path: Path = BANK) -> str:
    """Return a hash of the bank's content, for caches."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


class QuestionTypeBank:
    """The question types with their vectors. `encode` maps texts to (n, dim) unit vectors."""

    def __init__(
        self, types: Sequence[QuestionType], encode: Callable[[Sequence[str]], np.ndarray]
    ) -> None:
        self.types = tuple(types)
        owned = [(i, q) for i, a in enumerate(types) for q in a.all_questions()]
        self.questions = tuple(q for _, q in owned)
        self.owner = np.array([i for i, _ in owned])
        self._opposite = np.array([q in types[i].opposite for i, q in owned])
        self._key_owner = np.array([i for i, a in enumerate(types) for _ in a.keys])
        self._key_words = [
            [words for key in a.keys if (words := content_words(key))] for a in types
        ]
        self._question_vectors = encode(self.questions)
        self._key_vectors = encode([key for a in types for key in a.keys])
        self._alike = _Scale(
            self._question_vectors @ self._question_vectors.T, self.owner, self.owner
        )
        self._named = _Scale(
            self._key_vectors @ self._key_vectors.T, self._key_owner, self._key_owner
        )
        self.question_to_key = _Scale(
            self._question_vectors @ self._key_vectors.T, self.owner, self._key_owner
        )
        """Standardizes cosines between a question and a key or a line."""
        self._name_will_do = np.array([a.name_will_do for a in types])
        self._of_type = {
            t: np.array([a.answer == t for a in types], np.float32) for t in ANSWER_TYPES
        }

    def scores(
        self, wordings: np.ndarray, words: Set[str] = frozenset(), skip: np.ndarray | None = None
    ) -> QuestionTypeScores:
        """Score the types from the vectors (n, dim) of a question's wordings; the nearest counts.

        `words` are its content words: a type with a key among them gets a bonus. `skip`: a mask of
        the bank's questions to leave out.
        """
        similar = self._alike(self._question_vectors @ wordings.T).max(axis=1)
        if skip is not None:
            similar = np.where(skip, -np.inf, similar)
        best = np.full(len(self.types), -np.inf)
        np.maximum.at(best, self.owner, similar)
        best += [_KEY_BONUS * any(key <= words for key in keys) for keys in self._key_words]
        weights = np.exp(_SHARPNESS * (best - best.max()))
        top = int(np.where(self.owner == best.argmax(), similar, -np.inf).argmax())
        return QuestionTypeScores(
            weights / weights.sum(),
            self.questions[top],
            float(best.max()),
            bool(self._opposite[top]),
        )

    def match(self, keys: np.ndarray, name: int | None = None) -> np.ndarray:
        """Return how well each key, of vectors (n, dim), names each type: (n, types), 0 to 1.

        0 is unrelated, 1 the same. `name` is the index of the key that holds the entity's name.
        """
        similar = (self._named(keys @ self._key_vectors.T) - _UNRELATED_KEY) / (
            _SAME_KEY - _UNRELATED_KEY
        )
        best = np.zeros((len(keys), len(self.types)), np.float32)
        np.maximum.at(best.T, self._key_owner, np.clip(similar, 0, 1).T)
        if name is not None:
            best[name, NAME] = 1.0
            best[name, self._name_will_do] = np.maximum(
                best[name, self._name_will_do], _NAME_WILL_DO
            )
        return best

    def names(self, scores: QuestionTypeScores) -> float:
        """Return the probability that a name answers."""
        return float(scores.weights[NAME] + scores.weights[self._name_will_do].sum())

    def asks_for_all(self, scores: QuestionTypeScores) -> bool:
        """Return whether all facts together answer the likeliest type."""
        return self.types[int(scores.weights.argmax())].all

    def answer_types(self, scores: QuestionTypeScores) -> dict[AnswerType, float]:
        """Return the probability of each type of answer."""
        return {t: float(mask @ scores.weights) for t, mask in self._of_type.items()}

    def dimensions(self, scores: QuestionTypeScores) -> dict[str, float]:
        """Return the probability of each dimension of a number ("" for none)."""
        weights: dict[str, float] = {}
        for question_type, weight in zip(self.types, scores.weights, strict=True):
            dimension = question_type.dimension
            weights[dimension] = weights.get(dimension, 0.0) + float(weight)
        return weights


class _Scale:
    """Standardizes cosines by the mean and deviation of unrelated pairs."""

    def __init__(self, similar: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        unrelated = similar[rows[:, None] != columns[None, :]]
        self.mean, self.deviation = float(unrelated.mean()), max(float(unrelated.std()), 1e-6)

    def __call__(self, cosines: np.ndarray) -> np.ndarray:
        return (cosines - self.mean) / self.deviation
