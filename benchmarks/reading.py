"""Read answers in prose, given the passage and end to end, in English and Chinese.

    python -m benchmarks.reading --data ../shared/data --work runs/reading [--fit] [--json FILE]

`--data`: a folder with squad and cmrc2018. A base of all passages of each is built in `--work`
(resumable). Questions are those of the dev articles: the odd ones are for choosing, the even ones
are reported. `--fit` fits the weights of the confidence on the odd ones and prints them; where all
questions have an answer, half of them are read again without the right passage. English is
scored by words, Chinese by characters, as the data sets' own scorers do.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.data import DATA, read_lines
from benchmarks.reports import write_json
from ravlm import DualEncoder, Entry, KnowledgeBase
from ravlm.data.text import is_chinese, split_sentences
from ravlm.generation.base import Request
from ravlm.generation.extractive.passage_reader import (
    SpanCandidate,
    answer_probability,
    confidence_features,
    read_candidates,
)
from ravlm.generation.extractive.passages import Passage, passages_of
from ravlm.generation.extractive.span_reader import READER, SpanReader
from ravlm.metrics import expected_calibration_error
from ravlm.records import Hit, Part
from ravlm.retrieval.query import RetrievalQuery
from ravlm.retrieval.retriever import Retriever

SETS = ("squad", "cmrc2018")
DECLINED_ANSWERABLE = 0.15
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


@dataclass(frozen=True)
class Question:
    """A question of a data set."""

    text: str
    passage: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """Figures of one data set, 0 to 1."""

    name: str
    num_answerable: int
    f1_given_passage: float
    f1: float
    exact: float
    contains: float
    sentence: float
    """The sentence of the span has the answer."""
    passage_found: float
    """The right passage is among those that are read."""
    num_unanswerable: int
    unanswerable_declined: float | None
    """At a threshold that declines 15 % of the answerable; None if all questions have an answer."""
    ece: float


def read_questions(folder: Path, split: str = "dev") -> list[Question]:
    """Read the questions of a split; those without an answer have no `answers`."""
    questions = []
    for row in read_lines(folder / "qa.jsonl"):
        if row["split"] == split:
            answers = tuple(row["answers"]) if row["answerable"] else ()
            questions.append(Question(row["question"], row["passage"], answers))
    return questions


def read_passages(folder: Path) -> dict[str, str]:
    """Read all passages by id."""
    return {row["id"]: row["text"] for row in read_lines(folder / "passages.jsonl")}


def tokens_of(text: str) -> list[str]:
    """Return words without articles, or Chinese characters."""
    if is_chinese(text):
        return list(re.sub(r"\W", "", text))
    return _ARTICLES.sub(" ", re.sub(r"[^\w\s]", "", text.lower())).split()


def token_f1(answer: str, references: Sequence[str]) -> float:
    """Return the best F1 of the tokens with a reference."""
    best = 0.0
    answer_tokens = tokens_of(answer)
    for reference in references:
        reference_tokens = tokens_of(reference)
        shared = sum((Counter(answer_tokens) & Counter(reference_tokens)).values())
        if shared:
            best = max(best, 2 * shared / (len(answer_tokens) + len(reference_tokens)))
    return best


def sentence_of(candidate: SpanCandidate) -> str:
    """Return the sentence that a span starts in."""
    text, position = candidate.passage.part.text, 0
    for sentence in split_sentences(text):
        start = text.find(sentence, position)
        position = start + len(sentence) if start >= 0 else position
        if candidate.span.start < position:
            return sentence
    return text


def retrieve(retriever: Retriever, questions: Sequence[Question], k: int) -> list[list[Passage]]:
    """Return the passages that are read for each question."""
    queries = [RetrievalQuery(question.text) for question in questions]
    evidence = retriever.retrieve(queries, k)
    return [
        passages_of(Request("ask", q.text, evidence=e, chinese=is_chinese(q.text)))
        for q, e in zip(questions, evidence, strict=True)
    ]


def measure(
    name: str,
    questions: Sequence[Question],
    candidates: Sequence[Sequence[SpanCandidate]],
    given: Sequence[float],
) -> Reading:
    """Return the figures of questions whose candidates have been read."""
    rows = list(zip(questions, candidates, strict=True))
    answerable = [(q, c) for q, c in rows if q.answers and c]
    best = [(q, c[0]) for q, c in answerable]
    f1 = np.array([token_f1(c.span.text, q.answers) for q, c in best])
    confidence = np.array([answer_probability(c) for _, c in answerable])
    absent = np.array([answer_probability(c) if c else 0.0 for q, c in rows if not q.answers])
    threshold = np.quantile(confidence, DECLINED_ANSWERABLE)
    contains = [any(a.lower() in c.span.text.lower() for a in q.answers) for q, c in best]
    sentence = [any(a in sentence_of(c) for a in q.answers) for q, c in best]
    exact = [any(tokens_of(c.span.text) == tokens_of(a) for a in q.answers) for q, c in best]
    retrieved = [any(c.passage.hit.entry.id == q.passage for c in cs) for q, cs in answerable]
    right = [*map(float, f1 > 0.5), *(0.0 for _ in absent)]
    return Reading(
        name,
        len(answerable),
        float(np.mean(given)),
        float(f1.mean()),
        float(np.mean(exact)),
        float(np.mean(contains)),
        float(np.mean(sentence)),
        float(np.mean(retrieved)),
        len(absent),
        float((absent < threshold).mean()) if len(absent) else None,
        expected_calibration_error([*confidence, *absent], right).value,
    )


def fit(questions: Sequence[Question], candidates: Sequence[Sequence[SpanCandidate]]) -> np.ndarray:
    """Fit the weights of the confidence by logistic regression; return them with the bias last."""
    from sklearn.linear_model import LogisticRegression

    rows = [(q, c) for q, c in zip(questions, candidates, strict=True) if c]
    features = np.array([confidence_features(c) for _, c in rows])
    right = [token_f1(c[0].span.text, q.answers) > 0.5 for q, c in rows]
    model = LogisticRegression(C=10.0).fit(features, right)
    return np.round([*model.coef_[0], model.intercept_[0]], 3)


def with_absent(
    questions: Sequence[Question], passages: Sequence[list[Passage]]
) -> tuple[list[Question], list[list[Passage]]]:
    """Add every second question once more without its right passage, as one without an answer."""
    absent = [replace(question, answers=()) for question in questions[::2]]
    others = [
        [p for p in row if p.hit.entry.id != question.passage]
        for question, row in zip(questions[::2], passages[::2], strict=True)
    ]
    return [*questions, *absent], [*passages, *others]


def read_given(
    reader: SpanReader, questions: Sequence[Question], texts: dict[str, str]
) -> list[float]:
    """Return the F1 of each answerable question over its right passage alone."""
    scores = []
    for question in questions:
        if question.answers:
            text = texts[question.passage]
            hit = Hit(Entry(question.passage, texts=(text,)), 1.0, Part("text", 0, text))
            spans = read_candidates(reader, question.text, [Passage(hit.part, hit, 1.0)])
            scores.append(token_f1(spans[0].span.text, question.answers) if spans else 0.0)
    return scores


def main() -> None:
    """Parse the options, read and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path("runs/reading"))
    parser.add_argument("--reader", type=Path, default=READER, help="folder of a span reader")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("-k", type=int, default=4)
    parser.add_argument("--limit", type=int, help="questions of each half")
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    reader = SpanReader(options.reader)
    encoder = DualEncoder.load("starter")
    results = []
    for name in options.sets:
        texts = read_passages(options.data / name)
        entries = [Entry(key, texts=(text,)) for key, text in texts.items()]
        with KnowledgeBase.build(options.work / name, entries, encoder=encoder) as kb:
            retriever = Retriever(kb)
            half = read_questions(options.data / name)[1 if options.fit else 0 :: 2]
            half = half[: options.limit]
            passages = retrieve(retriever, half, options.k)
        if options.fit and all(question.answers for question in half):
            half, passages = with_absent(half, passages)
        rows = zip(half, passages, strict=True)
        candidates = [read_candidates(reader, question.text, p) for question, p in rows]
        if options.fit:
            print(name, "weights of the confidence:", fit(half, candidates).tolist())
        result = measure(name, half, candidates, read_given(reader, half, texts))
        print(json.dumps(asdict(result)))
        results.append(asdict(result))
    write_json(results, options.json)


if __name__ == "__main__":
    main()
