"""Answer a question from prose: read every passage of the evidence and choose the best span.

The confidence is the probability that the chosen span is right. It decides whether to answer at
all, so one threshold holds for all passages together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ravlm.data.facts import split_list
from ravlm.data.text import is_chinese
from ravlm.generation.base import Request
from ravlm.generation.extractive.passages import Passage, passages_of
from ravlm.generation.extractive.questions import Question
from ravlm.generation.extractive.sentence_match import SentenceMatch
from ravlm.generation.extractive.span_reader import Span, SpanReader, trim_span
from ravlm.generation.extractive.yes_no import yes_no_answer
from ravlm.records import Answer

_WEIGHT_FACTOR = 0.6
_MATCH_FACTOR = 8.0
"""Factor of `SentenceMatch` in the score that ranks spans, chosen on one half of the dev questions
and of those of `benchmarks/documents.py`."""
_CONFIDENCE_WEIGHTS = {False: (0.345, 0.22, 0.075, -1.969), True: (0.164, 1.054, 0.063, -0.055)}
"""Weights of `confidence_features` and the bias, for English and (True) Chinese passages: fitted by
`python -m benchmarks.reading --fit` on one half of the dev questions."""
MIN_CONFIDENCE = 0.08
"""Abstain below: it declines about one in ten of the answerable questions of that half."""
_NUM_SPANS = 20
"""Spans of each passage, and of all passages, that the answer is chosen from."""
_SHARPNESS = {False: 1.5, True: 0.3}
"""See `most_agreeing`, for English and (True) Chinese: answers in Chinese are often whole clauses
with unsure borders. Chosen on one half of the dev questions."""
_MAX_SCORE = 15.0


@dataclass(frozen=True)
class SpanCandidate:
    """A span that may be the answer."""

    span: Span
    passage: Passage
    total: float
    """Score that ranks spans of different passages."""
    match: float = 0.0
    """Share of the question's words in its sentence, see `SentenceMatch`."""


def read_candidates(
    reader: SpanReader, question: str, passages: Sequence[Passage]
) -> list[SpanCandidate]:
    """Return the best spans of all passages, which do not overlap, best first."""
    texts = [passage.part.text for passage in passages]
    match = SentenceMatch(question, texts)
    candidates = [
        _candidate(span, passages[number], match(number, span.start, span.end))
        for number, best in enumerate(reader.read(question, texts, _NUM_SPANS))
        for span in best
        if not _is_key(texts[number], span) and passages[number].is_certain(span.start, span.end)
    ]
    if not candidates:
        return []
    candidates.sort(key=lambda candidate: -candidate.total)
    best_candidate = most_agreeing(candidates[:_NUM_SPANS], _SHARPNESS[is_chinese(question)])
    selected = _without_overlap([best_candidate, *candidates])
    return [replace(candidate, span=trimmed(candidate)) for candidate in selected]


def _candidate(span: Span, passage: Passage, match: float) -> SpanCandidate:
    total = span.score + _WEIGHT_FACTOR * _log(passage.weight) + _MATCH_FACTOR * match
    return SpanCandidate(span, passage, total, match)


def trimmed(candidate: SpanCandidate) -> Span:
    """Return the span of a candidate without punctuation at its borders."""
    span, text = candidate.span, candidate.passage.part.text
    start, end = trim_span(text, span.start, span.end)
    return replace(span, text=text[start:end], start=start, end=end) if start < end else span


def most_agreeing(candidates: Sequence[SpanCandidate], sharpness: float) -> SpanCandidate:
    """Return the candidate with the highest expected overlap with the right one.

    Where the borders are unsure, the middle of the likely spans is better than the likeliest
    (minimum Bayes risk). `sharpness` multiplies the scores before they become probabilities.
    """
    totals = np.array([candidate.total for candidate in candidates])
    probabilities = np.exp(sharpness * (totals - totals.max()))
    expected = [
        sum(p * _shared(one, other) for p, other in zip(probabilities, candidates, strict=True))
        for one in candidates
    ]
    return candidates[int(np.argmax(expected))]


def _shared(one: SpanCandidate, other: SpanCandidate) -> float:
    """Return the F1 of the characters that two spans share."""
    if one.passage is not other.passage:
        return 0.0
    a, b = one.span, other.span
    both = max(0, min(a.end, b.end) - max(a.start, b.start))
    return 2 * both / (a.end - a.start + b.end - b.start)


def _without_overlap(candidates: Sequence[SpanCandidate]) -> list[SpanCandidate]:
    """Return the candidates that do not overlap an earlier one."""
    selected: list[SpanCandidate] = []
    for candidate in candidates:
        if not any(_shared(candidate, earlier) for earlier in selected):
            selected.append(candidate)
    return selected


def answer_from_passages(reader: SpanReader, request: Request, question: Question) -> Answer | None:
    """Return the answer, or None if no span is likely enough to be right."""
    subject = request.evidence.subject.casefold()
    candidates = [
        candidate
        for candidate in read_candidates(reader, request.text, passages_of(request))
        if candidate.span.text.strip().casefold() != subject
    ]
    if not candidates:
        return None
    best = candidates[0]
    confidence = answer_probability(candidates)
    if confidence < MIN_CONFIDENCE:
        return None
    trace = {
        **request.evidence.trace,
        "read by": "span reader",
        "span score": round(best.span.score, 4),
        "passage weight": round(best.passage.weight, 4),
    }
    source = best.passage.source(best.span.start, best.span.end)
    return Answer(
        text=_phrase(question, best),
        evidence=request.evidence.hits,
        citations=(source.entry_id,),
        sources=(source,),
        confidence=round(confidence, 4),
        trace=trace,
    )


def answer_probability(candidates: Sequence[SpanCandidate]) -> float:
    """Return the probability that the first candidate is right."""
    weights = _CONFIDENCE_WEIGHTS[is_chinese(candidates[0].passage.part.text)]
    features = (*confidence_features(candidates), 1.0)
    logit = sum(w * x for w, x in zip(weights, features, strict=True))
    return 1 / (1 + math.exp(-logit))


def confidence_features(candidates: Sequence[SpanCandidate]) -> list[float]:
    """Return span score, log weight of the passage, and lead over the next other answer."""
    best = candidates[0]
    rivals = [c.total for c in candidates[1:] if not _same_answer(c.span.text, best.span.text)]
    lead = best.total - max(rivals, default=best.total - _MAX_SCORE)
    return [
        min(max(best.span.score, -_MAX_SCORE), _MAX_SCORE),
        _log(best.passage.weight),
        min(lead, _MAX_SCORE),
    ]


def _is_key(text: str, span: Span) -> bool:
    """Return whether a span is the key of a `key: value` line."""
    line_start = text.rfind("\n", 0, span.start) + 1
    is_first = not text[line_start : span.start].strip()
    return is_first and text[span.end :].lstrip(" ").startswith((":", "："))


def _phrase(question: Question, candidate: SpanCandidate) -> str:
    """Return the span, or a yes or no with it."""
    span = candidate.span.text.strip()
    if question.counts and not any(character.isdigit() for character in span):
        items = split_list(span)
        return str(len(items)) if len(items) > 1 else span
    if question.form != "yes/no":
        return span
    return yes_no_answer(question, candidate.span, candidate.passage.part.text)


def _same_answer(answer: str, second: str) -> bool:
    first_words, second_words = answer.casefold().split(), second.casefold().split()
    return first_words == second_words or answer in second or second in answer


def _log(weight: float) -> float:
    return math.log(max(weight, 1e-3))
