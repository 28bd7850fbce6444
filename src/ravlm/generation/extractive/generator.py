"""The extractive generator: it answers in the evidence's own words and cites the entries.

A question is read against the facts of each retrieved entity; equal answers of several entities add
up. Captions are the consensus of the evidence, stories are written from it. Without evidence it
abstains."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ravlm.data.facts import Fact, entity_name, read_facts
from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.data.text import is_chinese
from ravlm.encoders.base import Encoder
from ravlm.encoders.vector_cache import cached_arrays
from ravlm.generation.base import Generator, Request, abstain, cited_parts
from ravlm.generation.caption_judge import decline_unlike, judged_caption
from ravlm.generation.consensus_caption import ConsensusCaption, caption_sentences, consensus
from ravlm.generation.extractive.answer_text import phrase_answer, same_answer
from ravlm.generation.extractive.chat_commands import request_of_command
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.line_reader import answer_from_lines, page_title
from ravlm.generation.extractive.passage_reader import answer_from_passages
from ravlm.generation.extractive.passages import passages_of
from ravlm.generation.extractive.question_types import (
    QuestionTypeBank,
    QuestionTypeScores,
    bank_hash,
    read_question_types,
)
from ravlm.generation.extractive.questions import Question, parse_question
from ravlm.generation.extractive.reader import FactReader, read_weights
from ravlm.generation.extractive.span_reader import SpanReader
from ravlm.generation.extractive.story import write_story
from ravlm.generation.extractive.written_text import written_text
from ravlm.records import Answer, Hit

_MIN_WEIGHT = 0.03
"""Evidence of lower weight is not read."""
_MAX_CITATIONS = 3
_SAME_MEANING = 0.75
"""Sentences of at least this cosine say the same."""
_ASKS_FOR_NAME = 0.5
"""From this probability on, the title of a page answers what it is."""
_SAME_ENTITY = 0.5
"""From this weight on a caption is about the first entity alone."""
_OTHER_LANGUAGE_WEIGHT = 0.8
"""Weight of a fact in another language than the question's."""
_CONFIDENCE_WEIGHTS = (0.65, 2.35, 0.38, 0.09)
"""Weights of `confidence_features`, and the bias: fitted by `benchmarks/answers.py`."""
_STATED_OVERLAP = 0.75
"""A fact with this share of the question's words states what the question describes."""
_STATED_WEIGHT = 0.8


@dataclass(frozen=True)
class CandidateAnswer:
    """An answer read from one hit."""

    text: str
    fact: Fact
    hit: Hit
    weight: float


class ExtractiveGenerator(Generator):
    """Answers in the evidence's own words. `encoder` compares questions with facts.

    `key: value` facts are read by `FactReader`, prose by `SpanReader`.
    """

    name = "extractive"

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._vectors = EmbeddingCache(encoder.short_text_encoder)
        self._reader: FactReader | None = None
        self._span_reader = SpanReader() if SpanReader.is_available() else None

    @property
    def reads_passages(self) -> bool:  # type: ignore[override]
        """Whether the span reader and its packages are installed."""
        return self._span_reader is not None

    @property
    def reader(self) -> FactReader:
        """The reader, built on first use.

        Its question types are encoded once per encoder and stored in the user's cache folder.
        """
        if self._reader is None:
            bank = _load_bank(self._vectors)
            self._reader = FactReader(self._vectors, bank, read_weights())
        return self._reader

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        """Return an answer for each request, in order."""
        questions = [
            self._question(request)
            for request in requests
            if request.task in ("ask", "chat") and request.evidence.hits
        ]
        if len(questions) > 1:  # encode all together; each then finds its own in the cache
            self._vectors([text for q in questions for text in (q.text, q.plain)])
        return [self._generate(request) for request in requests]

    def _generate(self, request: Request) -> Answer:
        request = request_of_command(request)
        if not request.evidence.hits:
            return abstain(request, "there is no evidence")
        if request.task == "caption":
            return self._caption(request)
        if request.task == "tell":
            return decline_unlike(request) or write_story(request, self._vectors)
        start = time.perf_counter()
        question = self._question(request)
        if not request.evidence.linked:
            answer = self._read_passages(request, question)
            answer = answer or abstain(request, "no passage answers the question")
        else:
            types = self.reader.question_types(question)
            if question.form == "open" and self.reader.bank.asks_for_all(types):
                return write_story(request, self._vectors)
            answer = self._answer_linked(request, question, types)
        seconds = {**answer.trace.get("seconds", {}), "read": round(time.perf_counter() - start, 4)}
        return replace(answer, trace={**answer.trace, "seconds": seconds})

    def _answer_linked(
        self, request: Request, question: Question, types: QuestionTypeScores
    ) -> Answer:
        """Read the span first where a text led to the evidence, and the facts otherwise.

        Facts in Chinese are left to the span reader alone: their keys are matched by glosses, which
        once took a thing's own name for the answer.
        """
        if request.image is not None or self._span_reader is None:
            page_answer = self._read_page(request, question, types)
            return page_answer or self._answer(request, question, types)
        answer = self._read_passages(request, question)
        if answer is not None:
            return answer
        if request.chinese and any(is_chinese(p.part.text) for p in passages_of(request)):
            return abstain(request, "no passage answers the question")
        return self._answer(request, question, types)

    def _answer(self, request: Request, question: Question, types: QuestionTypeScores) -> Answer:
        evidence = request.evidence
        trace = {**evidence.trace, "question": question.english, "read as": types.nearest}
        candidates = self._candidates(request, question, types)
        if not candidates:
            traced = replace(request, evidence=replace(evidence, trace=trace))
            # Without an image, the span reader has read the evidence before.
            answer = self._read_passages(request, question) if request.image is not None else None
            return answer or abstain(traced, "no line answers the question")

        agreement = self._agreement(candidates)  # (n, n)
        weights = np.array([candidate.weight for candidate in candidates])
        # Of equal totals, the likelier candidate.
        index = int((agreement @ weights + 1e-6 * weights).argmax())
        agreeing = sorted(np.flatnonzero(agreement[index]).tolist(), key=lambda i: -weights[i])
        supporting = [candidates[i] for i in [index, *(i for i in agreeing if i != index)]]
        citations = list(dict.fromkeys(c.hit.entry.id for c in supporting))[:_MAX_CITATIONS]
        quotes = {c.hit.entry.id: c.fact.value for c in reversed(supporting)}

        total = float(weights.sum())
        share = sum(candidate.weight for candidate in supporting) / total
        trace["support"] = round(float(evidence.support), 4)
        trace["agreement"] = round(float(share), 4)
        trace["read weight"] = round(total, 4)
        trace["line"] = supporting[0].fact.line
        return Answer(
            text=supporting[0].text,
            evidence=evidence.hits,
            citations=tuple(citations),
            sources=cited_parts(citations, evidence.hits, quotes),
            confidence=round(answer_confidence(evidence.support, share, total), 4),
            trace=trace,
        )

    def _read_passages(self, request: Request, question: Question) -> Answer | None:
        """Answer from lines of pages that have a form, else from prose."""
        answer = answer_from_lines(request) if _asks_for_value(question) else None
        if answer is not None or self._span_reader is None:
            return answer
        return answer_from_passages(self._span_reader, request, question)

    def _read_page(
        self, request: Request, question: Question, types: QuestionTypeScores
    ) -> Answer | None:
        """Answer from the title and the lines of the page or label that an image shows.

        To the reader of facts, a row of a table is one fact: all of its cells would be the answer.
        """
        evidence = request.evidence
        entry = evidence.hits[0].entry
        if request.image is None or entry.texts or not entry.regions:
            return None
        shown = _first_hit_alone(request)
        answer = written_text(shown)
        if answer is None and self.reader.bank.names(types) >= _ASKS_FOR_NAME:
            answer = page_title(shown)
        elif answer is None and _asks_for_value(question):
            answer = answer_from_lines(shown)
        if answer is None:
            return None
        confidence = round(min(answer.confidence, evidence.support), 4)
        return replace(answer, evidence=evidence.hits, confidence=confidence)

    def _candidates(
        self, request: Request, question: Question, types: QuestionTypeScores
    ) -> list[CandidateAnswer]:
        """Read an answer from each hit that is likely enough."""
        evidence = request.evidence
        candidates = []
        for hit, weight in zip(evidence.hits, evidence.weights, strict=True):
            if weight < _MIN_WEIGHT:
                continue
            candidate = self._read(question, types, hit, request)
            if candidate is not None:
                candidates.append(replace(candidate, weight=candidate.weight * weight))
        return candidates

    def _agreement(self, candidates: Sequence[CandidateAnswer]) -> np.ndarray:
        """Return which answers say the same, (n, n) of 0 and 1.

        They have equal words, or are sentences of nearly the same meaning.
        """
        rows = self._vectors([candidate.text for candidate in candidates])
        is_sentence = np.array([not candidate.fact.key for candidate in candidates])
        similar = (rows @ rows.T > _SAME_MEANING) & is_sentence[:, None] & is_sentence[None, :]
        equal = np.array([[same_answer(a.text, b.text) for b in candidates] for a in candidates])
        return (similar | equal).astype(np.float64)

    def _question(self, request: Request) -> Question:
        """Parse the question; the name that led to the evidence is replaced by "it"."""
        text = request.text
        subject = request.evidence.subject
        if subject and not is_chinese(subject):
            start = text.casefold().find(subject.casefold())
            if start >= 0:
                text = f"{text[:start]}it{text[start + len(subject) :]}"
        return parse_question(text, self.reader.units, self.encoder.gloss(text))

    def _read(
        self, question: Question, types: QuestionTypeScores, hit: Hit, request: Request
    ) -> CandidateAnswer | None:
        """Read the answer from one hit's facts, first from those in the question's language."""
        facts = read_facts(hit.entry)
        if request.evidence.trace.get("retrieved by") == "words":
            candidate = self._described_entity(question, hit, facts)
            if candidate is not None:
                return candidate
        same_language = [fact for fact in facts if is_chinese(fact.line) == question.chinese]
        groups = (same_language, facts) if 0 < len(same_language) < len(facts) else (facts,)
        for group in groups:
            reading = self.reader.read(question, group, types)
            if reading.fact is not None:
                text = phrase_answer(question, reading.fact, types, self.reader)
                weight = reading.probability
                if is_chinese(reading.fact.line) != question.chinese:
                    weight *= _OTHER_LANGUAGE_WEIGHT
                return CandidateAnswer(text, reading.fact, hit, weight) if text else None
        return None

    def _described_entity(
        self, question: Question, hit: Hit, facts: Sequence[Fact]
    ) -> CandidateAnswer | None:
        """Return the entity whose fact the question describes: "Which fruit comes from Peru?"."""
        words = content_words(question.english) | content_words(question.text)
        fact = max(facts, key=lambda f: overlap(words, content_words(f.value)), default=None)
        if fact is None or question.form != "open":
            return None
        if overlap(words, content_words(fact.value)) < _STATED_OVERLAP:
            return None
        return CandidateAnswer(entity_name(hit.entry) or fact.value, fact, hit, _STATED_WEIGHT)

    def _caption(self, request: Request) -> Answer:
        caption = self._entity_caption(request) or consensus(request.evidence, request.chinese)
        if not caption.text:
            return abstain(request, "the evidence has no text")
        answer = Answer(
            text=caption.text,
            evidence=request.evidence.hits,
            citations=caption.citations,
            sources=cited_parts(caption.citations, request.evidence.hits),
            trace={**request.evidence.trace, "agreement": round(caption.agreement, 4)},
        )
        return judged_caption(request, answer)

    def _entity_caption(self, request: Request) -> ConsensusCaption | None:
        """Return the sentence of the recognized entity that is most similar to the image, or the
        title of a page.

        Texts of other entities say nothing about which of its sentences describe its appearance.
        Return None if no entity with a name was recognized for sure, or if it has no choice of
        sentences. The captions of a photo without a name are all about its looks: there agreement
        chose better (CIDEr 30.4 instead of 29.7, 200 photos of Flickr8k, seven of them changed).
        """
        evidence = request.evidence
        if request.image is None or not evidence.recognized or evidence.weights[0] < _SAME_ENTITY:
            return None
        entry = evidence.hits[0].entry
        if entry.regions and not entry.texts:
            title = page_title(_first_hit_alone(request))
            if title is None:
                return None
            return ConsensusCaption(title.text, title.citations, evidence.weights[0])
        if not entity_name(entry):
            return None
        sentences = caption_sentences(evidence.hits[0], request.chinese)
        if len(sentences) < 2:
            return None
        image = self.encoder.encode_images([request.image], role="query")[0]  # (dim,)
        best = int((self.encoder.encode_texts(sentences) @ image).argmax())
        return ConsensusCaption(sentences[best], (entry.id,), evidence.weights[0])


def _asks_for_value(question: Question) -> bool:
    """Return whether a value of a line can answer a question: not yes, no or a number of lines."""
    return question.form != "yes/no" and not question.counts


def _first_hit_alone(request: Request) -> Request:
    """Return a request with the first of its hits as the only evidence."""
    evidence = request.evidence
    shown = replace(evidence, hits=evidence.hits[:1], weights=evidence.weights[:1])
    return replace(request, evidence=shown)


def answer_confidence(support: float, agreement: float, read_weight: float) -> float:
    """Return the probability that an answer is right.

    `support`: probability that the subject is in the base; `agreement`: share of the candidates'
    weight that says the same; `read_weight`: their whole weight, 1 if every line that was read
    answers for sure.
    """
    features = (*confidence_features(support, agreement, read_weight), 1.0)
    score = sum(w * x for w, x in zip(_CONFIDENCE_WEIGHTS, features, strict=True))
    return 1 / (1 + math.exp(-score))


def confidence_features(support: float, agreement: float, read_weight: float) -> list[float]:
    """Return the features of `answer_confidence`, without the bias."""
    support = min(max(support, 1e-3), 1 - 1e-3)
    log_weight = math.log(min(max(read_weight, 1e-3), 1.0))
    return [math.log(support / (1 - support)), agreement, log_weight]


def _load_bank(vectors: EmbeddingCache) -> QuestionTypeBank:
    """Return the question types with their vectors, from the user's cache if they are there."""
    encoder = vectors.encoder
    question_types = read_question_types()
    texts = sorted({text for t in question_types for text in (*t.all_questions(), *t.keys)})
    rows = cached_arrays(
        f"aspects-{bank_hash()}-{encoder.fingerprint[:16]}",
        lambda: {"vectors": encoder.encode_texts(texts)},
    )["vectors"]
    row_of = {text: row for row, text in enumerate(texts)}
    return QuestionTypeBank(question_types, lambda batch: rows[[row_of[text] for text in batch]])
