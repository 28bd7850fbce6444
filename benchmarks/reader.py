"""Fit the reader's weights and measure it: seen and unseen templates, paraphrases, other questions.

    python -m benchmarks.reader [--data FOLDER] [--json FILE] [--write]
        [--generated 2500] [--entities 10]

It is fitted on generated entries (random keys of the bank with random values; in a third of them
the question type is left out of the bank) and on the questions of flags and groceries (their 13
templates and the paraphrases in questions/). "Unseen" leaves a template and its paraphrases out of
the fit, and its question types out of the bank. Butterflies are never used for fitting. The right
entity is given; `answers.py` retrieves it by image. `--write` replaces the weights."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data import DATA, QUESTIONS, read_lines
from benchmarks.question_sets import OPPOSITE_PARAPHRASES, is_right
from benchmarks.reader_examples import (
    FITTED_SETS,
    Example,
    ReaderLab,
    SetQuestion,
    generated_caption_examples,
    generated_examples,
    set_examples,
)
from benchmarks.reports import wilson, write_json
from ravlm import DualEncoder
from ravlm.data.facts import Fact
from ravlm.generation.extractive.answer_text import phrase_answer
from ravlm.generation.extractive.questions import parse_question
from ravlm.generation.extractive.reader import FEATURES, WEIGHTS, FactReader


def fit(
    examples: Sequence[Example], weights: Sequence[float], ridge: float = 1e-3
) -> dict[str, float]:
    """Fit a softmax over the facts and "none" by L-BFGS; several right facts share the credit."""
    import torch

    max_facts = max(len(e.features) for e in examples)
    x = torch.zeros(len(examples), max_facts, len(FEATURES))
    mask = torch.zeros(len(examples), max_facts + 1, dtype=torch.bool)
    right = torch.zeros(len(examples), max_facts + 1, dtype=torch.bool)
    mask[:, -1] = True
    for i, example in enumerate(examples):
        count = len(example.features)
        x[i, :count] = torch.from_numpy(example.features).float()
        mask[i, :count] = True
        right[i, list(example.right) or [max_facts]] = True
    share = torch.tensor(weights) / sum(weights)
    beta = torch.zeros(len(FEATURES) + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([beta], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        scores = torch.cat([x @ beta[:-1], beta[-1].expand(len(examples), 1)], 1).masked_fill(
            ~mask, -1e9
        )
        credit = torch.logsumexp(torch.log_softmax(scores, 1).masked_fill(~right, -1e9), 1)
        value = -(share * credit).sum() + ridge * (beta[:-1] ** 2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return dict(zip((*FEATURES, "none"), [round(float(b), 4) for b in beta.detach()], strict=True))


def fit_reader(
    lab: ReaderLab, generated: Sequence[Example], examples: Sequence[Example]
) -> FactReader:
    """Return a reader fitted on both, each with half the weight."""
    weights = [1 / len(generated)] * len(generated) + [1 / len(examples)] * len(examples)
    return FactReader(lab.vectors, lab.bank, fit([*generated, *examples], weights))


def score_question(
    lab: ReaderLab,
    reader: FactReader,
    item: SetQuestion,
    skip: np.ndarray | None = None,
) -> list[bool]:
    """Return whether the answers to one question on a few entities are right."""
    answers = lab.answers[item.dataset, item.template]
    names = sorted(answers)
    random.Random(0).shuffle(names)
    question = parse_question(item.text, reader.units, lab.encoder.gloss(item.text))
    scores = reader.question_types(question, skip)
    results = []
    for name in names[: lab.entities]:
        reading = reader.read(question, lab.facts[item.dataset, name], scores)
        text = phrase_answer(question, reading.fact, scores, reader) if reading.fact else ""
        results.append(is_right(text, answers[name]) or is_opposite(item.text, text, answers[name]))
    return results


def is_opposite(question: str, text: str, answers: Sequence[str]) -> bool:
    """Return whether the opposite answer is right: "access to the sea" for "landlocked?"."""
    opposite = {"yes": "no", "no": "yes"}.get(answers[0], "")
    return question in OPPOSITE_PARAPHRASES and opposite in text.split()


def unseen_question_results(lab: ReaderLab, reader: FactReader) -> dict[str, list[bool]]:
    """Return the results of questions that no template asks, by question."""
    results: dict[str, list[bool]] = {}
    for row in read_lines(QUESTIONS / "unasked.jsonl"):
        question = parse_question(row["question"], reader.units, lab.encoder.gloss(row["question"]))
        scores = reader.question_types(question)
        names = sorted(name for dataset, name in lab.facts if dataset == row["set"])
        random.Random(0).shuffle(names)
        for name in names[: lab.entities * 4]:
            facts = lab.facts[row["set"], name]
            targets = [f for f in facts if states(f, row["field"])]
            if targets and len(results.get(row["question"], [])) < lab.entities:
                reading = reader.read(question, facts, scores)
                text = phrase_answer(question, reading.fact, scores, reader) if reading.fact else ""
                count = (
                    str(len(targets[0].value.split(", ")))
                    if row["field"].startswith("count:")
                    else ""
                )
                right = text.split(" ")[0] == count if count else reading.fact in targets
                results.setdefault(row["question"], []).append(right)
    return results


def states(fact: Fact, field: str) -> bool:
    """Return whether a question of `unasked.jsonl` asks for a fact, by its key or its words."""
    kind, _, words = field.rpartition(":")
    if kind == "sentence":
        return not fact.key and any(word in fact.value.lower() for word in words.split("|"))
    return fact.key.lower() == words.replace("_", " ").lower() or (
        not fact.key and words in fact.value.split()
    )


def report(
    lab: ReaderLab, generated: Sequence[Example], examples: Sequence[Example], reader: FactReader
) -> list[dict[str, Any]]:
    """Return the rows of the table: kind of question, set, n, share right with its interval."""
    rows: dict[tuple[str, str], list[list[bool]]] = {}
    for item in lab.questions:
        rows.setdefault((item.kind, item.dataset), []).append(score_question(lab, reader, item))
    for dataset, template in lab.answers:
        remaining = [e for e in examples if e.template != template]
        held_out = fit_reader(lab, generated, remaining) if dataset in FITTED_SETS else reader
        for item in (a for a in lab.questions if a.template == template):
            kind = f"{item.kind}; fitted without it"
            rows.setdefault((kind, dataset), []).append(score_question(lab, held_out, item))
            kind = f"{item.kind}; unknown to the bank too"
            rows.setdefault((kind, dataset), []).append(
                score_question(lab, held_out, item, lab.hidden(template))
            )
    for question, right in unseen_question_results(lab, reader).items():
        rows.setdefault(("asked by no template", "all"), []).append(right)
        if np.mean(right) < 0.9:
            print(f"  {np.mean(right):.2f} {question}")
    table = []
    for (kind, dataset), results in sorted(rows.items()):
        flat = [r for group in results for r in group]
        low, high = wilson(sum(flat), len(flat))
        table.append({"questions": kind, "set": dataset, "strings": len(results), "n": len(flat),
                      "right": float(np.mean(flat)), "low": low, "high": high})  # fmt: skip
    return table


def main() -> None:
    """Parse the options, fit, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--write", action="store_true", help="replace the weights that come with the package"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print the questions that are read badly"
    )
    parser.add_argument("--generated", type=int, default=2500, help="generated examples to fit on")
    parser.add_argument("--entities", type=int, default=10, help="entities of each question")
    options = parser.parse_args()
    lab = ReaderLab(DualEncoder.load("starter"), options.data, options.entities)
    generated = generated_examples(lab, options.generated)
    generated += generated_caption_examples(lab, options.generated // 10)
    examples = set_examples(lab)
    reader = fit_reader(lab, generated, examples)
    if options.write:
        WEIGHTS.write_text(json.dumps(reader.weights, indent=1) + "\n", encoding="utf-8")
    if options.verbose:
        for item in lab.questions:
            right = score_question(lab, reader, item)
            if np.mean(right) < 0.9:
                print(f"  {np.mean(right):.2f} {item.text}")
    rows = report(lab, generated, examples, reader)
    for row in rows:
        print(f"{row['questions']:50}{row['set']:20}{row['strings']:>4}{row['n']:>6}{row['right']:>8.1%}"
              f"  {row['low']:.1%}-{row['high']:.1%}")  # fmt: skip
    write_json({"rows": rows}, options.json)


if __name__ == "__main__":
    main()
