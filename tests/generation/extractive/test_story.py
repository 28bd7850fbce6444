"""Stories written from evidence."""

from __future__ import annotations

import re
from dataclasses import replace

from ravlm.generation.base import Request
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.story import write_story
from ravlm.records import Entry, Evidence, Hit, Part
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


def test_an_english_story() -> None:
    text, cited = story(request((OWL, CROW), (0.9, 0.1)))
    assert text == (
        "This is Snow Owl. [1] The owl hunts by day. [1] Its country is Canada. [1] "
        "It is not tame. [1] "
        "Its colours are white and grey. [1] Its feathers reach its toes. [1] "
        "(Based only on entries in the knowledge base.)"
    )
    assert cited == ("owl",)


def test_a_chinese_story() -> None:
    text, cited = story(request((OWL,), (1.0,), chinese=True))
    assert text.startswith("图中是雪鸮。[1]")
    assert "它的国家是加拿大。[1]" in text
    assert "它在白天捕猎。[1]" in text or "雪鸮在白天捕猎。[1]" in text
    assert text.endswith("（以上内容均出自知识库。）")
    assert cited == ("owl",)


def test_no_sentence_comes_twice_and_each_is_cited() -> None:
    text, cited = story(request((OWL, replace(OWL, id="other"), CROW), (0.4, 0.35, 0.25)))
    sentences = re.findall(r"(.+?) \[(\d)\] ", text)
    texts = [sentence for sentence, _ in sentences]
    assert len(texts) == len(set(texts))
    assert {int(mark) for _, mark in sentences} <= set(range(1, len(cited) + 1))


def test_an_unsure_story_says_so() -> None:
    unsure = request((OWL,), (1.0,))
    unsure = replace(unsure, evidence=replace(unsure.evidence, support=0.1, min_support=0.4))
    assert "does not know this image for certain" in story(unsure)[0]


def test_without_words_there_is_no_story() -> None:
    answer = write_story(request((Entry("x", "x.png"),), (1.0,)), EmbeddingCache(WordEncoder()))
    assert answer.abstained
    assert answer.text == "That is not in the knowledge base."
