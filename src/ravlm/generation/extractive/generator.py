"""The generator that invents nothing: it answers with words of the evidence, and says which entry
they stand in.

A question is read in the facts of each entity found; equal answers of several entities add up.
Captions are the evidence's consensus, stories are woven by `weaving.py`. Without evidence it knows
nothing and says so."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ravlm import runtime
from ravlm.data.facts import Fact, entity_name, read_facts
from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.data.text import is_chinese
from ravlm.encoders.base import Encoder
from ravlm.files import atomic_write
from ravlm.generation.base import Generator, Request, abstain
from ravlm.generation.consensus_caption import consensus
from ravlm.generation.extractive.answer_text import phrase, same
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.question_types import (
    QuestionTypeBank,
    QuestionTypeScores,
    bank_hash,
    read_aspects,
)
from ravlm.generation.extractive.questions import Question, understand
from ravlm.generation.extractive.reader import Reader, read_weights
from ravlm.generation.extractive.story import write_story
from ravlm.records import Answer, Hit

_LEAST_WEIGHT = 0.03
"""Evidence less likely than this is not read."""
_MOST_CITATIONS = 3
_ALIKE = 0.75
"""The cosine above which two sentences say the same."""
_FOREIGN = 0.8
"""What a fact in another language than the question's weighs beside one in the same."""
_RIGHT = (0.65, 2.35, 0.38, 0.09)
"""Weights of what `how_likely_right` is told, and bias: fitted by `benchmarks/answers.py`."""
_SAID = 0.75
"""The share of a question's words in a fact that makes the fact what is asked about."""


@dataclass(frozen=True)
class Candidate:
    """An answer read in one hit."""

    text: str
    fact: Fact
    hit: Hit
    weight: float


class ExtractiveGenerator(Generator):
    """Answers in the evidence's own words. `encoder` compares questions with facts."""

    name = "extractive"

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._vectors = EmbeddingCache(encoder)
        self._reader: Reader | None = None

    @property
    def reader(self) -> Reader:
        """Made on first use: the bank of aspects is encoded once for an encoder and kept in the
        user's cache."""
        if self._reader is None:
            self._reader = Reader(self._vectors, _bank(self._vectors), read_weights())
        return self._reader

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """An answer for each request, in order."""
        asked = [
            request
            for request in requests
            if request.task in ("ask", "chat") and request.evidence.hits
        ]
        if len(asked) > 1:
            questions = [self._question(request) for request in asked]
            self._vectors(
                [words for q in questions for words in (q.text, q.plain)]
            )  # together; each finds its own
        return [self._generate(request) for request in requests]

    def _generate(self, request: Request) -> Answer:
        if not request.evidence.hits:
            return abstain(request, "there is no evidence")
        if request.task == "caption":
            return self._caption(request)
        if request.task == "tell":
            return write_story(request, self._vectors)
        began = time.perf_counter()
        question = self._question(request)
        about = self.reader.about(question)
        if self.reader.bank.asks_for_all(about):
            return write_story(request, self._vectors)
        answer = self._answer(request, question, about)
        seconds = {**answer.trace.get("seconds", {}), "read": round(time.perf_counter() - began, 4)}
        return replace(answer, trace={**answer.trace, "seconds": seconds})

    def _answer(self, request: Request, question: Question, about: QuestionTypeScores) -> Answer:
        evidence = request.evidence
        trace = {**evidence.trace, "question": question.english, "read as": about.nearest}
        candidates = []
        for hit, weight in zip(evidence.hits, evidence.weights, strict=True):
            if weight >= _LEAST_WEIGHT:
                found = self._read(question, about, hit, request)
                if found is not None:
                    candidates.append(replace(found, weight=found.weight * weight))
        if not candidates:
            return abstain(
                replace(request, evidence=replace(evidence, trace=trace)),
                "no line answers the question",
            )
        agree = self._agreement(candidates)
        weights = np.array([candidate.weight for candidate in candidates])
        place = int((agree @ weights + 1e-6 * weights).argmax())  # of equal ones the likelier
        best = candidates[place]
        others = sorted(np.flatnonzero(agree[place]).tolist(), key=lambda i: -weights[i])
        agreeing = [best, *(candidates[i] for i in others if i != place)]
        cited = list(dict.fromkeys(c.hit.entry.id for c in agreeing))[:_MOST_CITATIONS]
        agreed = sum(c.weight for c in agreeing)
        given = evidence.support, agreed / weights.sum(), weights.sum()
        trace |= {
            n: round(float(v), 4)
            for n, v in zip(("known", "agreement", "read well"), given, strict=True)
        }
        trace["line"] = agreeing[0].fact.line
        confidence = how_likely_right(*given)
        return Answer(best.text, evidence.hits, tuple(cited), round(confidence, 4), False, trace)

    def _agreement(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """Which answers say the same, (n, n) of 0 and 1: equal words, or sentences of nearly one
        meaning."""
        rows = self._vectors([candidate.text for candidate in candidates])
        sentence = np.array([not candidate.fact.key for candidate in candidates])
        alike = (rows @ rows.T > _ALIKE) & sentence[:, None] & sentence[None, :]
        equal = np.array(
            [[same(one.text, other.text) for other in candidates] for one in candidates]
        )
        return (alike | equal).astype(np.float64)

    def _question(self, request: Request) -> Question:
        """The question with the name in it, by which the evidence was found, as "it"."""
        text = request.text
        subject = request.evidence.subject
        if subject and not is_chinese(subject):
            place = text.casefold().find(subject.casefold())
            if place >= 0:
                text = f"{text[:place]}it{text[place + len(subject) :]}"
        return understand(text, self.reader.units, self.encoder.gloss(text))

    def _read(
        self, question: Question, about: QuestionTypeScores, hit: Hit, request: Request
    ) -> Candidate | None:
        """The answer in one hit's facts: those in the question's language first."""
        facts = read_facts(hit.entry)
        own = [fact for fact in facts if is_chinese(fact.line) == question.chinese]
        if request.evidence.trace.get("retrieved by") == "words" and (
            said := self._said(question, hit, facts)
        ):
            return said
        for some in (own, facts) if own and len(own) < len(facts) else (facts,):
            found = self.reader.read(question, some, about)
            if found.fact is not None:
                text = phrase(question, found.fact, about, self.reader)
                weight = found.probability
                if is_chinese(found.fact.line) != question.chinese:
                    weight *= _FOREIGN
                return Candidate(text, found.fact, hit, weight) if text else None
        return None

    def _said(self, question: Question, hit: Hit, facts: Sequence[Fact]) -> Candidate | None:
        """Where the question's words stand in a value or sentence: what it is about is known, and
        the thing is asked for ("Which fruit comes from Peru?")."""
        words = content_words(question.english) | content_words(question.text)
        fact = max(facts, key=lambda f: overlap(words, content_words(f.value)), default=None)
        if (
            fact is None
            or overlap(words, content_words(fact.value)) < _SAID
            or question.form != "open"
        ):
            return None
        name = entity_name(hit.entry)
        return Candidate(name or fact.value, fact, hit, 0.8)

    def _caption(self, request: Request) -> Answer:
        text, cited, agreement = consensus(request.evidence, request.chinese)
        if not text:
            return abstain(request, "the evidence has no text")
        return Answer(
            text,
            request.evidence.hits,
            cited,
            round(agreement, 4),
            False,
            dict(request.evidence.trace),
        )


def how_likely_right(known: float, agreement: float, read_well: float) -> float:
    """The confidence of an answer: how likely it is right.

    `known`: how likely what is asked about is in the evidence; `agreement`: of all the weight that
    answers have, the share of those that say the same; `read_well`: all that weight, 1 where every
    line read answers for sure."""
    score = sum(
        w * x
        for w, x in zip(_RIGHT, (*right_features(known, agreement, read_well), 1.0), strict=True)
    )
    return 1 / (1 + math.exp(-score))


def right_features(known: float, agreement: float, read_well: float) -> list[float]:
    """What the weights of `how_likely_right` are for, but the bias."""
    known = min(max(known, 1e-3), 1 - 1e-3)
    return [math.log(known / (1 - known)), agreement, math.log(min(max(read_well, 1e-3), 1.0))]


def _bank(vectors: EmbeddingCache) -> QuestionTypeBank:
    """The bank of aspects for an encoder, its vectors from the user's cache where they are."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file, save_file

    encoder = vectors.encoder
    path = runtime.cache_folder() / f"aspects-{bank_hash()}-{encoder.fingerprint[:16]}.safetensors"
    aspects = read_aspects()
    texts = sorted({text for aspect in aspects for text in (*aspect.asked(), *aspect.keys)})
    try:
        rows = load_file(path)["vectors"]
    except (OSError, SafetensorError):
        rows = encoder.encode_texts(texts)
        try:
            with atomic_write(path) as aside:
                save_file({"vectors": np.ascontiguousarray(rows)}, aside)
        except OSError:
            pass  # a cache that can't be written is no reason to fail
    place = {text: i for i, text in enumerate(texts)}
    return QuestionTypeBank(aspects, lambda wanted: rows[[place[text] for text in wanted]])
