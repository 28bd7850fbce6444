"""Words on a photo tell apart entities that look alike, and name those it does not look like."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from ravlm.knowledge.base import KnowledgeBase
from ravlm.model import RetrievalAugmentedVLM
from ravlm.ocr.auto import ENGINES
from ravlm.ocr.base import OcrOptions, TextRecognizer
from ravlm.records import Entry, Evidence
from ravlm.regions import Region
from ravlm.retrieval.printed_words import (
    EntityWords,
    PrintedText,
    distinctive_words,
    match_print,
)
from ravlm.retrieval.query import RetrievalQuery
from ravlm.retrieval.retriever import Retriever
from ravlm.retrieval.visual_entities import EntityRanking
from tests.helpers.birds import BIRDS, bird, bird_entries
from tests.helpers.generators import WordEncoder

RANKING = EntityRanking(
    ("Oat Milk", "Soy Milk", "Juice"),
    (0.5, 0.4, 0.1),
    (0.8, 0.78, 0.7),
    (0, 3, 1),
    np.array([0.8, 0.02, 0.5]),
)
WORDS = [
    EntityWords(frozenset({"oat", "milk"}), frozenset({"barley"})),
    EntityWords(frozenset({"soy", "milk"})),
    EntityWords(frozenset({"juice"})),
]


def printed(**confidences: float) -> PrintedText:
    return PrintedText(" ".join(confidences), confidences)


def test_a_printed_word_raises_the_entities_that_have_it() -> None:
    match = match_print(RANKING, printed(soy=1.0, barista=1.0), WORDS)
    ranking = match.ranking
    assert ranking.entities == ("Soy Milk", "Oat Milk", "Juice")
    assert (ranking.nearest, ranking.cosines) == ((3, 0, 1), (0.78, 0.8, 0.7))
    expected = np.array([0.4 * 3**0.7, 0.5, 0.1])  # one of three has the word
    assert ranking.shares == pytest.approx(tuple(expected / expected.sum()))
    assert ranking.features is RANKING.features  # the image decides whether it looks like them
    assert match.words == ("soy",)


def test_words_count_by_where_they_stand_and_how_well_they_are_read() -> None:
    """A word of a description was taken for one of a name: "price" made almond milk of "rice"."""
    odds = [
        match_print(RANKING, words, WORDS).ranking.shares[0] / 0.5 * 0.4
        for words in (printed(oat=1.0), printed(oat=0.6), printed(barley=1.0))
    ]
    assert odds == sorted(odds, reverse=True)
    assert match_print(RANKING, printed(barle=0.9), WORDS).ranking is RANKING
    assert match_print(RANKING, printed(juic=0.9), WORDS).words == ("juice",)  # a name, misread


def test_words_that_all_or_none_have_change_nothing() -> None:
    assert match_print(RANKING, printed(barista=1.0), WORDS).ranking is RANKING
    organic = [EntityWords(e.name | {"organic"}) for e in WORDS]
    shares = match_print(RANKING, printed(organic=1.0), organic).ranking.shares
    assert shares == pytest.approx(RANKING.shares)
    many = [f"word{n:02}x" for n in range(50)]
    crowded = [*WORDS[:2], EntityWords(frozenset(many))]
    ranking = match_print(RANKING, printed(**dict.fromkeys(many, 1.0)), crowded).ranking
    assert ranking.shares[0] / ranking.shares[1] == pytest.approx(0.1 * np.exp(4) / 0.5)


def test_the_share_of_the_name_that_was_read() -> None:
    """Rare words count more; an image that looks like none of the entities says less about which
    of them it shows."""
    rare, shared = math.log(4 / 1.5) + 0.2, math.log(4 / 2.5) + 0.2
    match = match_print(RANKING, printed(soy=0.9), WORDS)
    assert match.name_coverage == pytest.approx(0.9 * rare / (rare + shared))
    assert match_print(RANKING, printed(soy=0.9, milk=0.9), WORDS).name_coverage == (
        pytest.approx(0.9)
    )
    for is_known, looks in ((True, 0.4 / 0.5), (False, math.sqrt(0.4 / 0.5))):
        shares = match_print(RANKING, printed(soy=1.0), WORDS, is_known).ranking.shares
        assert shares[0] / shares[1] == pytest.approx(looks * 3**0.7)


def test_another_word_in_the_place_of_a_missing_one() -> None:
    """The sign of "Ivanov Dental Clinic" was taken for that of "Petrov Dental Clinic"."""
    clinics = [
        EntityWords(frozenset({"petrov", "dental", "clinic"}), frozenset({"teeth"})),
        *WORDS[1:],
    ]

    def coverage(*words: str) -> float:
        text = printed(**dict.fromkeys(words, 1.0))
        return match_print(RANKING, text, clinics).name_coverage

    assert coverage("dental", "clinic") == pytest.approx(2 / 3)
    assert coverage("dental", "clinic", "ivanov") == pytest.approx(2 / 4)
    assert coverage("dental", "clinic", "teeth", "ivo") == pytest.approx(2 / 3)  # no other name
    assert coverage("petrov", "dental", "clinic", "open", "daily") == pytest.approx(1)
    unsure = PrintedText("", {"dental": 1.0, "clinic": 1.0, "ivanov": 0.6})
    assert match_print(RANKING, unsure, clinics).name_coverage == pytest.approx(2 / 3)


def test_words_of_a_photo_and_of_an_entity() -> None:
    regions = [Region("SOY milk 250 a1"), Region("Soy unsure", confidence=0.6), Region("豆浆")]
    text = PrintedText.of([*regions, Region("noise", confidence=0.4)])
    assert text.words == {"soy": 1.0, "milk": 1.0, "unsure": 0.6, "豆浆": 1.0}
    assert text.text == "SOY milk 250 a1\nSoy unsure\n豆浆"
    entries = [
        Entry("1", texts=("Name: Oat Milk\nOrigin: Ulm",), regions=[Region("BARISTA 42 ml")]),
        Entry("2", texts=("Name: Oat Milk",), regions=[Region("doubtful", confidence=0.3)]),
    ]
    words = EntityWords.of(entries, distinctive_words)
    assert words.name == {"oat", "milk"}
    assert words.others == {"origin", "ulm", "barista"}


class SignRecognizer(TextRecognizer):
    """Reads the sign that belongs to the color in the corner of a photo."""

    name = fingerprint = "signs"
    signs: ClassVar[dict[tuple[int, int, int], str]] = {}
    count = 0

    def recognize(self, images: Sequence[Image.Image]) -> list[list[Region]]:
        SignRecognizer.count += len(images)
        texts = [self.signs.get(image.getpixel((0, 0)), "") for image in images]
        return [[Region(text)] if text else [] for text in texts]


SIGNS = OcrOptions("auto", "signs")


def photo(sign: str, number: int) -> Image.Image:
    """Return a photo that looks like no bird, on which a sign is read."""
    corner = (7, 7, number)
    SignRecognizer.signs[corner] = sign
    noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3)).astype(np.uint8)
    noise[0, 0] = corner
    return Image.fromarray(noise)


@pytest.fixture
def shops(
    tmp_path: Path, word_encoder: WordEncoder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KnowledgeBase]:
    """A base of birds with images, and of shops without."""
    monkeypatch.setitem(ENGINES, "signs", SignRecognizer)
    entries = bird_entries(tmp_path)
    entries += [
        Entry("bakery", None, ("Name: Marlin Bakery\nCountry: Wales",)),
        Entry("pharmacy", None, ("Name: Pharmacy Sankt Georg\nCountry: Tyrol",)),
        Entry("tea", None, ("名称：东湖茶馆\n国家：中国",)),
    ]
    with KnowledgeBase.build(tmp_path / "kb", entries, encoder=word_encoder) as kb:
        yield kb


def retrieve(kb: KnowledgeBase, image: Image.Image, ocr: OcrOptions = SIGNS) -> Evidence:
    return Retriever(kb, ocr=ocr).retrieve([RetrievalQuery("Which country?", image)], k=2)[0]


def test_a_sign_names_an_entry_that_has_no_image(shops: KnowledgeBase) -> None:
    """A photo of a sign was "not in the knowledge base", though the sign names an entry."""
    evidence = retrieve(shops, photo("MARLIN\nBAKERY", 1))
    assert evidence.hits[0].entry.id == "bakery"
    assert evidence.sufficient
    assert (evidence.support, evidence.min_support) == (0.97, 0.5)
    assert evidence.trace["retrieved by"] == "print"
    assert evidence.trace["printed"] == ["baker", "marlin"]
    assert retrieve(shops, photo("PHARMACY ST GEORG", 2)).hits[0].entry.id == "pharmacy"
    assert retrieve(shops, photo("东湖茶馆", 3)).hits[0].entry.id == "tea"

    model = RetrievalAugmentedVLM(shops, "extractive", ocr=SIGNS)
    answer = model.ask("Which country?", photo("MARLIN\nBAKERY", 1))
    assert (answer.text, answer.citations) == ("Wales", ("bakery",))
    assert model.ask("Which country?", photo("MARLBOROUGH HOTEL", 5)).abstained


def test_half_of_a_name_is_none(shops: KnowledgeBase) -> None:
    """Any bakery would be the one that the base has."""
    for number, sign in enumerate(["GEORG", "CITY BAKERY 24", "", "HOTEL BELLEVUE"], 10):
        assert not retrieve(shops, photo(sign, number)).sufficient, sign
    never = OcrOptions("never", "signs")
    assert not retrieve(shops, photo("MARLIN\nBAKERY", 1), never).sufficient


def test_an_image_without_doubt_is_not_read(shops: KnowledgeBase) -> None:
    """Reading a photo takes ten times as long as encoding it."""
    SignRecognizer.count = 0
    red = bird(BIRDS["Ruby Finch"][0], 50)
    assert retrieve(shops, red).hits[0].entry.id.startswith("bird-0")
    assert SignRecognizer.count == 0
    always = OcrOptions("always", "signs")
    assert retrieve(shops, red, always).hits[0].entry.id.startswith("bird-0")
    assert SignRecognizer.count == 1
