"""Questions to fit and measure the reader on: generated ones, and those of the question sets."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.data import QUESTIONS, read_lines
from benchmarks.question_sets import butterfly_text, flag_text, grocery_text, is_right
from ravlm import Entry
from ravlm.data.facts import Fact, read_facts
from ravlm.encoders.base import Encoder
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.question_types import (
    NAME,
    QuestionType,
    QuestionTypeBank,
    read_question_types,
)
from ravlm.generation.extractive.questions import parse_question
from ravlm.generation.extractive.reader import FEATURES, FactReader

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

    def __init__(self, encoder: Encoder, data: Path, entities: int = 10) -> None:
        """`entities`: how many entities each question is asked about, at most."""
        self.encoder = encoder
        self.vectors = EmbeddingCache(encoder.short_text_encoder, max_texts=200_000)
        self.entities = entities
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
        distractors = [
            i
            for i, a in enumerate(types)
            if i != target and not set(a.keys) & set(types[target].keys)
        ]
        rows = rng.sample(distractors, rng.randint(3, 11))
        rows += [target] if rng.random() > 1 / 6 else []
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


def set_examples(lab: ReaderLab, entities: int = 8) -> list[Example]:
    """Return the sets' questions and paraphrases on a few entities each, with and without their
    question types in the bank."""
    rng = random.Random(1)
    results = []
    for item in lab.questions:
        if item.dataset not in FITTED_SETS:
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
