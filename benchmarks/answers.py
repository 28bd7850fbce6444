"""How many questions are answered right: the table of docs/answers.md, as text and JSON.

    python benchmarks/answers.py [--data FOLDER] [--json FILE] [--only grocery flags butterflies
    absent words ...]

Bases are made of the real pictures as their README says; every row stands beside the closed book
and the most frequent answer to the same question. An answer is right when, normalised, it contains
one of the reference answers and is at most a dozen words longer. Only development data is read."""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from ravlm import Answer, DualEncoder, Entry, KnowledgeBase, RetrievalAugmentedVLM
from ravlm.generation.extractive.generator import right_features
from ravlm.metrics import expected_calibration_error
from ravlm.records import ImageSource

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
TURNED_ROUND = ("Does this country have access to the sea?",)
"""Paraphrases whose right answer is the opposite of their template's."""
SET_OF = {
    "grocery": "groceries", "paraphrases: grocery_store": "groceries", "flags": "flags",
    "paraphrases: country_flags": "flags", "butterflies": "butterflies", "absent": "butterflies",
    "paraphrases: leeds_butterflies": "butterflies", "words alone": "words",
}  # fmt: skip
"""Groups of answers, and the set that each is of."""
JUDGED: dict[str, list[tuple[float, list[float], bool]]] = {}
"""Of each group's answers: confidence, what it is made of, whether it is right."""
FLAG_KEYS = (
    "entity", "official_name", "capital", "region", "subregion", "languages", "currencies", "borders", "area_km2",
    "landlocked", "demonym", "independent", "un_member",
)  # fmt: skip


@dataclass(frozen=True)
class Item:
    """A question about a picture."""

    question: str
    answers: tuple[str, ...]
    image: ImageSource
    entity: str
    template: str


@dataclass(frozen=True)
class Row:
    """A line of the table: shares with their n and 95 % interval (Wilson)."""

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


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def said(value: Any) -> str:
    """A fact as it stands in an entry's text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def grocery(data: Path) -> tuple[list[Entry], list[Item], list[Item]]:
    """Entries (iconic and train photos), the questions about val photos, and those about train
    photos."""
    folder = data / "grocery_store"
    products = {p["name"]: p for p in read_lines(folder / "entities.jsonl")}
    texts = {name: grocery_text(product) for name, product in products.items()}
    entries = [
        Entry(f"icon-{n}", str(folder / p["image"]), (texts[n],), {"name": n})
        for n, p in products.items()
    ]
    for photo in read_lines(folder / "metadata.jsonl"):
        if photo["split"] == "train":
            name, image = photo["facts"]["entity"], folder / photo["image"]
            entries.append(Entry(image.stem, str(image), (texts[name],), {"name": name}))
    return entries, items(folder, "val"), items(folder, "train")


def flags(data: Path) -> tuple[list[Entry], list[Item], list[Item]]:
    """Entries (all countries), the questions about a quarter of them (pictures changed), and those
    about the rest."""
    folder = data / "country_flags"
    countries = read_lines(folder / "metadata.jsonl")
    entries = []
    for country in countries:
        facts, image = country["facts"], folder / country["image"]
        entries.append(Entry(image.stem, str(image), (flag_text(facts),)))
    names = sorted(country["facts"]["entity"] for country in countries)
    dev = set(random.Random(0).sample(names, len(names) // 4))
    every = items(folder, "train", cropped_and_dark)
    return entries, [i for i in every if i.entity in dev], [i for i in every if i.entity not in dev]


def flag_text(facts: Mapping[str, Any]) -> str:
    """A country's facts, a line each; what it has none of is left out."""
    return "\n".join(
        f"{key.replace('_', ' ')}: {said(facts[key])}"
        for key in FLAG_KEYS
        if said(facts.get(key, ""))
    )


def butterflies(data: Path) -> tuple[list[Entry], list[Item], list[Item]]:
    """Entries (three quarters of the photos), the questions about the other quarter, and those
    about the entries."""
    folder = data / "leeds_butterflies"
    photos = read_lines(folder / "metadata.jsonl")
    dev = set(random.Random(0).sample(sorted(p["image"] for p in photos), len(photos) // 4))
    entries = []
    for photo in photos:
        text = butterfly_text(photo["facts"])
        if photo["image"] not in dev:
            entries.append(Entry(Path(photo["image"]).stem, str(folder / photo["image"]), (text,)))
    every = items(folder, "train")
    asked = [i for i in every if str(Path(str(i.image)).relative_to(folder)) in dev]
    return entries, asked, [i for i in every if i not in set(asked)]


def butterfly_text(facts: Mapping[str, Any]) -> str:
    return f"Common name: {facts['common_name']}\nScientific name: {facts['scientific_name']}\n{facts['description']}"


def grocery_text(product: Mapping[str, Any]) -> str:
    lines = (
        f"Name: {product['name']}",
        f"Kind: {product['coarse']}",
        f"Category: {product['kind']}",
    )
    return "\n".join((*lines, product["description"], product["information"]))


def items(folder: Path, split: str, change: Callable[[Path], ImageSource] = str) -> list[Item]:
    """The questions of a set's split; pictures go through `change`, each once."""
    changed: dict[str, ImageSource] = {}
    found = []
    for row in read_lines(folder / "qa.jsonl"):
        if row["split"] == split:
            if row["image"] not in changed:
                changed[row["image"]] = change(folder / row["image"])
            answers = tuple(a for a in row["answers"] if a)
            found.append(
                Item(
                    row["question"], answers, changed[row["image"]], row["entity"], row["question"]
                )
            )
    return found


def cropped_and_dark(path: Path) -> Image.Image:
    """The middle 85 % of each side, at 60 % brightness."""
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    width, height = image.size
    x, y = round(width * 0.075), round(height * 0.075)
    return ImageEnhance.Brightness(image.crop((x, y, width - x, height - y))).enhance(0.6)


def normalised(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def is_right(answer: str, references: Sequence[str]) -> bool:
    given = normalised(answer)
    wanted = [normalised(reference) for reference in references]
    return any(
        f" {w} " in f" {given} " and len(given.split()) - len(w.split()) <= 12 for w in wanted if w
    )


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    if n == 0:
        return 0.0, 1.0
    z, p = 1.96, hits / n
    middle, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def most_frequent(asked: Sequence[Item], seen: Sequence[Item]) -> float:
    """The share right if every question got the answer that is most frequent for it among
    `seen`."""
    counts: dict[str, Counter[str]] = {}
    for item in seen:
        counts.setdefault(item.template, Counter()).update(item.answers)
    best = {template: counter.most_common(1)[0][0] for template, counter in counts.items()}
    return sum(is_right(best.get(i.template, ""), i.answers) for i in asked) / len(asked)


def row_of(
    name: str,
    asked: Sequence[Item],
    answers: Sequence[Answer],
    seconds: float,
    closed: Sequence[Answer],
    base: float,
) -> Row:
    right = [
        is_right(a.text, i.answers) and not a.abstained for i, a in zip(asked, answers, strict=True)
    ]
    answered = sum(not a.abstained for a in answers)
    without = sum(is_right(a.text, i.answers) for i, a in zip(asked, closed, strict=True)) / len(
        asked
    )
    low, high = wilson(sum(right), len(asked))
    if not name.startswith(" "):
        group = name.split(", " if name.startswith("paraphrases") else ":")[0]
        JUDGED.setdefault(group, []).extend(
            (a.confidence, sureness(a), r)
            for a, r in zip(answers, right, strict=True)
            if not a.abstained
        )
    return Row(
        name, len(asked), sum(right) / len(asked), low, high, answered / len(asked),
        sum(right) / max(answered, 1), without, base, seconds / len(asked), calibration(answers, right),
        (answered - sum(right)) / len(asked),
    )  # fmt: skip


def sureness(answer: Answer) -> list[float]:
    """What an answer's confidence is made of; see `how_likely_right`."""
    return right_features(*(answer.trace[name] for name in ("known", "agreement", "read well")))


def refit(groups: Sequence[str]) -> np.ndarray:
    """The weights of `how_likely_right` by logistic regression (Newton's method) on these groups,
    all of one weight."""
    rows = [(*features, 1.0) for group in groups for _, features, _ in JUDGED[group]]
    x, y = (
        np.array(rows),
        np.array([float(right) for group in groups for _, _, right in JUDGED[group]]),
    )
    w = np.concatenate(
        [np.full(len(JUDGED[group]), 1 / len(groups) / len(JUDGED[group])) for group in groups]
    )
    ridge = np.diag([1e-3] * (x.shape[1] - 1) + [1e-9])
    beta = np.zeros(x.shape[1])
    for _ in range(40):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -30, 30)))
        hessian = (x * (w * p * (1 - p))[:, None]).T @ x + ridge
        beta -= np.linalg.solve(hessian, x.T @ (w * (p - y)) + ridge @ beta)
    return beta


def confidence_report() -> dict[str, Any]:
    """How far confidence is from the share that is right, a group: as answered, and with weights
    that were fitted to the other sets alone."""
    found: dict[str, Any] = {
        "weights, fitted anew": [round(v, 3) for v in refit(list(JUDGED)).tolist()]
    }
    for group, judged in JUDGED.items():
        others = [g for g in JUDGED if SET_OF[g] != SET_OF[group]]
        beta = refit(others)
        truth = [float(right) for _, _, right in judged]
        unseen = [1 / (1 + math.exp(-float(beta @ [*features, 1.0]))) for _, features, _ in judged]
        found[group] = {
            "answered": len(judged),
            "right": sum(truth) / len(truth),
            "confidence": sum(c for c, _, _ in judged) / len(truth),
            "calibration error": expected_calibration_error([c for c, _, _ in judged], truth).value,
            "fitted to the other sets": expected_calibration_error(unseen, truth).value,
        }
    return found


def calibration(answers: Sequence[Answer], right: Sequence[bool]) -> float | None:
    sure = [(a.confidence, r) for a, r in zip(answers, right, strict=True) if not a.abstained]
    return expected_calibration_error(*zip(*sure, strict=True)).value if sure else None


def ask(model: RetrievalAugmentedVLM, asked: Sequence[Item], k: int | None = None) -> list[Answer]:
    return model.ask([i.question for i in asked], image=[i.image for i in asked], k=k)  # type: ignore[return-value]


Made = tuple[list[Entry], list[Item], list[Item]]


def measure(name: str, made: Made, encoder: DualEncoder, folder: Path) -> list[Row]:
    """The rows of one set: all questions, and each question string."""
    entries, asked, seen = made
    with KnowledgeBase.build(folder / name, entries, encoder=encoder) as kb:
        model = RetrievalAugmentedVLM(kb)
        ask(model, asked[:1])  # the calibration is made once for a base, and counted apart
        began = time.perf_counter()
        answers = ask(model, asked)
        seconds = time.perf_counter() - began
        closed = ask(model, asked, k=0)
    rows = [row_of(name, asked, answers, seconds, closed, most_frequent(asked, seen))]
    for template in dict.fromkeys(i.template for i in asked):
        at = [j for j, i in enumerate(asked) if i.template == template]
        part = [asked[j] for j in at]
        share = seconds * len(at) / len(asked)
        base = most_frequent(part, seen)
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


def measure_absent(data: Path, encoder: DualEncoder, folder: Path, draws: int = 4) -> list[Row]:
    """Butterflies with three species taken out of the base: questions about those, and about the
    others."""
    entries, asked, seen = butterflies(data)
    species = sorted({i.entity for i in asked})
    gone_rows: list[tuple[Item, Answer]] = []
    kept_rows: list[tuple[Item, Answer]] = []
    for draw in range(draws):
        gone = set(random.Random(draw).sample(species, 3))
        kept = [
            e for e in entries if e.text.splitlines()[0].removeprefix("Common name: ") not in gone
        ]
        with KnowledgeBase.build(folder / f"absent{draw}", kept, encoder=encoder) as kb:
            answers = ask(RetrievalAugmentedVLM(kb), asked)
        for item, answer in zip(asked, answers, strict=True):
            (gone_rows if item.entity in gone else kept_rows).append((item, answer))
    base = most_frequent(asked, seen)
    return [
        row_of(
            name, [i for i, _ in some], [a for _, a in some], 0.0, [Answer("")] * len(some), base
        )
        for name, some in (
            ("absent: 3 species taken out", gone_rows),
            ("absent: the other species", kept_rows),
        )
    ]


WORDED = (
    ("What is the capital of {}?", "capital"), ("Which languages are spoken in {}?", "languages"),
    ("What money do they use in {}?", "currencies"), ("{}的首都是哪里？", "capital"), ("What is {} made of?", ""),
)  # fmt: skip


def measure_words(data: Path, encoder: DualEncoder, folder: Path) -> list[Row]:
    """Questions without a picture, about countries that are in the base and about others; the last
    has no answer."""
    countries = [row["facts"] for row in read_lines(data / "country_flags" / "metadata.jsonl")]
    random.Random(1).shuffle(countries)
    half = len(countries) // 2
    entries = [
        Entry(f"c{i}", None, (flag_text(facts),)) for i, facts in enumerate(countries[:half])
    ]
    rows = []
    with KnowledgeBase.build(folder / "words", entries, encoder=encoder) as kb:
        model = RetrievalAugmentedVLM(kb)
        for name, some in (
            ("in the base", countries[:half:3]),
            ("not in the base", countries[half::3]),
        ):
            for known in (True, False):
                asked = [
                    Item(q.format(f["entity"]), tuple(f[key]) if key else (), "", f["entity"], q)
                    for f in some for q, key in WORDED if bool(key) == known and (not key or f[key])
                ]  # fmt: skip
                began = time.perf_counter()
                answers = model.ask([item.question for item in asked])
                seconds = time.perf_counter() - began
                title = f"words alone: {name}" + ("" if known else ", asked what no line says")
                rows.append(row_of(title, asked, answers, seconds, [Answer("")] * len(asked), 0.0))
    return rows


def measure_paraphrases(
    data: Path, encoder: DualEncoder, folder: Path, pictures: int = 3
) -> list[Row]:
    """Every paraphrase of `questions/` about a few pictures of its set."""
    rows = []
    written = read_lines(Path(__file__).parent / "questions" / "paraphrases.jsonl")
    for name, maker in (
        ("grocery_store", grocery),
        ("country_flags", flags),
        ("leeds_butterflies", butterflies),
    ):
        entries, asked, seen = maker(data)
        items: dict[str, list[Item]] = {"en": [], "zh": []}
        for row in (
            row for row in written if row["set"] == name and row["question"] not in TURNED_ROUND
        ):
            of_template = [item for item in asked if item.template == row["template"]]
            for item in random.Random(row["question"]).sample(
                of_template, min(pictures, len(of_template))
            ):
                items[row["language"]].append(replace(item, question=row["question"]))
        with KnowledgeBase.build(folder / f"said-{name}", entries, encoder=encoder) as kb:
            model = RetrievalAugmentedVLM(kb)
            for language, some in items.items():
                began = time.perf_counter()
                answers = ask(model, some)
                seconds = time.perf_counter() - began
                base = most_frequent(some, seen)
                closed = ask(model, some, k=0)
                rows.append(
                    row_of(f"paraphrases: {name}, {language}", some, answers, seconds, closed, base)
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


SETS = {"grocery": grocery, "flags": flags, "butterflies": butterflies}
EXTRA = {"absent": measure_absent, "words": measure_words, "paraphrases": measure_paraphrases}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="*", default=[*SETS, *EXTRA])
    options = parser.parse_args()
    encoder = DualEncoder.load("starter")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            if name in EXTRA:
                rows += EXTRA[name](options.data, encoder, Path(folder))
            else:
                rows += measure(name, SETS[name](options.data), encoder, Path(folder))
            print(f"{name} done", file=sys.stderr)
    print(table(rows))
    sure = confidence_report() if set(JUDGED) == set(SET_OF) else {}
    for group, values in sure.items():
        print(group, values)
    if options.json:
        about = {
            "encoder": encoder.fingerprint[:12],
            "machine": platform.processor() or platform.machine(),
        }
        whole = {**about, "confidence": sure, "rows": [asdict(r) for r in rows]}
        options.json.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
