"""What a question is about: a bank of aspects (capital, price, taste ...), each with keys and ways
to ask for it.

A question is compared with every question of the bank by the encoder's text vectors; the likeliest
aspects then say under which keys its answer may stand ("Where was it grown?" -> origin, country).
Cosines are put on a scale of their own encoder, so that the same weights serve any encoder. Knows
no entry."""

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
"""The bank's first aspect: what a thing is called."""
_SHARPNESS = 2.4
"""Inverse temperature of the weights, in standard deviations of cosines between questions of
different aspects."""
_SPOKEN = 1.0
"""How much nearer, in standard deviations, an aspect comes whose key stands in the question."""
_NAME_WILL_DO = 0.6
_SAME, _STRANGE = 6.0, 1.5
"""Keys this many standard deviations alike mean the same, or have nothing in common."""


@dataclass(frozen=True)
class QuestionType:
    """One thing that can be asked: the keys it stands under, and questions for it."""

    keys: tuple[str, ...]
    answer: AnswerType
    questions: tuple[str, ...]
    opposite: tuple[str, ...] = ()
    """Questions whose yes is this aspect's no."""
    dimension: str = ""
    """Of a number: length, mass ... as in `quantities.py`."""
    all: bool = False
    """Whether everything that is known answers: tell me about it."""
    things: tuple[str, ...] = ()
    """What may stand for {thing} in a question of the same language."""

    name_will_do: bool = False
    """Whether the name answers where no key does: what kind of animal is this?"""

    def asked(self) -> list[str]:
        """The questions and the opposite ones, each {thing} filled in."""
        found = []
        for question in (*self.questions, *self.opposite):
            things = [t for t in self.things if is_chinese(t) == is_chinese(question)]
            found.extend(
                [question.format(thing=t) for t in things] if "{thing}" in question else [question]
            )
        return found


@dataclass(frozen=True)
class QuestionTypeScores:
    """What a question is about: the weight of each aspect (sums to 1), and the nearest question of
    the bank."""

    weights: np.ndarray
    nearest: str
    """The nearest of the likeliest aspect's."""
    closeness: float
    """How near the likeliest aspect is, in standard deviations of unrelated questions."""
    opposite: bool
    """Whether the nearest one asks for its aspect's opposite."""


def read_aspects(path: Path = BANK) -> tuple[QuestionType, ...]:
    """The bank that comes with the package."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple(from_mapping(QuestionType, row, str(path)) for row in rows)


def bank_hash(path: Path = BANK) -> str:
    """Names the bank's content, for caches."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


class QuestionTypeBank:
    """The aspects with their vectors. `encode`: texts to (n, dim) unit vectors."""

    def __init__(
        self, aspects: Sequence[QuestionType], encode: Callable[[Sequence[str]], np.ndarray]
    ) -> None:
        self.aspects = tuple(aspects)
        asked = [(i, q) for i, a in enumerate(aspects) for q in a.asked()]
        self.questions = tuple(q for _, q in asked)
        self.owner = np.array([i for i, _ in asked])
        self._opposite = np.array([q in aspects[i].opposite for i, q in asked])
        self._key_owner = np.array([i for i, a in enumerate(aspects) for _ in a.keys])
        self._key_words = [
            [words for key in a.keys if (words := content_words(key))] for a in aspects
        ]
        self._question_vectors = encode(self.questions)
        self._key_vectors = encode([key for a in aspects for key in a.keys])
        self._alike = _Scale(
            self._question_vectors @ self._question_vectors.T, self.owner, self.owner
        )
        self._named = _Scale(
            self._key_vectors @ self._key_vectors.T, self._key_owner, self._key_owner
        )
        self.asked = _Scale(
            self._question_vectors @ self._key_vectors.T, self.owner, self._key_owner
        )
        """Puts cosines between a question and a key, or a line, on the encoder's own scale."""
        self._name_will_do = np.array([a.name_will_do for a in aspects])
        self._of_type = {
            t: np.array([a.answer == t for a in aspects], np.float32) for t in ANSWER_TYPES
        }

    def about(
        self, wordings: np.ndarray, words: Set[str] = frozenset(), skip: np.ndarray | None = None
    ) -> QuestionTypeScores:
        """What a question is about, from the vectors (n, dim) of its wordings (the nearest counts)
        and its content words (an aspect whose key is among them comes nearer).

        `skip`: a mask of the bank's questions to leave out.
        """
        similar = self._alike(self._question_vectors @ wordings.T).max(axis=1)
        if skip is not None:
            similar = np.where(skip, -np.inf, similar)
        best = np.full(len(self.aspects), -np.inf)
        np.maximum.at(best, self.owner, similar)
        best += [_SPOKEN * any(key <= words for key in keys) for keys in self._key_words]
        weights = np.exp(_SHARPNESS * (best - best.max()))
        top = int(np.where(self.owner == best.argmax(), similar, -np.inf).argmax())
        return QuestionTypeScores(
            weights / weights.sum(),
            self.questions[top],
            float(best.max()),
            bool(self._opposite[top]),
        )

    def match(self, keys: np.ndarray, name: int | None = None) -> np.ndarray:
        """How well each key (vectors (n, dim)) names each aspect: (n, aspects), 0 (strange) to 1
        (the same). `name`: the place of the key that says what the thing is called."""
        similar = (self._named(keys @ self._key_vectors.T) - _STRANGE) / (_SAME - _STRANGE)
        best = np.zeros((len(keys), len(self.aspects)), np.float32)
        np.maximum.at(best.T, self._key_owner, np.clip(similar, 0, 1).T)
        if name is not None:
            best[name, NAME] = 1.0
            best[name, self._name_will_do] = np.maximum(
                best[name, self._name_will_do], _NAME_WILL_DO
            )
        return best

    def names(self, about: QuestionTypeScores) -> float:
        """How likely a name answers."""
        return float(about.weights[NAME] + about.weights[self._name_will_do].sum())

    def asks_for_all(self, about: QuestionTypeScores) -> bool:
        """Whether the likeliest aspect is one that everything known answers."""
        return self.aspects[int(about.weights.argmax())].all

    def types(self, about: QuestionTypeScores) -> dict[AnswerType, float]:
        """How likely each type of answer is."""
        return {t: float(mask @ about.weights) for t, mask in self._of_type.items()}

    def dimensions(self, about: QuestionTypeScores) -> dict[str, float]:
        """How likely each dimension of a number is ("" for none)."""
        found: dict[str, float] = {}
        for aspect, weight in zip(self.aspects, about.weights, strict=True):
            found[aspect.dimension] = found.get(aspect.dimension, 0.0) + float(weight)
        return found


class _Scale:
    """Cosines in standard deviations from the mean of pairs that have nothing to do with each
    other."""

    def __init__(self, similar: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
        strange = similar[rows[:, None] != columns[None, :]]
        self.mean, self.deviation = float(strange.mean()), max(float(strange.std()), 1e-6)

    def __call__(self, cosines: np.ndarray) -> np.ndarray:
        return (cosines - self.mean) / self.deviation
