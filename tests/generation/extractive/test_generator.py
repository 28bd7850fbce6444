"""Captions of the extractive generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ravlm.generation.base import Request
from ravlm.generation.extractive.generator import ExtractiveGenerator
from ravlm.records import Entry, Evidence, Hit, Part
from tests.helpers.fakes import FakeEncoder

HABITS = "A cat sleeps for twelve hours a day."
LOOKS = "A striped cat looks past the camera."
TEXT = f"Name: tabby cat\n{HABITS} {LOOKS}"


class StripeEncoder(FakeEncoder):
    """Encodes whether a text mentions stripes; every image shows some."""

    def encode_texts(self, texts: Sequence[str], *args: Any, **options: Any) -> np.ndarray:
        return np.array([[1.0, 0.0] if "striped" in text else [0.0, 1.0] for text in texts])

    def encode_images(self, images: Sequence[Any], *args: Any, **options: Any) -> np.ndarray:
        return np.array([[1.0, 0.0]] * len(images))


@pytest.fixture
def evidence() -> Evidence:
    entries = Entry("cat", "cat.jpg", (TEXT,)), Entry("dog", "dog.jpg", (HABITS, "It is a dog."))
    hits = tuple(Hit(entry, 0.9, Part("image")) for entry in entries)
    return Evidence(hits, (0.9, 0.1), recognized=True)


def test_a_caption_of_a_known_entity_is_about_its_looks(evidence: Evidence) -> None:
    """The caption of a photo of a cat was how long cats sleep: of all its sentences, that one had
    most words in common with sentences about other things."""
    generator = ExtractiveGenerator(StripeEncoder())
    answer = generator.generate([Request("caption", image=b"", evidence=evidence)])[0]
    assert answer.text == LOOKS
    assert answer.citations == ("cat",)


@pytest.mark.parametrize("change", [{"recognized": False}, {"weights": (0.45, 0.4)}])
def test_otherwise_the_evidence_agrees_on_it(evidence: Evidence, change: dict[str, Any]) -> None:
    generator = ExtractiveGenerator(StripeEncoder())
    unsure = replace(evidence, **change)
    answer = generator.generate([Request("caption", image=b"", evidence=unsure)])[0]
    assert answer.text == HABITS
    assert set(answer.citations) == {"cat", "dog"}
