"""A small base of colored birds. Import `birds` and `word_encoder` into a conftest to use them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from tests.helpers.generators import WordEncoder

BIRDS = {
    "Ruby Finch": (
        (220, 30, 30),
        "Peru",
        "12 cm",
        "It sings at dawn. The nest hangs from a branch.",
    ),
    "Leaf Parrot": (
        (30, 200, 40),
        "Brazil",
        "30 cm",
        "It cracks nuts with ease. The tail is long.",
    ),
    "Sea Heron": ((30, 40, 220), "Norway", "90 cm", "It stands still for hours. It eats fish."),
    "Snow Owl": (
        (235, 235, 235),
        "Canada",
        "60 cm",
        "It hunts by day. Its feathers reach its toes.",
    ),
    "Coal Crow": (
        (25, 25, 25),
        "Spain",
        "45 cm",
        "It collects shiny things. It lives in large flocks.",
    ),
}


def bird(color: tuple[int, int, int], seed: int) -> Image.Image:
    """Return a speckled image in one color."""
    noise = np.random.default_rng(seed).normal(0, 12, (48, 64, 3))
    return Image.fromarray(np.clip(np.array(color) + noise, 0, 255).astype(np.uint8))


def bird_entries(folder: Path) -> list[Entry]:
    """Return five birds with two images each, written to `folder`, and a text without an image."""
    entries = []
    for n, (name, (color, country, length, prose)) in enumerate(BIRDS.items()):
        text = (
            f"Name: {name}\nCountry: {country}\nLength: {length}\n"
            f"Tame: {'yes' if n % 2 else 'no'}\n{prose}"
        )
        for m in range(2):
            path = folder / f"{n}-{m}.png"
            bird(color, 10 * n + m).save(path)
            entries.append(Entry(f"bird-{n}-{m}", str(path), (text,), {"kind": "bird"}))
    entries.append(Entry("note", None, ("A lighthouse keeper counts the gulls every evening.",)))
    return entries


@pytest.fixture
def word_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WordEncoder:
    monkeypatch.setenv("RAVLM_CACHE", str(tmp_path / "cache"))
    return WordEncoder()


@pytest.fixture
def birds(tmp_path: Path, word_encoder: WordEncoder) -> Iterator[KnowledgeBase]:
    """A base of the birds; their images are in `tmp_path`."""
    entries = bird_entries(tmp_path)
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=word_encoder) as kb:
        yield kb
