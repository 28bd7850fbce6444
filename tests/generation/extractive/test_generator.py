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
from ravlm.regions import Region
from tests.helpers.fakes import FakeEncoder
from tests.helpers.generators import WordEncoder

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


def test_a_question_about_the_image_of_a_page_is_answered_by_a_cell(
    word_encoder: WordEncoder,
) -> None:
    """The price of one item on the photo of an invoice was the whole row: "Basket; Quantity: 24;
    Unit price: 8.50; Amount: 204.00". What the photo shows was another row."""
    cells = [["Item", "Unit price"], ["Basket", "8.50"], ["Mixer", "12.00"], ["Peel", "1.25"]]
    regions = [Region("Invoice", (0.1, 0.1, 0.4, 0.15), 1, "title")]
    regions += [Region("", (0.1, 0.2, 0.9, 0.6), 1, "table")]
    for row, texts in enumerate(cells):
        top = 0.2 + 0.1 * row
        regions += [
            Region(text, (0.1 + 0.4 * n, top, 0.3 + 0.4 * n, top + 0.05), 1)
            for n, text in enumerate(texts)
        ]
    hit = Hit(Entry("invoice.pdf#page=1", b"", regions=regions), 0.9, Part("image"))
    evidence = Evidence((hit,), (0.9,), support=0.8, recognized=True)
    generator = ExtractiveGenerator(word_encoder)
    questions = ["What is the unit price of the mixer?", "What is shown in the picture?"]
    requests = [Request("ask", text, b"", evidence) for text in questions]
    answers = generator.generate(requests)
    assert [answer.text for answer in answers] == ["12.00", "Invoice"]
    assert all(answer.citations == ("invoice.pdf#page=1",) for answer in answers)
    assert all(answer.confidence <= 0.8 for answer in answers)
    assert generator.generate([Request("caption", "", b"", evidence)])[0].text == "Invoice"


@pytest.mark.parametrize(
    ("question", "is_whole"),
    [
        ("What does the label say?", True),
        ("What is written on the bag?", True),
        ("标签上写着什么？", True),
        ("What does it say about the origin?", False),
    ],
)
def test_what_a_label_says_is_all_of_its_words(
    word_encoder: WordEncoder, question: str, is_whole: bool
) -> None:
    """The answer was the first line alone."""
    lines = ["Kestrel Roast", "Origin: Huehuetenango", "Batch 7719"]
    regions = [Region(t, (0.1, 0.1 * n, 0.4, 0.1 * n + 0.05)) for n, t in enumerate(lines)]
    hit = Hit(Entry("bag", b"", regions=regions), 0.9, Part("image"))
    evidence = Evidence((hit,), (0.9,), support=0.8, recognized=True)
    request = Request("ask", question, b"", evidence, chinese="什么" in question)
    answer = ExtractiveGenerator(word_encoder).generate([request])[0]
    assert (answer.text.split() == " ".join(lines).split()) is is_whole


@pytest.mark.parametrize("change", [{"recognized": False}, {"weights": (0.45, 0.4)}])
def test_otherwise_the_evidence_agrees_on_it(evidence: Evidence, change: dict[str, Any]) -> None:
    generator = ExtractiveGenerator(StripeEncoder())
    unsure = replace(evidence, **change)
    answer = generator.generate([Request("caption", image=b"", evidence=unsure)])[0]
    assert answer.text == HABITS
    assert set(answer.citations) == {"cat", "dog"}


def test_the_captions_of_a_photo_without_a_name_agree_on_it(evidence: Evidence) -> None:
    cat, dog = evidence.hits
    unnamed = replace(cat, entry=replace(cat.entry, texts=(HABITS, LOOKS)))
    generator = ExtractiveGenerator(StripeEncoder())
    request = Request("caption", image=b"", evidence=replace(evidence, hits=(unnamed, dog)))
    assert generator.generate([request])[0].text == HABITS
