"""Fit the reader's weights and measure it: seen and unseen templates, paraphrases, other questions.

    python -m benchmarks.reader [--data FOLDER] [--json FILE] [--write]

It is fitted on generated entries (random keys of the bank with random values; in a third of them
the question type is left out of the bank) and on the questions of flags and groceries (their 13
templates and the paraphrases in questions/). "Unseen" leaves a template and its paraphrases out of
the fit, and its question types out of the bank. Butterflies are never used for fitting. The right
entity is given; `answers.py` retrieves it by image. `--write` replaces the weights."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.answers import (
    DATA,
    OPPOSITE_PARAPHRASES,
    butterfly_text,
    flag_text,
    grocery_text,
    is_right,
    read_lines,
    wilson,
)
from ravlm import DualEncoder, Entry
from ravlm.data.facts import Fact, read_facts
from ravlm.generation.extractive.answer_text import phrase_answer
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.question_types import (
    NAME,
    QuestionType,
    QuestionTypeBank,
    read_question_types,
)
from ravlm.generation.extractive.questions import parse_question
from ravlm.generation.extractive.reader import FEATURES, WEIGHTS, FactReader

QUESTIONS = Path(__file__).parent / "questions"
FITTED_SETS = ("grocery_store", "country_flags")
VALUES = {
    "place": "Paris|Kyoto|Peru|Lagos|Norway|Denver|Lake Como|Chile|Istanbul|Western Europe|Cairo"
    "|Hunan|South Asia",
    "person": "Ada Byron|Li Wei|Jonas Berg|Maria Costa|T. H. Mann|Aiko Sato|Omar Haddad"
    "|Nina Petrova|Chen Yu",
    "name": "Falco minor|Orvane|Sunburst|Lindgren|Model K2|Alba|Gothic revival|Poodle|Engineer"
    "|Fruit|Rosaceae",
    "list": "red, green|oak, iron|sugar, water, lemon juice|English, Hindi|milk, soy"
    "|Bolivia, Paraguay|Euro|wool",
    "text": "sweet and mild, with a note of almonds|round with a flat top|kept in a cool dark place"
    "|dark above, pale below|boiled for ten minutes and served warm|running across a field"
    "|worn on festive days",
    "time": "1889|1969-07-16|May to August|the 12th century|Monday|spring|3 March 1954|two weeks",
    "yes/no": "yes|no",
}
QUANTITIES = {
    "length": "89 mm|7-9 cm|30 cm|7 m|3 1/2-4 in|300 m",
    "mass": "12 kg|340 g|3.4 g|0.2 g",
    "energy": "45 kcal|210 kcal",
    "volume": "1.5 l|330 ml",
    "money": "25 dollars|12 €",
    "speed": "60 km/h",
    "time": "17 years|9 days",
    "temperature": "18 °C",
    "area": "2300 km2|512000",
    "": "42|1250|+44|512000|17|67000000",
}


@dataclass(frozen=True)
class Example:
    """Features (facts, features) of one question on one entity, and the facts that answer it."""

    features: np.ndarray
    right: tuple[int, ...]
    template: str


@dataclass(frozen=True)
class SetQuestion:
    """A question of a set, its template, and its kind in the report."""

    dataset: str
    template: str
    text: str
    kind: str


class ReaderLab:
    """The data, encoder and question types that fitting and reporting share."""

    def __init__(self, encoder: DualEncoder, data: Path) -> None:
        self.encoder, self.vectors = encoder, EmbeddingCache(encoder, max_texts=200_000)
        self.bank = QuestionTypeBank(read_question_types(), self.vectors)
        self.blank = FactReader(self.vectors, self.bank, dict.fromkeys((*FEATURES, "none"), 0.0))
        self.facts: dict[tuple[str, str], list[Fact]] = {}
        self.answers: dict[tuple[str, str], dict[str, list[str]]] = {}
        for dataset, entity, text in texts(data):
            self.facts[dataset, entity] = read_facts(Entry(entity, texts=(text,)))
        for dataset in ("grocery_store", "country_flags", "leeds_butterflies"):
            for row in read_lines(data / dataset / "qa.jsonl"):
                right = [answer for answer in row["answers"] if answer]
                self.answers.setdefault((dataset, row["question"]), {})[row["entity"]] = right
        self.questions = [
            SetQuestion(dataset, template, template, "template")
            for dataset, template in self.answers
        ]
        for row in read_lines(QUESTIONS / "paraphrases.jsonl"):
            kind = f"paraphrase, {row['language']}"
            self.questions.append(SetQuestion(row["set"], row["template"], row["question"], kind))
        groceries = [
            facts for (dataset, _), facts in self.facts.items() if dataset == "grocery_store"
        ]
        self.prose = [fact.value for facts in groceries for fact in facts if not fact.key]
        photos = read_lines(data / "flickr8k" / "metadata.jsonl")
        self.captions = [row for row in photos if row["split"] == "train"][:400]
        self.prose += [row["texts"][0] for row in self.captions]

    def hidden(self, template: str) -> np.ndarray:
        """Return a mask of the bank's questions of the types that a template asks for."""
        keys = json.loads((QUESTIONS / "aspects.json").read_text(encoding="utf-8"))[template]
        owners = [
            i
            for i, question_type in enumerate(self.bank.types)
            if set(keys) & set(question_type.keys)
        ]
        return np.isin(self.bank.owner, owners)

    def example(
        self,
        text: str,
        facts: Sequence[Fact],
        right: Sequence[int],
        skip: np.ndarray | None,
        template: str,
    ) -> Example:
        question = parse_question(text, self.blank.units, self.encoder.gloss(text))
        scores = self.blank.question_types(question, skip)
        return Example(self.blank.features(question, facts, scores), tuple(right), template)


def texts(data: Path) -> Iterator[tuple[str, str, str]]:
    """Yield set, entity and text of every entry."""
    for product in read_lines(data / "grocery_store" / "entities.jsonl"):
        yield "grocery_store", product["name"], grocery_text(product)
    for country in read_lines(data / "country_flags" / "metadata.jsonl"):
        yield "country_flags", country["facts"]["entity"], flag_text(country["facts"])
    for species in read_lines(data / "leeds_butterflies" / "entities.jsonl"):
        yield "leeds_butterflies", species["common_name"], butterfly_text(species)


def generated_examples(lab: ReaderLab, n: int, seed: int = 0) -> list[Example]:
    """Return questions of the bank on generated entries; a sixth of them have no answer."""
    rng = random.Random(seed)
    types = lab.bank.types
    questions = np.array(lab.bank.questions)
    results = []
    for _ in range(n):
        target = rng.randrange(len(types))
        text = str(questions[rng.choice(np.flatnonzero(lab.bank.owner == target).tolist())])
        unseen_question_results = [
            i
            for i, a in enumerate(types)
            if i != target and not set(a.keys) & set(types[target].keys)
        ]
        rows = rng.sample(unseen_question_results, rng.randint(3, 11)) + (
            [target] if rng.random() > 1 / 6 else []
        )
        rng.shuffle(rows)
        rows.sort(key=lambda i: i != 0)  # the name comes first
        facts = [generated_fact(types[i], rng) for i in rows]
        facts += [Fact("", rng.choice(lab.prose)) for _ in range(rng.randint(0, 5))]
        if types[target].answer != "text" and rng.random() < 0.6:  # on the subject, and no answer
            facts.append(Fact("", off_topic_sentence(types[target], rng)))
        skip = questions == text
        if rng.random() < 0.3:
            skip |= lab.bank.owner == target
        results.append(
            lab.example(
                text, facts, [j for j, i in enumerate(rows) if i == target], skip, "made up"
            )
        )
    return results


def generated_caption_examples(lab: ReaderLab, n: int, seed: int = 0) -> list[Example]:
    """Return questions on entries of captions alone: any caption answers a name, none the rest."""
    rng = random.Random(seed)
    questions = np.array(lab.bank.questions)
    captions = [row["texts"] for row in lab.captions]
    unnamed = [
        i
        for i, a in enumerate(lab.bank.types)
        if a.answer in ("place", "person", "number", "time", "yes/no")
    ]
    names = [i for i, a in enumerate(lab.bank.types) if a.name_will_do or i == NAME]
    results = []
    for _ in range(n):
        target = rng.choice(names if rng.random() < 0.5 else unnamed)
        text = str(questions[rng.choice(np.flatnonzero(lab.bank.owner == target).tolist())])
        facts = [
            Fact("", caption.strip(" ."))
            for caption in rng.sample(rng.choice(captions), rng.randint(1, 3))
        ]
        right = range(len(facts)) if target in names else ()
        results.append(lab.example(text, facts, tuple(right), questions == text, "captions"))
    return results


def generated_fact(question_type: QuestionType, rng: random.Random) -> Fact:
    """Return a line or a sentence with a value for a question type."""
    key = rng.choice([key for key in question_type.keys if key.isascii()])
    measured = question_type.answer == "number" or bool(question_type.dimension)
    value = rng.choice(
        (QUANTITIES[question_type.dimension] if measured else VALUES[question_type.answer]).split(
            "|"
        )
    )
    prose = {"text": 0.6, "number": 0.5 if question_type.dimension else 0.15, "yes/no": 0.0}.get(
        question_type.answer, 0.15
    )
    if rng.random() > prose:
        return Fact(key.capitalize() if rng.random() < 0.5 else key, value)
    forms = [
        f"The {key} is {value}.",
        f"Its {key} is {value}.",
        f"{key.capitalize()} {value}.",
        f"{value} ({key}).",
    ]
    if question_type.dimension:
        forms = [*forms[:2], f"{value}.", f"About {value}.", f"{value} ({value})."]
    return Fact("", rng.choice(forms))


def off_topic_sentence(question_type: QuestionType, rng: random.Random) -> str:
    """Return a sentence on the topic of a question type that does not answer it."""
    key = rng.choice([key for key in question_type.keys if key.isascii()])
    end = rng.choice(
        [
            "long and narrow",
            "well known",
            "often spoken of",
            "not always the same",
            "small but fine",
        ]
    )
    return rng.choice(
        [f"{key.capitalize()} {end}.", f"The {key} is {end}.", f"It has a {key} that is {end}."]
    )


def real(lab: ReaderLab, entities: int = 8, without: str = "") -> list[Example]:
    """Return the sets' questions and paraphrases on a few entities each, with and without their
    question types in the bank."""
    rng = random.Random(1)
    results = []
    for item in lab.questions:
        if item.dataset not in FITTED_SETS or item.template == without:
            continue
        answers = lab.answers[item.dataset, item.template]
        hidden = lab.hidden(item.template)
        for skip, share in ((None, 1.0), (hidden, 0.5)):
            for entity in rng.sample(sorted(answers), int(min(entities, len(answers)) * share)):
                facts = lab.facts[item.dataset, entity]
                right = facts_with_answer(facts, answers[entity])
                if not right:
                    continue
                if rng.random() < 0.12:
                    facts, right = [fact for i, fact in enumerate(facts) if i not in right], []
                results.append(lab.example(item.text, facts, right, skip, item.template))
    return results


def facts_with_answer(facts: Sequence[Fact], answers: Sequence[str]) -> list[int]:
    """Return the facts that hold one of the answers; those with a key, if there are any."""
    matches = [
        i
        for i, fact in enumerate(facts)
        if any(is_right(fact.value, [a]) or a in fact.value for a in answers)
    ]
    return [i for i in matches if facts[i].key] or matches


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
    entities: int = 10,
) -> list[bool]:
    """Return whether the answers to one question on up to ten entities are right."""
    answers = lab.answers[item.dataset, item.template]
    names = sorted(answers)
    random.Random(0).shuffle(names)
    question = parse_question(item.text, reader.units, lab.encoder.gloss(item.text))
    scores = reader.question_types(question, skip)
    results = []
    for name in names[:entities]:
        reading = reader.read(question, lab.facts[item.dataset, name], scores)
        text = phrase_answer(question, reading.fact, scores, reader) if reading.fact else ""
        results.append(is_right(text, answers[name]) or is_opposite(item.text, text, answers[name]))
    return results


def is_opposite(question: str, text: str, answers: Sequence[str]) -> bool:
    """Return whether the opposite answer is right: "access to the sea" for "landlocked?"."""
    opposite = {"yes": "no", "no": "yes"}.get(answers[0], "")
    return question in OPPOSITE_PARAPHRASES and opposite in text.split()


def unseen_question_results(
    lab: ReaderLab, reader: FactReader, entities: int = 10
) -> dict[str, list[bool]]:
    """Return the results of questions that no template asks, by question."""
    results: dict[str, list[bool]] = {}
    for row in read_lines(QUESTIONS / "unasked.jsonl"):
        question = parse_question(row["question"], reader.units, lab.encoder.gloss(row["question"]))
        scores = reader.question_types(question)
        names = sorted(name for dataset, name in lab.facts if dataset == row["set"])
        random.Random(0).shuffle(names)
        for name in names[: entities * 4]:
            facts = lab.facts[row["set"], name]
            targets = [f for f in facts if states(f, row["field"])]
            if targets and len(results.get(row["question"], [])) < entities:
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--json", type=Path)
    parser.add_argument(
        "--write", action="store_true", help="replace the weights that come with the package"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="print the questions that are read badly"
    )
    options = parser.parse_args()
    lab = ReaderLab(DualEncoder.load("starter"), options.data)
    generated, examples = (
        generated_examples(lab, 2500) + generated_caption_examples(lab, 250),
        real(lab),
    )
    reader = fit_reader(lab, generated, examples)
    if options.write:
        WEIGHTS.write_text(json.dumps(reader.weights, indent=1) + "\n", encoding="utf-8")
    if options.verbose:
        for item in lab.questions:
            right = score_question(lab, reader, item)
            if np.mean(right) < 0.9:
                print(f"  {np.mean(right):.2f} {item.text}")
    rows = report(lab, generated, examples, reader) if options.json else []
    for row in rows:
        print(f"{row['questions']:50}{row['set']:20}{row['strings']:>4}{row['n']:>6}{row['right']:>8.1%}"
              f"  {row['low']:.1%}-{row['high']:.1%}")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
