"""Questions about photos of groceries, with and without the words printed on them.

    python -m benchmarks.printed_words [--data FOLDER] [--work FOLDER] [--others 4] [--json FILE]

There are two kinds of bases. "cards" has one entry for each product, with an iconic picture;
questions are about all photos. "photos" also has half of the photos; questions are about the other
half, then the reverse. Three arms are compared: nothing is read, the photo of the question is read,
and, with cards, their pictures are read too (`ocr="always"`). Packages carry print, other products
do not: of the photos of these, every N-th of `--others N` is used. Settings were chosen on the
products with even numbers ("fitted"); those with odd numbers are "unseen". Intervals are of the
paired difference, resampled by photo.

Abstention: the base lacks a third of the products, and their photos should be declined. It still
has products of the same brands.

Recognized text is cached in `--work`: a run takes about ten minutes of one core the first time,
then five.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.data import DATA, read_lines
from benchmarks.question_sets import Item, grocery_text, is_right, read_items
from benchmarks.reports import interval_values, write_json
from ravlm import DualEncoder, Entry, KnowledgeBase, RetrievalAugmentedVLM
from ravlm.encoders.base import Encoder
from ravlm.metrics.statistics import PairedScores
from ravlm.ocr.auto import ENGINES
from ravlm.ocr.base import OcrOptions, TextRecognizer
from ravlm.ocr.cache import RecognitionCache
from ravlm.ocr.rapidocr import RapidOcrRecognizer
from ravlm.records import Score
from ravlm.regions import Region
from ravlm.retrieval.query import RetrievalQuery
from ravlm.retrieval.retriever import Retriever

NOTHING, QUESTION, BOTH = "nothing", "the photo of the question", "both"
ARMS = {"cards": (NOTHING, QUESTION, BOTH), "photos": (NOTHING, QUESTION)}
"""What is read, by the kind of base."""
ENGINE = "rapidocr, cached"
KINDS = {"packages": True, "other products": False}
PARTS = {"fitted": (0,), "unseen": (1,), "all": (0, 1)}
"""Name -> the remainders of the products' numbers by two."""
REMOVED_SHARE = 1 / 3
ABSTENTION = "abstention"


class CachedRecognizer(TextRecognizer):
    """RapidOCR with a cache of its results by the pixels of the image."""

    def __init__(self, folder: Path) -> None:
        self._recognizer = RapidOcrRecognizer()
        self.name, self.fingerprint = ENGINE, self._recognizer.fingerprint
        self._cache = RecognitionCache(f"{self.fingerprint} pixels", folder)

    def recognize(self, images: Sequence[Image.Image]) -> list[list[Region]]:
        keys = [
            hashlib.sha256(f"{image.size}".encode() + image.convert("RGB").tobytes()).hexdigest()
            for image in images
        ]
        results = self._cache.get(keys)
        for key, image in zip(keys, images, strict=True):
            if key not in results:
                results[key] = self._recognizer.recognize([image])[0]
                self._cache.put({key: results[key]})
        return [results[key] for key in keys]


@dataclass(frozen=True)
class Groceries:
    """Products, their photos, and questions about these."""

    folder: Path
    products: dict[str, dict[str, object]]
    photos: list[tuple[str, str]]
    """Path and product."""
    questions: dict[str, list[Item]]
    """Path of a photo -> the questions about it."""

    @staticmethod
    def read(data: Path) -> Groceries:
        folder = data / "grocery_store"
        products = {row["name"]: row for row in read_lines(folder / "entities.jsonl")}
        rows = read_lines(folder / "metadata.jsonl")
        questions: dict[str, list[Item]] = {}
        for split in ("train", "val"):
            for item in read_items(folder, split):
                questions.setdefault(str(item.image), []).append(item)
        photos = [(str(folder / row["image"]), row["facts"]["entity"]) for row in rows]
        return Groceries(folder, products, photos, questions)

    def entries(self, photos: Sequence[tuple[str, str]], without: set[str]) -> list[Entry]:
        """Return a card for each product with its iconic picture, and an entry for each photo."""
        pictures = [(str(self.folder / str(p["image"])), name) for name, p in self.products.items()]
        return [
            Entry(Path(image).stem, image, (grocery_text(self.products[name]),), {"name": name})
            for image, name in (*pictures, *photos)
            if name not in without
        ]

    def is_package(self, product: str) -> bool:
        return self.products[product]["kind"] == "Packages"

    def number(self, product: str) -> int:
        return int(str(self.products[product]["id"]))

    def half(self, index: int) -> list[tuple[str, str]]:
        """Return every second photo of each product."""
        counts: dict[str, int] = {}
        chosen = []
        for photo, product in self.photos:
            counts[product] = counts.get(product, 0) + 1
            if counts[product] % 2 == index:
                chosen.append((photo, product))
        return chosen

    def sample(self, photos: Sequence[tuple[str, str]], step: int) -> list[tuple[str, str]]:
        """Return the photos of packages, and one in `step` of the others."""
        others = [row for row in photos if not self.is_package(row[1])]
        return [row for row in photos if self.is_package(row[1])] + others[::step]


class Outcome(NamedTuple):
    """What each arm answered to a question."""

    photo: str
    product: str
    right: tuple[bool, ...]
    answered: tuple[bool, ...]


class Base(NamedTuple):
    """Entries, and the photos of the questions."""

    kind: str
    name: str
    entries: list[Entry]
    photos: list[tuple[str, str]]


def bases(groceries: Groceries, kind: str, without: set[str]) -> Iterator[Base]:
    """Yield the bases of a kind."""
    if kind == "cards":
        yield Base(kind, "cards", groceries.entries([], without), groceries.photos)
        return
    for fold in (0, 1):
        stored = groceries.entries(groceries.half(1 - fold), without)
        yield Base(kind, f"photos {fold}", stored, groceries.half(fold))


def ask(
    base: Base, groceries: Groceries, encoder: Encoder, folder: Path, step: int
) -> list[Outcome]:
    """Ask all questions about the photos of a base in each arm."""
    photos = groceries.sample(base.photos, step)
    items = [item for photo, _ in photos for item in groceries.questions[photo]]
    results = []
    for arm in ARMS[base.kind]:
        start = time.perf_counter()
        stored = OcrOptions("always", ENGINE) if arm == BOTH else OcrOptions("never")
        with KnowledgeBase.build(
            folder / f"{base.name}, {arm == BOTH}", base.entries, encoder=encoder, ocr=stored
        ) as kb:
            ocr = OcrOptions("never" if arm == NOTHING else "auto", ENGINE)
            model = RetrievalAugmentedVLM(kb, ocr=ocr)
            answers = model.ask([i.question for i in items], image=[i.image for i in items])
        results.append(
            [
                (not a.abstained and is_right(a.text, i.answers), not a.abstained)
                for i, a in zip(items, answers, strict=True)
            ]
        )
        print(f"{base.name}, {arm}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return [
        Outcome(str(item.image), item.entity, tuple(r for r, _ in arms), tuple(a for _, a in arms))
        for item, arms in zip(items, zip(*results, strict=True), strict=True)
    ]


def differences(
    outcomes: Sequence[Outcome], groceries: Groceries, arms: Sequence[str]
) -> dict[str, object]:
    """Return the share of right answers of each arm, and its difference from the first one."""
    report: dict[str, object] = {}
    for kind, is_package in KINDS.items():
        for part, remainders in PARTS.items():
            rows = [
                row
                for row in outcomes
                if groceries.is_package(row.product) == is_package
                and groceries.number(row.product) % 2 in remainders
            ]
            if not rows:
                continue
            right = np.array([row.right for row in rows], float)
            scores = [Score(float(x.mean()), tuple(x.tolist()), "right") for x in right.T]
            paired = PairedScores(scores, 2000, groups=[row.photo for row in rows])
            report[f"{kind}, {part}"] = {
                "photos": len({row.photo for row in rows}),
                "questions": len(rows),
                "right, %": dict(zip(arms, np.round(100 * right.mean(axis=0), 1), strict=True)),
                "answered, %": dict(
                    zip(
                        arms,
                        np.round(100 * np.mean([row.answered for row in rows], axis=0), 1),
                        strict=True,
                    )
                ),
                "difference, points": {
                    arm: interval_values(paired.difference(0, index), 100, 1)
                    for index, arm in enumerate(arms)
                    if index
                },
            }
    return report


def abstention(
    groceries: Groceries, encoder: Encoder, folder: Path, step: int
) -> dict[str, object]:
    """Return the share of photos of absent and of present products that are taken for known, with
    and without reading."""
    names = sorted(groceries.products)
    report: dict[str, object] = {}
    for number, kind in enumerate(("cards", "photos")):
        rng = random.Random(number)
        without = set(rng.sample(names, round(len(names) * REMOVED_SHARE)))
        base = next(bases(groceries, kind, without))
        photos = groceries.sample(base.photos, step)
        with KnowledgeBase.build(
            folder / f"{kind} without", base.entries, encoder=encoder, ocr="never"
        ) as kb:
            for ocr in ("never", "auto"):
                retriever = Retriever(kb, ocr=OcrOptions(ocr, ENGINE))
                report |= {
                    f"{kind}, {key}, {ocr}": value
                    for key, value in _known(retriever, photos, without, groceries).items()
                }
    return report


def _known(
    retriever: Retriever,
    photos: Sequence[tuple[str, str]],
    without: set[str],
    groceries: Groceries,
) -> dict[str, float]:
    """Return the percentage of photos of each group that are taken for known."""
    queries = [RetrievalQuery("Which product is shown?", image) for image, _ in photos]
    known = [evidence.sufficient for evidence in retriever.retrieve(queries, k=4)]
    groups: dict[str, list[bool]] = {}
    for (_, product), is_known in zip(photos, known, strict=True):
        kind = "packages" if groceries.is_package(product) else "other products"
        present = "absent" if product in without else "present"
        groups.setdefault(f"{kind}, {present}", []).append(is_known)
    return {name: round(100 * float(np.mean(rows)), 1) for name, rows in groups.items()}


def main() -> None:
    """Parse the options, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "ravlm-printed-words"
    )
    parser.add_argument(
        "--others", type=int, default=4, metavar="N", help="use every N-th other photo"
    )
    parser.add_argument(
        "--only", nargs="*", choices=(*ARMS, ABSTENTION), default=(*ARMS, ABSTENTION)
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ENGINES[ENGINE] = lambda: CachedRecognizer(options.work)
    encoder = DualEncoder.load("starter")
    groceries = Groceries.read(options.data)
    report: dict[str, object] = {"encoder": encoder.fingerprint[:12]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ARMS.keys() & set(options.only):
            outcomes = [
                row
                for base in bases(groceries, kind, set())
                for row in ask(base, groceries, encoder, folder, options.others)
            ]
            report[kind] = differences(outcomes, groceries, ARMS[kind])
            print(json.dumps(report[kind], indent=1), file=sys.stderr)
        if ABSTENTION in options.only:
            report["taken for known, %"] = abstention(groceries, encoder, folder, options.others)
    print(json.dumps(report, indent=1))
    write_json(report, options.json)


if __name__ == "__main__":
    main()
