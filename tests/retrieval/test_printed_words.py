"""Words on a photo tell apart entities that look alike, and change nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image

from ravlm.ocr.base import TextRecognizer
from ravlm.records import Entry
from ravlm.regions import Region
from ravlm.retrieval.printed_words import (
    PrintReader,
    printed_words,
    rank_by_words,
    words_of_entity,
)
from ravlm.retrieval.visual_entities import EntityRanking

RANKING = EntityRanking(
    ("Oat Milk", "Soy Milk", "Juice"),
    (0.5, 0.4, 0.1),
    (0.8, 0.78, 0.7),
    (0, 3, 1),
    np.array([0.8, 0.02, 0.5]),
)
WORDS = [frozenset({"oat", "milk"}), frozenset({"soy", "milk"}), frozenset({"juice"})]


class FakeRecognizer(TextRecognizer):
    name = fingerprint = "fake"

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def recognize(self, images: Sequence[Image.Image]) -> list[list[Region]]:
        self.sizes += [image.size for image in images]
        return [[Region("SOY milk 250"), Region("unsure", confidence=0.5)] for _ in images]


def test_a_printed_word_raises_the_entities_that_have_it() -> None:
    ranking = rank_by_words(RANKING, frozenset({"soy", "barista"}), WORDS)
    assert ranking.entities == ("Soy Milk", "Oat Milk", "Juice")
    assert (ranking.nearest, ranking.cosines) == ((3, 0, 1), (0.78, 0.8, 0.7))
    expected = np.array([0.4 * 3, 0.5, 0.1])  # one of three has the word: odds times 3
    assert ranking.shares == pytest.approx(tuple(expected / expected.sum()))
    assert ranking.features is RANKING.features  # the image decides whether it is any of them


def test_words_that_all_or_none_have_change_nothing() -> None:
    assert rank_by_words(RANKING, frozenset({"barista"}), WORDS) is RANKING
    shared = [words | {"organic"} for words in WORDS]
    assert rank_by_words(RANKING, frozenset({"organic"}), shared) is RANKING
    many = frozenset(f"word{n}" for n in range(50))
    ranking = rank_by_words(RANKING, many, [*WORDS[:2], many])
    assert ranking.shares[0] / ranking.shares[1] == pytest.approx(0.1 * np.exp(4) / 0.5)


def test_words_of_an_entity_are_its_name_and_its_print() -> None:
    entries = [
        Entry("1", texts=("Name: Oat Milk\nOrigin: Ulm",), regions=[Region("BARISTA 42 ml")]),
        Entry("2", texts=("Name: Oat Milk",), regions=[Region("doubtful", confidence=0.3)]),
    ]
    assert words_of_entity(entries) == {"oat", "milk", "barista"}
    assert printed_words([Region("豆浆 a1")]) == {"豆浆"}


def test_a_photo_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = FakeRecognizer()
    reader = PrintReader(lambda: recognizer)
    photo, other = Image.new("RGB", (64, 48), "red"), Image.new("RGB", (4000, 2000), "blue")
    assert reader.words(photo) == reader.words(photo.copy()) == {"soy", "milk"}
    assert reader.words(other) == {"soy", "milk"}
    assert recognizer.sizes == [(64, 48), (1600, 800)]
    monkeypatch.setattr("ravlm.retrieval.printed_words.has_packages", lambda *names: False)
    assert PrintReader().words(photo) == frozenset()
