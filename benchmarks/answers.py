"""Measure how many questions are answered right: the table of docs/answers.md, as text and JSON.

    python -m benchmarks.answers [--data FOLDER] [--json FILE] [--only grocery flags butterflies
    absent words ...] [--limit ENTITIES]

The bases hold real images, as the README of each set says. Every row is compared with the closed
book and with the most frequent answer to the same question. An answer is right if, normalized, it
contains one of the reference answers and is at most a dozen words longer. Only development data is
read."""

from __future__ import annotations

import argparse
import math
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import DATA, QUESTIONS, read_lines
from benchmarks.question_sets import (
    OPPOSITE_PARAPHRASES,
    SETS,
    Dataset,
    Item,
    butterflies,
    flag_text,
    is_right,
)
from benchmarks.reports import wilson, write_json
from ravlm import Answer, DualEncoder, Entry, KnowledgeBase, RetrievalAugmentedVLM
from ravlm.encoders.base import Encoder
from ravlm.generation.extractive.generator import confidence_features
from ravlm.metrics import expected_calibration_error

SET_OF = {
    "grocery": "groceries", "paraphrases: grocery_store": "groceries", "flags": "flags",
    "paraphrases: country_flags": "flags", "butterflies": "butterflies", "absent": "butterflies",
    "paraphrases: leeds_butterflies": "butterflies", "words alone": "words",
}  # fmt: skip
"""Groups of answers -> the set of each."""
ANSWERED_GROUPS: dict[str, list[tuple[float, list[float], bool]]] = {}
"""For each group of answers: confidence, its features, whether the answer is right.

Answers from prose are left out: `benchmarks.reading` fits their confidence."""
TRACED = ("support", "agreement", "read weight")
"""Keys of an answer's trace that its confidence is computed from."""


@dataclass(frozen=True)
class Row:
    """A line of the table: shares with their n and 95 % interval (Wilson, by photo)."""

    name: str
    n: int
    right: float
    low: float
    high: float
    answered: float
    right_of_answered: float
    closed_book: float
    most_frequent: float
    seconds_a_question: float
    calibration_error: float | None
    """Of the confidence of what was answered."""
    false_answers: float
    """The share of all that was answered, and wrongly."""


def wilson_by_photo(right: Sequence[bool], items: Sequence[Item]) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share whose items come in photos.

    Questions about one photo are not independent: n is divided by the design effect, the variance
    of the share over photos divided by that of as many independent questions.
    """
    n, share = len(right), sum(right) / max(len(right), 1)
    deviations: Counter[str] = Counter()
    for is_right_answer, item in zip(right, items, strict=True):
        photo = str(item.image) if isinstance(item.image, str | Path) else item.entity
        deviations[photo] += is_right_answer - share  # type: ignore[assignment]
    if not 0 < share < 1:
        return wilson(share * len(deviations), len(deviations))
    variance = sum(deviation**2 for deviation in deviations.values()) / n**2
    effective_n = n / max(1.0, variance / (share * (1 - share) / n))
    return wilson(share * effective_n, effective_n)


def most_frequent(queries: Sequence[Item], train_items: Sequence[Item]) -> float:
    """Return the share right if every question got its most frequent answer in `train_items`."""
    counts: dict[str, Counter[str]] = {}
    for item in train_items:
        counts.setdefault(item.template, Counter()).update(item.answers)
    best = {template: counter.most_common(1)[0][0] for template, counter in counts.items()}
    return sum(is_right(best.get(i.template, ""), i.answers) for i in queries) / len(queries)


def row_of(
    name: str,
    queries: Sequence[Item],
    answers: Sequence[Answer],
    seconds: float,
    closed: Sequence[Answer],
    base: float,
) -> Row:
    """Return the row of questions with their answers, and with those of the closed book."""
    n = len(queries)
    right = [
        is_right(a.text, i.answers) and not a.abstained
        for i, a in zip(queries, answers, strict=True)
    ]
    closed_right = [is_right(a.text, i.answers) for i, a in zip(queries, closed, strict=True)]
    answered = sum(not a.abstained for a in answers)
    low, high = wilson_by_photo(right, queries)
    if not name.startswith(" "):
        group = name.split(", " if name.startswith("paraphrases") else ":")[0]
        ANSWERED_GROUPS.setdefault(group, []).extend(
            (a.confidence, confidence_inputs(a), r)
            for a, r in zip(answers, right, strict=True)
            if not a.abstained and a.trace.keys() >= set(TRACED)
        )
    return Row(
        name=name,
        n=n,
        right=sum(right) / n,
        low=low,
        high=high,
        answered=answered / n,
        right_of_answered=sum(right) / max(answered, 1),
        closed_book=sum(closed_right) / n,
        most_frequent=base,
        seconds_a_question=seconds / n,
        calibration_error=calibration(answers, right),
        false_answers=(answered - sum(right)) / n,
    )


def confidence_inputs(answer: Answer) -> list[float]:
    """Return the features of an answer's confidence; see `confidence_features`."""
    return confidence_features(*(answer.trace[name] for name in TRACED))


def refit(groups: Sequence[str]) -> np.ndarray:
    """Return weights of `answer_confidence` by logistic regression on groups of equal weight."""
    rows = [(*features, 1.0) for group in groups for _, features, _ in ANSWERED_GROUPS[group]]
    x, y = (
        np.array(rows),
        np.array([float(right) for group in groups for _, _, right in ANSWERED_GROUPS[group]]),
    )
    w = np.concatenate(
        [
            np.full(len(ANSWERED_GROUPS[group]), 1 / len(groups) / len(ANSWERED_GROUPS[group]))
            for group in groups
        ]
    )
    ridge = np.diag([1e-3] * (x.shape[1] - 1) + [1e-9])
    beta = np.zeros(x.shape[1])
    for _ in range(40):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        hessian = (x * (w * p * (1 - p))[:, None]).T @ x + ridge
        beta -= np.linalg.solve(hessian, x.T @ (w * (p - y)) + ridge @ beta)
    return beta


def confidence_report() -> dict[str, Any]:
    """Return the calibration error of each group: as answered, and with weights that were fitted
    to the other sets alone."""
    results: dict[str, Any] = {
        "refitted weights": [round(v, 3) for v in refit(list(ANSWERED_GROUPS)).tolist()]
    }
    for group, judged in ANSWERED_GROUPS.items():
        other_groups = [g for g in ANSWERED_GROUPS if SET_OF[g] != SET_OF[group]]
        beta = refit(other_groups)
        truth = [float(right) for _, _, right in judged]
        unseen = [1 / (1 + math.exp(-float(beta @ [*features, 1.0]))) for _, features, _ in judged]
        results[group] = {
            "answered": len(judged),
            "right": sum(truth) / len(truth),
            "confidence": sum(c for c, _, _ in judged) / len(truth),
            "calibration error": expected_calibration_error([c for c, _, _ in judged], truth).value,
            "fitted to the other sets": expected_calibration_error(unseen, truth).value,
        }
    return results


def calibration(answers: Sequence[Answer], right: Sequence[bool]) -> float | None:
    """Return the calibration error of what was answered; None if nothing was."""
    rows = [(a.confidence, r) for a, r in zip(answers, right, strict=True) if not a.abstained]
    confidence, outcome = [c for c, _ in rows], [r for _, r in rows]
    return expected_calibration_error(confidence, outcome).value if rows else None


def ask(
    model: RetrievalAugmentedVLM, queries: Sequence[Item], k: int | None = None
) -> list[Answer]:
    """Return the answers to questions about their images."""
    return model.ask([i.question for i in queries], image=[i.image for i in queries], k=k)


def measure(name: str, dataset: Dataset, encoder: Encoder, folder: Path) -> list[Row]:
    """Return the rows of one set: of all questions, and of each template."""
    queries, train_items = dataset.queries, dataset.train_items
    with KnowledgeBase.build(folder / name, dataset.entries, encoder=encoder) as kb:
        model = RetrievalAugmentedVLM(kb)
        ask(model, queries[:1])  # the calibration is made once for a base, and counted apart
        began = time.perf_counter()
        answers = ask(model, queries)
        seconds = time.perf_counter() - began
        closed = ask(model, queries, k=0)
    rows = [row_of(name, queries, answers, seconds, closed, most_frequent(queries, train_items))]
    for template in dict.fromkeys(i.template for i in queries):
        at = [j for j, i in enumerate(queries) if i.template == template]
        part = [queries[j] for j in at]
        share = seconds * len(at) / len(queries)
        base = most_frequent(part, train_items)
        rows.append(
            row_of(
                f"  {template}",
                part,
                [answers[j] for j in at],
                share,
                [closed[j] for j in at],
                base,
            )
        )
    return rows


def measure_absent(
    data: Path, encoder: Encoder, folder: Path, limit: int | None, draws: int = 4
) -> list[Row]:
    """Return the rows of butterflies with three species removed from the base: questions on those,
    and on the others."""
    dataset = butterflies(data).limited(limit)
    queries = dataset.queries
    species = sorted({i.entity for i in queries})
    removed_rows: list[tuple[Item, Answer]] = []
    remaining_rows: list[tuple[Item, Answer]] = []
    for draw in range(draws):
        removed = set(random.Random(draw).sample(species, 3))
        remaining = [
            entry
            for entry, entity in zip(dataset.entries, dataset.entities, strict=True)
            if entity not in removed
        ]
        with KnowledgeBase.build(folder / f"absent{draw}", remaining, encoder=encoder) as kb:
            answers = ask(RetrievalAugmentedVLM(kb), queries)
        for item, answer in zip(queries, answers, strict=True):
            (removed_rows if item.entity in removed else remaining_rows).append((item, answer))
    base = most_frequent(queries, dataset.train_items)
    return [
        row_of(
            name, [i for i, _ in group], [a for _, a in group], 0.0, [Answer("")] * len(group), base
        )
        for name, group in (
            ("absent: 3 species taken out", removed_rows),
            ("absent: the other species", remaining_rows),
        )
    ]


TEXT_QUESTIONS = (
    ("What is the capital of {}?", "capital"), ("Which languages are spoken in {}?", "languages"),
    ("What money do they use in {}?", "currencies"), ("{}的首都是哪里？", "capital"),
    ("What is {} made of?", ""),
)  # fmt: skip


def measure_words(data: Path, encoder: Encoder, folder: Path, limit: int | None) -> list[Row]:
    """Return the rows of questions without an image, on countries in the base and on others; the
    last question has no answer."""
    countries = [row["facts"] for row in read_lines(data / "country_flags" / "metadata.jsonl")]
    random.Random(1).shuffle(countries)
    countries = countries[:limit]
    half = len(countries) // 2
    entries = [
        Entry(f"c{i}", None, (flag_text(facts),)) for i, facts in enumerate(countries[:half])
    ]
    rows = []
    with KnowledgeBase.build(folder / "words", entries, encoder=encoder) as kb:
        model = RetrievalAugmentedVLM(kb)
        for name, group in (
            ("in the base", countries[:half:3]),
            ("not in the base", countries[half::3]),
        ):
            for has_answer in (True, False):
                queries = [
                    Item(q.format(f["entity"]), tuple(f[key]) if key else (), "", f["entity"], q)
                    for f in group
                    for q, key in TEXT_QUESTIONS
                    if bool(key) == has_answer and (not key or f[key])
                ]
                began = time.perf_counter()
                answers = model.ask([item.question for item in queries])
                seconds = time.perf_counter() - began
                title = f"words alone: {name}" + ("" if has_answer else ", asked what no line says")
                rows.append(
                    row_of(title, queries, answers, seconds, [Answer("")] * len(queries), 0.0)
                )
    return rows


def measure_paraphrases(
    data: Path, encoder: Encoder, folder: Path, limit: int | None, pictures: int = 3
) -> list[Row]:
    """Return the rows of every paraphrase of `questions/`, on a few images of its set."""
    rows = []
    paraphrases = read_lines(QUESTIONS / "paraphrases.jsonl")
    for name, maker in (
        ("grocery_store", SETS["grocery"]),
        ("country_flags", SETS["flags"]),
        ("leeds_butterflies", SETS["butterflies"]),
    ):
        dataset = maker(data).limited(limit)
        by_language: dict[str, list[Item]] = {"en": [], "zh": []}
        for row in (
            row
            for row in paraphrases
            if row["set"] == name and row["question"] not in OPPOSITE_PARAPHRASES
        ):
            of_template = [item for item in dataset.queries if item.template == row["template"]]
            for item in random.Random(row["question"]).sample(
                of_template, min(pictures, len(of_template))
            ):
                by_language[row["language"]].append(replace(item, question=row["question"]))
        with KnowledgeBase.build(folder / f"said-{name}", dataset.entries, encoder=encoder) as kb:
            model = RetrievalAugmentedVLM(kb)
            for language, group in by_language.items():
                began = time.perf_counter()
                answers = ask(model, group)
                seconds = time.perf_counter() - began
                base = most_frequent(group, dataset.train_items)
                closed = ask(model, group, k=0)
                rows.append(
                    row_of(
                        f"paraphrases: {name}, {language}", group, answers, seconds, closed, base
                    )
                )
    return rows


def table(rows: Sequence[Row]) -> str:
    head = f"{'':64}{'n':>6}{'right':>8}{'95 % interval':>16}{'answered':>10}{'right of these':>16}"
    head += f"{'closed book':>13}{'most frequent':>15}{'s each':>8}{'calibration':>13}"
    lines = [head]
    for r in rows:
        interval = f"{r.low:.1%}-{r.high:.1%}"
        lines.append(
            f"{r.name[:63]:64}{r.n:>6}{r.right:>8.1%}{interval:>16}{r.answered:>10.1%}{r.right_of_answered:>16.1%}"
            f"{r.closed_book:>13.1%}{r.most_frequent:>15.1%}{r.seconds_a_question:>8.2f}"
            + ("" if r.calibration_error is None else f"{r.calibration_error:>13.3f}")
        )
    return "\n".join(lines)


EXTRA = {"absent": measure_absent, "words": measure_words, "paraphrases": measure_paraphrases}


def main() -> None:
    """Parse the options, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", choices=[*SETS, *EXTRA], default=[*SETS, *EXTRA])
    parser.add_argument("--limit", type=int, help="entities of each set, for a short run")
    options = parser.parse_args()
    encoder = DualEncoder.load("starter")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            if name in EXTRA:
                rows += EXTRA[name](options.data, encoder, Path(folder), options.limit)
            else:
                rows += measure(
                    name, SETS[name](options.data).limited(options.limit), encoder, Path(folder)
                )
            print(f"{name} done", file=sys.stderr)
    print(table(rows))
    sure = confidence_report() if set(ANSWERED_GROUPS) == set(SET_OF) else {}
    for group, values in sure.items():
        print(group, values)
    about = {
        "encoder": encoder.fingerprint[:12],
        "machine": platform.processor() or platform.machine(),
    }
    report = {**about, "confidence": sure, "rows": [asdict(r) for r in rows]}
    write_json(report, options.json)


if __name__ == "__main__":
    main()
