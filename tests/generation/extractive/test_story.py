"""Stories written from evidence."""

from __future__ import annotations

import re
import time
from dataclasses import replace

import pytest

from ravlm.generation.base import Request
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.story import write_story
from ravlm.records import Entry, Evidence, Hit, Part
from ravlm.regions import Region, RegionKind
from tests.helpers.generators import WordEncoder

OWL = Entry(
    "owl", None,
    ("Name: Snow Owl\nCountry: Canada\nTame: no\nColours: white, grey\n"
     "The owl hunts by day. It hunts by day. Its feathers reach its toes.",
     "名称: 雪鸮\n国家: 加拿大\n雪鸮在白天捕猎。它的羽毛盖住脚趾。"),
)  # fmt: skip
CROW = Entry("crow", None, ("Name: Coal Crow\nIt collects shiny things.",))


def request(
    entries: tuple[Entry, ...], weights: tuple[float, ...], chinese: bool = False
) -> Request:
    hits = tuple(Hit(entry, 0.5, Part("image")) for entry in entries)
    return Request("tell", "", None, Evidence(hits, weights), chinese=chinese)


def story(request: Request) -> tuple[str, tuple[str, ...]]:
    answer = write_story(request, EmbeddingCache(WordEncoder()))
    return answer.text, answer.citations


def story_of(*texts: str, image: str | None = None, chinese: bool = False) -> str:
    entry = Entry("x", image, texts)
    asked = replace(request((entry,), (1.0,), chinese), image=image)
    return re.sub(r" ?\[1\]", "", story(asked)[0])


def test_an_english_story() -> None:
    text, cited = story(request((OWL, CROW), (0.9, 0.1)))
    assert text == (
        "Snow Owl's country is Canada. [1] It is not tame. [1] Its colours are white and grey. [1] "
        "The owl hunts by day. [1] Its feathers reach its toes. [1]"
    )
    assert cited == ("owl",)


def test_a_story_of_a_page_has_no_titles_and_rows_of_tables() -> None:
    """A manual was told as 'This entry is called "Cleaning". Before first use. ... Under "Item" it
    says: Mixer; Price: 5'."""
    blocks: list[tuple[RegionKind, str]] = [
        ("title", "Cleaning"), ("paragraph", "Brush the burrs once a week."),
        ("title", "Old parts"), ("paragraph", "Worn burrs make warm powder."),
        ("paragraph", "Part number: HB-77"), ("paragraph", "Item: Mixer; Price: 5; Amount: 3"),
        ("footer", "Heron Works of Malmo"),
    ]  # fmt: skip
    regions = [
        Region(text, (0.1, 0.1 * n, 0.9, 0.1 * n + 0.05), 2, kind)
        for n, (kind, text) in enumerate(blocks)
    ]
    entry = Entry("manual.pdf#page=2", regions=regions, metadata={"title": "Heron grinder"})
    text = re.sub(r" ?\[1\]", "", story(request((entry,), (1.0,)))[0])
    assert text == (
        'This entry is called "Heron grinder: Cleaning". Brush the burrs once a week. '
        "Worn burrs make warm powder. The part number is HB-77."
    )


def test_a_chinese_story() -> None:
    text, cited = story(request((OWL,), (1.0,), chinese=True))
    assert text == "雪鸮在白天捕猎。[1]它的羽毛盖住脚趾。[1]它的国家是加拿大。[1]"
    assert cited == ("owl",)


def test_a_picture_is_named_first() -> None:
    card = "Name: blue chair\nMaterial: birch\nWidth (cm): 54"
    assert story_of(card, image="chair.jpg") == (
        "The picture shows the blue chair. Its material is birch and its width is 54 cm."
    )
    assert story_of("名称：蓝椅\n材质：桦木", image="chair.jpg", chinese=True) == (
        "图中是蓝椅。它的材质是桦木。"
    )


def test_no_sentence_comes_twice_and_each_is_cited() -> None:
    text, cited = story(request((OWL, replace(OWL, id="other"), CROW), (0.4, 0.35, 0.25)))
    sentences = re.findall(r"(.+?) \[(\d)\]", text)
    texts = [sentence for sentence, _ in sentences]
    assert len(texts) == len(set(texts))
    assert {int(mark) for _, mark in sentences} <= set(range(1, len(cited) + 1))


def test_each_of_several_entities_is_named() -> None:
    rose = Entry("rose", None, ("Name: Mary Rose\nLength: 32 m\nSank: 1545",))
    vasa = Entry("vasa", None, ("Name: Vasa\nLength: 69 m",))
    assert story(request((vasa, rose), (0.4, 0.4)))[0] == (
        "Vasa's length is 69 m. [1] Mary Rose's length is 32 m. [2] It sank in 1545. [2]"
    )


def test_values_are_told_as_they_are() -> None:
    """A story once said "Its payload is DSCOVR and a satellite", a value cut at its comma."""
    text = story_of("Name: Falcon 9\npayload: DSCOVR, satellite operator\nlaunch date: 2015-02-11")
    assert text == (
        "Falcon 9's payload is DSCOVR, satellite operator. Its launch date is 2015-02-11."
    )


def test_provenance_is_not_told() -> None:
    entry = Entry(
        "x", None, ("Name: Vasa\nPhoto credit: Ana Ruiz\nSource: https://x.example\nLength: 69 m",),
        {"license": "CC BY", "split": "train", "sha256": "9f86d081884c7d65"},
    )  # fmt: skip
    assert story(request((entry,), (1.0,)))[0] == "Vasa's length is 69 m. [1]"


def test_a_pronoun_of_somebody_else_is_not_taken_over() -> None:
    """The book was once "he", after a person in it."""
    text = story_of(
        "Title: The Salt Road\nPages: 312\nThe book follows a mule driver. He carries a letter."
    )
    assert text == (
        "The Salt Road has 312 pages. The book follows a mule driver. He carries a letter."
    )


def test_captions_are_told_as_what_they_agree_on() -> None:
    photos = (
        Entry("a", "a.jpg", ("A brown dog runs along the beach.",)),
        Entry("b", "b.jpg", ("A black dog plays on the beach with a stick.",)),
        Entry("c", "c.jpg", ("A dog runs at the beach.",)),
    )
    asked = replace(request(photos, (0.4, 0.3, 0.3)), image="q.jpg")
    assert story(asked)[0] == "The picture probably shows this: a dog runs at the beach. [1]"
    others = (photos[0], Entry("d", "d.jpg", ("Two men play chess.",)))
    answer = write_story(
        replace(request(others, (0.5, 0.5)), image="q.jpg"), EmbeddingCache(WordEncoder())
    )
    assert answer.abstained


def test_an_unsure_story_says_so() -> None:
    unsure = replace(request((OWL,), (1.0,)), image="q.jpg")
    unsure = replace(unsure, evidence=replace(unsure.evidence, support=0.1, min_support=0.4))
    assert "does not know this image for certain" in story(unsure)[0]


def test_without_words_there_is_no_story() -> None:
    answer = write_story(request((Entry("x", "x.png"),), (1.0,)), EmbeddingCache(WordEncoder()))
    assert answer.abstained
    assert answer.text == "That is not in the knowledge base."


@pytest.mark.parametrize(
    "text",
    ["word " * 200_000, "The ship sank. " * 60_000, "<p></p>" * 9, "ᚠᚢᚦ ᚨᚱᚲ.", "a", "船" * 9],
)
def test_any_text_is_told_or_declined_in_bounded_time(text: str) -> None:
    start = time.process_time()
    asked = request((Entry("x", None, (text,)),), (1.0,))
    answer = write_story(asked, EmbeddingCache(WordEncoder()))
    assert answer.abstained or len(answer.text) < 2000
    assert time.process_time() - start < 10
