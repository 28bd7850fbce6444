"""Fits the reader's weights and reports how well it reads: seen templates, unseen ones,
paraphrases, other questions.

    python benchmarks/reader.py [--data FOLDER] [--json FILE] [--write]

It learns from made-up entries (random keys of the bank with random values; a third of the time the
bank does not know what is asked) and from the questions of flags and groceries (their 13 templates
and the paraphrases in questions/). "Unseen" leaves a template out of the fit with its paraphrases,
and what it asks for out of the bank. Butterflies are never learnt from. The right entity is given
here; `answers.py` finds it by picture. `--write` replaces the weights."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from answers import (
    DATA,
    TURNED_ROUND,
    butterfly_text,
    flag_text,
    grocery_text,
    is_right,
    read_lines,
    wilson,
)
from ravlm import DualEncoder, Entry
from ravlm.data.facts import Fact, read_facts
from ravlm.generation.extractive.answer_text import phrase
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.question_types import (
    NAME,
    QuestionType,
    QuestionTypeBank,
    read_aspects,
)
from ravlm.generation.extractive.questions import understand
from ravlm.generation.extractive.reader import FEATURES, WEIGHTS, Reader

QUESTIONS = Path(__file__).parent / "questions"
LEARNT_FROM = ("grocery_store", "country_flags")
VALUES = {
    "place": "Paris|Kyoto|Peru|Lagos|Norway|Denver|Lake Como|Chile|Istanbul|Western Europe|Cairo|Hunan|South Asia",
    "person": "Ada Byron|Li Wei|Jonas Berg|Maria Costa|T. H. Mann|Aiko Sato|Omar Haddad|Nina Petrova|Chen Yu",
    "name": "Falco minor|Orvane|Sunburst|Lindgren|Model K2|Alba|Gothic revival|Poodle|Engineer|Fruit|Rosaceae",
    "list": "red, green|oak, iron|sugar, water, lemon juice|English, Hindi|milk, soy|Bolivia, Paraguay|Euro|wool",
    "text": "sweet and mild, with a note of almonds|round with a flat top|kept in a cool dark place|"
    "dark above, pale below|boiled for ten minutes and served warm|running across a field|worn on festive days",
    "time": "1889|1969-07-16|May to August|the 12th century|Monday|spring|3 March 1954|two weeks",
    "yes/no": "yes|no",
}
QUANTITIES = {
    "length": "89 mm|7-9 cm|30 cm|7 m|3 1/2-4 in|300 m", "mass": "12 kg|340 g|3.4 g|0.2 g",
    "energy": "45 kcal|210 kcal", "volume": "1.5 l|330 ml", "money": "25 dollars|12 €", "speed": "60 km/h",
    "time": "17 years|9 days", "temperature": "18 °C", "area": "2300 km2|512000",
    "": "42|1250|+44|512000|17|67000000",
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """Features (facts, features) of one question on one entity, and which facts answer (none:
    nothing does)."""

    features: np.ndarray
    right: tuple[int, ...]
    template: str


@dataclass(frozen=True)
class Asked:
    """A question of a set, its template, and the kind of question it is in the report."""

    dataset: str
    template: str
    text: str
    kind: str


class Lab:
    """Everything that fitting and reporting share."""

    def __init__(self, encoder: DualEncoder, data: Path) -> None:
        self.encoder, self.vectors = encoder, EmbeddingCache(encoder, kept=200_000)
        self.bank = QuestionTypeBank(read_aspects(), self.vectors)
        self.blank = Reader(self.vectors, self.bank, dict.fromkeys((*FEATURES, "none"), 0.0))
        self.facts: dict[tuple[str, str], list[Fact]] = {}
        self.answers: dict[tuple[str, str], dict[str, list[str]]] = {}
        for dataset, entity, text in texts(data):
            self.facts[dataset, entity] = read_facts(Entry(entity, texts=(text,)))
        for dataset in ("grocery_store", "country_flags", "leeds_butterflies"):
            for row in read_lines(data / dataset / "qa.jsonl"):
                right = [answer for answer in row["answers"] if answer]
                self.answers.setdefault((dataset, row["question"]), {})[row["entity"]] = right
        self.asked = [
            Asked(dataset, template, template, "template") for dataset, template in self.answers
        ]
        for row in read_lines(QUESTIONS / "paraphrases.jsonl"):
            kind = f"paraphrase, {row['language']}"
            self.asked.append(Asked(row["set"], row["template"], row["question"], kind))
        groceries = [
            facts for (dataset, _), facts in self.facts.items() if dataset == "grocery_store"
        ]
        self.prose = [fact.value for facts in groceries for fact in facts if not fact.key]
        photos = read_lines(data / "flickr8k" / "metadata.jsonl")
        self.captions = [row for row in photos if row["split"] == "train"][:400]
        self.prose += [row["texts"][0] for row in self.captions]

    def hidden(self, template: str) -> np.ndarray:
        """A mask of the bank's questions about what a template asks for."""
        wanted = json.loads((QUESTIONS / "aspects.json").read_text(encoding="utf-8"))[template]
        owners = [i for i, aspect in enumerate(self.bank.aspects) if set(wanted) & set(aspect.keys)]
        return np.isin(self.bank.owner, owners)

    def example(
        self,
        text: str,
        facts: Sequence[Fact],
        right: Sequence[int],
        skip: np.ndarray | None,
        template: str,
    ) -> Example:
        question = understand(text, self.blank.units, self.encoder.gloss(text))
        about = self.blank.about(question, skip)
        return Example(self.blank.features(question, facts, about), tuple(right), template)


def texts(data: Path) -> Iterator[tuple[str, str, str]]:
    """Set, entity and text of every entry that is read."""
    for product in read_lines(data / "grocery_store" / "entities.jsonl"):
        yield "grocery_store", product["name"], grocery_text(product)
    for country in read_lines(data / "country_flags" / "metadata.jsonl"):
        yield "country_flags", country["facts"]["entity"], flag_text(country["facts"])
    for species in read_lines(data / "leeds_butterflies" / "entities.jsonl"):
        yield "leeds_butterflies", species["common_name"], butterfly_text(species)


def made_up(lab: Lab, n: int, seed: int = 0) -> list[Example]:
    """Questions of the bank on made-up entries; in a sixth of them nothing answers."""
    rng = random.Random(seed)
    aspects = lab.bank.aspects
    questions = np.array(lab.bank.questions)
    found = []
    for _ in range(n):
        target = rng.randrange(len(aspects))
        asked = str(questions[rng.choice(np.flatnonzero(lab.bank.owner == target).tolist())])
        others = [
            i
            for i, a in enumerate(aspects)
            if i != target and not set(a.keys) & set(aspects[target].keys)
        ]
        rows = rng.sample(others, rng.randint(3, 11)) + ([target] if rng.random() > 1 / 6 else [])
        rng.shuffle(rows)
        rows.sort(key=lambda i: i != 0)  # the name comes first
        facts = [made_up_fact(aspects[i], rng) for i in rows]
        facts += [Fact("", rng.choice(lab.prose)) for _ in range(rng.randint(0, 5))]
        if aspects[target].answer != "text" and rng.random() < 0.6:  # on the subject, and no answer
            facts.append(Fact("", beside_the_point(aspects[target], rng)))
        skip = questions == asked
        if rng.random() < 0.3:
            skip |= lab.bank.owner == target
        found.append(
            lab.example(
                asked, facts, [j for j, i in enumerate(rows) if i == target], skip, "made up"
            )
        )
    return found


def made_up_captions(lab: Lab, n: int, seed: int = 0) -> list[Example]:
    """Questions on entries that are nothing but captions: a name is answered by any of them, other
    things by none."""
    rng = random.Random(seed)
    questions = np.array(lab.bank.questions)
    captions = [row["texts"] for row in lab.captions]
    other = [
        i
        for i, a in enumerate(lab.bank.aspects)
        if a.answer in ("place", "person", "number", "time", "yes/no")
    ]
    names = [i for i, a in enumerate(lab.bank.aspects) if a.name_will_do or i == NAME]
    found = []
    for _ in range(n):
        target = rng.choice(names if rng.random() < 0.5 else other)
        asked = str(questions[rng.choice(np.flatnonzero(lab.bank.owner == target).tolist())])
        facts = [
            Fact("", text.strip(" ."))
            for text in rng.sample(rng.choice(captions), rng.randint(1, 3))
        ]
        right = range(len(facts)) if target in names else ()
        found.append(lab.example(asked, facts, tuple(right), questions == asked, "captions"))
    return found


def made_up_fact(aspect: QuestionType, rng: random.Random) -> Fact:
    """A line or a sentence that states an aspect with a value of its type."""
    key = rng.choice([key for key in aspect.keys if key.isascii()])
    measured = aspect.answer == "number" or bool(aspect.dimension)
    value = rng.choice(
        (QUANTITIES[aspect.dimension] if measured else VALUES[aspect.answer]).split("|")
    )
    prose = {"text": 0.6, "number": 0.5 if aspect.dimension else 0.15, "yes/no": 0.0}.get(
        aspect.answer, 0.15
    )
    if rng.random() > prose:
        return Fact(key.capitalize() if rng.random() < 0.5 else key, value)
    forms = [
        f"The {key} is {value}.",
        f"Its {key} is {value}.",
        f"{key.capitalize()} {value}.",
        f"{value} ({key}).",
    ]
    if aspect.dimension:
        forms = [*forms[:2], f"{value}.", f"About {value}.", f"{value} ({value})."]
    return Fact("", rng.choice(forms))


def beside_the_point(aspect: QuestionType, rng: random.Random) -> str:
    """A sentence that speaks of what is asked and does not tell it."""
    key = rng.choice([key for key in aspect.keys if key.isascii()])
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


def real(lab: Lab, entities: int = 8, without: str = "") -> list[Example]:
    """The sets' questions and paraphrases on a few entities each, with the bank's knowledge and
    without."""
    rng = random.Random(1)
    found = []
    for asked in lab.asked:
        if asked.dataset not in LEARNT_FROM or asked.template == without:
            continue
        answers = lab.answers[asked.dataset, asked.template]
        hidden = lab.hidden(asked.template)
        for skip, share in ((None, 1.0), (hidden, 0.5)):
            for entity in rng.sample(sorted(answers), int(min(entities, len(answers)) * share)):
                facts = lab.facts[asked.dataset, entity]
                right = stating(facts, answers[entity])
                if not right:
                    continue
                if rng.random() < 0.12:
                    facts, right = [fact for i, fact in enumerate(facts) if i not in right], []
                found.append(lab.example(asked.text, facts, right, skip, asked.template))
    return found


def stating(facts: Sequence[Fact], answers: Sequence[str]) -> list[int]:
    """The facts that state one of the answers; those with a key, if there are any."""
    found = [
        i
        for i, fact in enumerate(facts)
        if any(is_right(fact.value, [a]) or a in fact.value for a in answers)
    ]
    return [i for i in found if facts[i].key] or found


def fit(
    examples: Sequence[Example], weights: Sequence[float], ridge: float = 1e-3
) -> dict[str, float]:
    """A softmax over the facts and "none", by L-BFGS; several right facts share the credit."""
    import torch

    longest = max(len(e.features) for e in examples)
    x = torch.zeros(len(examples), longest, len(FEATURES))
    there = torch.zeros(len(examples), longest + 1, dtype=torch.bool)
    right = torch.zeros(len(examples), longest + 1, dtype=torch.bool)
    there[:, -1] = True
    for i, example in enumerate(examples):
        count = len(example.features)
        x[i, :count] = torch.from_numpy(example.features).float()
        there[i, :count] = True
        right[i, list(example.right) or [longest]] = True
    share = torch.tensor(weights) / sum(weights)
    beta = torch.zeros(len(FEATURES) + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([beta], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        scores = torch.cat([x @ beta[:-1], beta[-1].expand(len(examples), 1)], 1).masked_fill(
            ~there, -1e9
        )
        credit = torch.logsumexp(torch.log_softmax(scores, 1).masked_fill(~right, -1e9), 1)
        value = -(share * credit).sum() + ridge * (beta[:-1] ** 2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    return dict(zip((*FEATURES, "none"), [round(float(b), 4) for b in beta.detach()], strict=True))


def fitted(lab: Lab, invented: Sequence[Example], examples: Sequence[Example]) -> Reader:
    """A reader learnt from both, each of half the weight."""
    weights = [1 / len(invented)] * len(invented) + [1 / len(examples)] * len(examples)
    return Reader(lab.vectors, lab.bank, fit([*invented, *examples], weights))


def score(
    lab: Lab, reader: Reader, asked: Asked, skip: np.ndarray | None = None, entities: int = 10
) -> list[bool]:
    """Whether the answers to one question on up to ten entities are right."""
    answers = lab.answers[asked.dataset, asked.template]
    names = sorted(answers)
    random.Random(0).shuffle(names)
    question = understand(asked.text, reader.units, lab.encoder.gloss(asked.text))
    about = reader.about(question, skip)
    found = []
    for name in names[:entities]:
        read = reader.read(question, lab.facts[asked.dataset, name], about)
        text = phrase(question, read.fact, about, reader) if read.fact else ""
        found.append(
            is_right(text, answers[name]) or is_turned_round(asked.text, text, answers[name])
        )
    return found


def is_turned_round(question: str, text: str, answers: Sequence[str]) -> bool:
    """Paraphrases of "landlocked?" that ask for the opposite ("access to the sea"): there the other
    answer is right."""
    return (
        question in TURNED_ROUND and {"yes": "no", "no": "yes"}.get(answers[0], "") in text.split()
    )


def others(lab: Lab, reader: Reader, entities: int = 10) -> dict[str, list[bool]]:
    """Questions that no template asks, by set."""
    found: dict[str, list[bool]] = {}
    for row in read_lines(QUESTIONS / "unasked.jsonl"):
        question = understand(row["question"], reader.units, lab.encoder.gloss(row["question"]))
        about = reader.about(question)
        names = sorted(name for dataset, name in lab.facts if dataset == row["set"])
        random.Random(0).shuffle(names)
        for name in names[: entities * 4]:
            facts = lab.facts[row["set"], name]
            wanted = [f for f in facts if states(f, row["field"])]
            if wanted and len(found.get(f"{row['question']}", [])) < entities:
                read = reader.read(question, facts, about)
                text = phrase(question, read.fact, about, reader) if read.fact else ""
                count = (
                    str(len(wanted[0].value.split(", ")))
                    if row["field"].startswith("count:")
                    else ""
                )
                right = text.split(" ")[0] == count if count else read.fact in wanted
                found.setdefault(row["question"], []).append(right)
    return found


def states(fact: Fact, field: str) -> bool:
    """Whether a fact is the one that a question of `unasked.jsonl` asks for: its key, or words of
    its sentence."""
    kind, _, words = field.rpartition(":")
    if kind == "sentence":
        return not fact.key and any(word in fact.value.lower() for word in words.split("|"))
    return fact.key.lower() == words.replace("_", " ").lower() or (
        not fact.key and words in fact.value.split()
    )


def report(
    lab: Lab, invented: Sequence[Example], examples: Sequence[Example], reader: Reader
) -> list[dict[str, Any]]:
    """Rows of the table: kind of question, set, n, share right with its interval, how many
    questions are read well."""
    rows: dict[tuple[str, str], list[list[bool]]] = {}
    for asked in lab.asked:
        rows.setdefault((asked.kind, asked.dataset), []).append(score(lab, reader, asked))
    for dataset, template in lab.answers:
        left = [e for e in examples if e.template != template]
        other = fitted(lab, invented, left) if dataset in LEARNT_FROM else reader
        for asked in (a for a in lab.asked if a.template == template):
            kind = f"{asked.kind}; fitted without it"
            rows.setdefault((kind, dataset), []).append(score(lab, other, asked))
            kind = f"{asked.kind}; unknown to the bank too"
            rows.setdefault((kind, dataset), []).append(
                score(lab, other, asked, lab.hidden(template))
            )
    for question, right in others(lab, reader).items():
        rows.setdefault(("asked by no template", "all"), []).append(right)
        if np.mean(right) < 0.9:
            print(f"  {np.mean(right):.2f} {question}")
    table = []
    for (kind, dataset), some in sorted(rows.items()):
        flat = [r for one in some for r in one]
        low, high = wilson(sum(flat), len(flat))
        table.append({"questions": kind, "set": dataset, "strings": len(some), "n": len(flat),
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
    lab = Lab(DualEncoder.load("starter"), options.data)
    invented, examples = made_up(lab, 2500) + made_up_captions(lab, 250), real(lab)
    reader = fitted(lab, invented, examples)
    if options.write:
        WEIGHTS.write_text(json.dumps(reader.weights, indent=1) + "\n", encoding="utf-8")
    if options.verbose:
        for asked in lab.asked:
            right = score(lab, reader, asked)
            if np.mean(right) < 0.9:
                print(f"  {np.mean(right):.2f} {asked.text}")
    rows = report(lab, invented, examples, reader) if options.json else []
    for row in rows:
        print(f"{row['questions']:50}{row['set']:20}{row['strings']:>4}{row['n']:>6}{row['right']:>8.1%}"
              f"  {row['low']:.1%}-{row['high']:.1%}")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
