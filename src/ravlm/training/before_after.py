"""Held-out examples before and after a training: what it gained, what it harmed, what it declines.

Each example is answered with the evidence of use and, if it is a question, without its right entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ravlm.generation.base import Generator, Request
from ravlm.generation.citation_marks import remove_citations
from ravlm.generation.verbs import generate_answers
from ravlm.metrics import cider, containment, token_f1
from ravlm.metrics.statistics import PairedScores
from ravlm.records import Answer, Hit, Score
from ravlm.training.grounded_examples import GroundedExample

_RESAMPLES = 2000
_MAX_EXTRA_WORDS = 12
"""A short answer that contains a right one is right with at most this many other words."""


@dataclass(frozen=True)
class AnswerPair:
    """The answers to an example."""

    with_entry: Answer
    without_entry: Answer | None
    """With the right entry taken out of the evidence; None for a caption."""


@dataclass(frozen=True)
class Change:
    """A metric before and after, on the same examples."""

    metric: str
    n: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    """95 % interval of the difference."""
    p: float
    gain: float
    """Fraction of the examples that are better after the training."""
    harm: float
    """Fraction that are worse."""


def held_out_answers(
    generator: Generator, examples: Sequence[GroundedExample], k: int
) -> list[AnswerPair]:
    """Return the generator's answers to the examples with k entries of evidence."""
    with_entry = generate_answers(generator, [_retrieved(example, k) for example in examples])
    questions = [example for example in examples if not example.is_caption]
    gone = iter(generate_answers(generator, [_without_entry(example, k) for example in questions]))
    return [
        AnswerPair(answer, None if example.is_caption else next(gone))
        for example, answer in zip(examples, with_entry, strict=True)
    ]


def compare_answers(
    examples: Sequence[GroundedExample], before: Sequence[AnswerPair], after: Sequence[AnswerPair]
) -> list[Change]:
    """Return how each metric changed; a metric without examples is left out."""
    changes = []
    scores_before, scores_after = _scores(examples, before), _scores(examples, after)
    for metric, score in scores_before.items():
        paired = PairedScores([score, scores_after[metric]], _RESAMPLES)
        change = paired.difference(0, 1)
        changes.append(
            Change(
                metric,
                change.n,
                score.value,
                scores_after[metric].value,
                change.difference,
                change.low,
                change.high,
                change.p,
                change.gain,
                change.harm,
            )
        )
    return changes


def table(changes: Sequence[Change]) -> list[str]:
    """Return a line for each change, for people."""
    if not changes:
        return []
    width = max(len(change.metric) for change in changes)
    lines = [
        f"{'held-out examples':{width}}  before  after  difference [95 %]        gain  harm     n"
    ]
    for c in changes:
        interval = f"{c.difference:+.3f} [{c.low:+.3f}, {c.high:+.3f}]"
        lines.append(
            f"{c.metric:{width}}  {c.before:6.3f} {c.after:6.3f}  {interval:22} "
            f"{c.gain:5.0%} {c.harm:5.0%} {c.n:5}"
        )
    return lines


def _scores(examples: Sequence[GroundedExample], pairs: Sequence[AnswerPair]) -> dict[str, Score]:
    """Return the scores by metric."""
    rows: dict[str, list[tuple[GroundedExample, AnswerPair]]] = {"ask": [], "chat": []}
    captions: list[tuple[GroundedExample, AnswerPair]] = []
    for example, pair in zip(examples, pairs, strict=True):
        rows.get(example.request.task, captions).append((example, pair))
    scores: dict[str, Score] = {}
    if questions := rows["ask"]:
        right = _accuracy(questions)
        cited = [is_right * _is_cited(*row) for is_right, row in zip(right, questions, strict=True)]
        scores["answers: right"] = _mean("right", right)
        scores["answers: right and cited"] = _mean("cited", cited)
    if talks := rows["chat"]:
        texts, references = _texts(talks)
        scores["replies: word F1"] = token_f1(texts, references)
        scores["replies: cited"] = _mean("cited", [_is_cited(*row) for row in talks])
    if both := [*rows["ask"], *talks]:
        scores["declined, entry there"] = _mean(
            "declined", [float(pair.with_entry.abstained) for _, pair in both]
        )
        scores["declined, entry gone"] = _mean(
            "declined",
            [
                float(pair.without_entry is not None and pair.without_entry.abstained)
                for _, pair in both
            ],
        )
    if captions:
        scores["captions: CIDEr"] = cider(*_texts(captions))
    return scores


def _accuracy(rows: Sequence[tuple[GroundedExample, AnswerPair]]) -> list[float]:
    texts, references = _texts(rows)
    contains = containment(texts, references, _MAX_EXTRA_WORDS).items
    return [
        value * (not pair.with_entry.abstained)
        for value, (_, pair) in zip(contains, rows, strict=True)
    ]


def _texts(
    rows: Sequence[tuple[GroundedExample, AnswerPair]],
) -> tuple[list[str], list[list[str]]]:
    """Return the answers with the entry, and the right ones, both without marks."""
    texts = [remove_citations(pair.with_entry.text) for _, pair in rows]
    references = [
        [remove_citations(answer) for answer in example.example.answers] for example, _ in rows
    ]
    return texts, references


def _is_cited(example: GroundedExample, pair: AnswerPair) -> float:
    right_ids = {hit.entry.id for hit in example.right}
    return float(bool(right_ids & set(pair.with_entry.citations)))


def _mean(name: str, items: Sequence[float]) -> Score:
    return Score(float(np.mean(items)), tuple(map(float, items)), name)


def _retrieved(example: GroundedExample, k: int) -> Request:
    """Return the request with the first k hits of use, and distractors behind them; the right entry
    is among them."""
    hits = list(example.request.evidence.hits[:k])
    for right in example.right[::-1]:
        if all(hit.entry.id != right.entry.id for hit in hits):
            hits = [right, *hits][:k]
    return _filled(example, hits, k)


def _without_entry(example: GroundedExample, k: int) -> Request:
    return _filled(example, [], k)


def _filled(example: GroundedExample, hits: Sequence[Hit], k: int) -> Request:
    known = {hit.entry.id for hit in hits}
    others = [hit for hit in example.others if hit.entry.id not in known]
    return example.with_hits([*hits, *others[: max(0, k - len(hits))]])
