"""Questions about real images, and the entries that answer them: groceries, flags, butterflies."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageEnhance

from benchmarks.data import read_lines
from ravlm import Entry
from ravlm.records import ImageSource

FLAG_KEYS = (
    "entity", "official_name", "capital", "region", "subregion", "languages", "currencies",
    "borders", "area_km2", "landlocked", "demonym", "independent", "un_member",
)  # fmt: skip
OPPOSITE_PARAPHRASES = ("Does this country have access to the sea?",)
"""Paraphrases whose right answer is the opposite of their template's."""


@dataclass(frozen=True)
class Item:
    """A question about an image."""

    question: str
    answers: tuple[str, ...]
    image: ImageSource
    entity: str
    template: str


class Dataset(NamedTuple):
    """Entries, and questions about images of which none is among them."""

    entries: list[Entry]
    entities: list[str]
    """What each entry shows."""
    queries: list[Item]
    train_items: list[Item]
    """Questions on other images, for the most frequent answer."""

    def limited(self, count: int | None) -> Dataset:
        """Return the questions on a sample of so many entities, and the entries on these."""
        names = sorted({item.entity for item in self.queries})
        if count is None or count >= len(names):
            return self
        sample = set(random.Random(0).sample(names, count))
        kept = [i for i, entity in enumerate(self.entities) if entity in sample]
        return Dataset(
            [self.entries[i] for i in kept],
            [self.entities[i] for i in kept],
            [item for item in self.queries if item.entity in sample],
            self.train_items,
        )


def fact_text(value: Any) -> str:
    """Return a fact as written in an entry's text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def grocery(data: Path) -> Dataset:
    """Return entries (iconic and train photos), questions on val photos, and on train photos."""
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
    entities = [str(entry.metadata["name"]) for entry in entries]
    return Dataset(entries, entities, read_items(folder, "val"), read_items(folder, "train"))


def flags(data: Path) -> Dataset:
    """Return entries (all countries), questions on a quarter of them with changed images, and on
    the rest."""
    folder = data / "country_flags"
    countries = read_lines(folder / "metadata.jsonl")
    entries = []
    for country in countries:
        facts, image = country["facts"], folder / country["image"]
        entries.append(Entry(image.stem, str(image), (flag_text(facts),)))
    names = sorted(country["facts"]["entity"] for country in countries)
    dev = set(random.Random(0).sample(names, len(names) // 4))
    every = read_items(folder, "train", cropped_and_dark)
    return Dataset(
        entries,
        [country["facts"]["entity"] for country in countries],
        [item for item in every if item.entity in dev],
        [item for item in every if item.entity not in dev],
    )


def flag_text(facts: Mapping[str, Any]) -> str:
    """Return a country's facts, one per line, without empty ones."""
    return "\n".join(
        f"{key.replace('_', ' ')}: {fact_text(facts[key])}"
        for key in FLAG_KEYS
        if fact_text(facts.get(key, ""))
    )


def butterflies(data: Path) -> Dataset:
    """Return entries (three quarters of the photos), questions on the other quarter, and on the
    entries."""
    folder = data / "leeds_butterflies"
    photos = read_lines(folder / "metadata.jsonl")
    dev = set(random.Random(0).sample(sorted(p["image"] for p in photos), len(photos) // 4))
    entries, entities = [], []
    for photo in photos:
        text = butterfly_text(photo["facts"])
        if photo["image"] not in dev:
            entries.append(Entry(Path(photo["image"]).stem, str(folder / photo["image"]), (text,)))
            entities.append(photo["facts"]["common_name"])
    every = read_items(folder, "train")
    queries = [i for i in every if str(Path(str(i.image)).relative_to(folder)) in dev]
    return Dataset(entries, entities, queries, [i for i in every if i not in set(queries)])


def butterfly_text(facts: Mapping[str, Any]) -> str:
    names = f"Common name: {facts['common_name']}\nScientific name: {facts['scientific_name']}"
    return f"{names}\n{facts['description']}"


def grocery_text(product: Mapping[str, Any]) -> str:
    lines = (
        f"Name: {product['name']}",
        f"Kind: {product['coarse']}",
        f"Category: {product['kind']}",
    )
    return "\n".join((*lines, product["description"], product["information"]))


def read_items(folder: Path, split: str, change: Callable[[Path], ImageSource] = str) -> list[Item]:
    """Return the questions of a set's split; each image goes through `change` once."""
    changed: dict[str, ImageSource] = {}
    results = []
    for row in read_lines(folder / "qa.jsonl"):
        if row["split"] == split:
            if row["image"] not in changed:
                changed[row["image"]] = change(folder / row["image"])
            answers = tuple(a for a in row["answers"] if a)
            results.append(
                Item(
                    row["question"], answers, changed[row["image"]], row["entity"], row["question"]
                )
            )
    return results


def cropped_and_dark(path: Path) -> Image.Image:
    """Return the middle 85 % of each side, at 60 % brightness."""
    with Image.open(path) as source:
        image = source.convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    width, height = image.size
    x, y = round(width * 0.075), round(height * 0.075)
    return ImageEnhance.Brightness(image.crop((x, y, width - x, height - y))).enhance(0.6)


def normalize(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def is_right(answer: str, references: Sequence[str]) -> bool:
    words = f" {normalize(answer)} "
    targets = [normalize(reference) for reference in references]
    return any(
        f" {target} " in words and len(words.split()) - len(target.split()) <= 12
        for target in targets
        if target
    )


SETS = {"grocery": grocery, "flags": flags, "butterflies": butterflies}
