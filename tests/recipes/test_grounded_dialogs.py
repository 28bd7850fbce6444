"""Training examples that write only from evidence: every mark points at what holds the value."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable

import pytest

from ravlm.data.text import is_chinese
from ravlm.generation.base import ABSENT
from ravlm.training.chat_examples import ChatExample
from recipes.grounded_dialogs import (
    chat_examples,
    question_examples,
    renamed,
    story_about_photo,
    story_examples,
)
from recipes.grounded_dialogs.captions import head_nouns, parse_caption, singular
from recipes.grounded_dialogs.passages import PassageQuestions
from recipes.grounded_dialogs.things import World
from recipes.grounded_dialogs.words import load_words, plural, with_article
from recipes.reading_data import ReadingExample

_MARK = re.compile(r"\[(\d+)\]")
_SENTENCE = re.compile(r"(.*?)((?:\s?\[\d+\])+)\s*", re.DOTALL)
_VALUES = re.compile(r"\d[\d.,:]*\d|\d|(?<![.!?] )(?<!^)\b[A-Z][\w-]+")
"""Numbers, and words with a capital letter inside a sentence: names."""

Maker = Callable[..., list[ChatExample]]
MAKERS: tuple[Maker, ...] = (story_examples, question_examples, chat_examples)


def cited_sentences(example: ChatExample) -> list[tuple[str, str]]:
    """Return each sentence of the replies with the text that it cites."""
    hits = example.request.evidence.hits
    pairs = []
    for reply in example.replies:
        for sentence, marks in _SENTENCE.findall(reply):
            numbers = [int(n) for n in _MARK.findall(marks)]
            assert all(1 <= n <= len(hits) for n in numbers), reply
            pairs.append((sentence, "\n".join(hits[n - 1].entry.text for n in numbers)))
    return pairs


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("chinese_share", [0.0, 1.0])
def test_numbers_and_names_are_in_the_cited_entry(maker: Maker, chinese_share: float) -> None:
    examples = maker(random.Random(1), 300, chinese_share=chinese_share)
    num_values = 0
    for example in examples:
        question = example.request.text
        for sentence, text in cited_sentences(example):
            text = f"{text}\n{question}".lower()
            values = [v.lower() for v in _VALUES.findall(sentence) if v != "Latin"]
            if is_chinese(sentence):
                values = re.findall(r"\d+", sentence)
            num_values += len(values)
            for value in values:
                assert value.removesuffix("'s") in text, (value, sentence, text)
    assert num_values > 100


@pytest.mark.parametrize("chinese_share", [0.0, 1.0])
def test_stories_have_four_to_eight_marked_sentences(chinese_share: float) -> None:
    examples = story_examples(random.Random(2), 200, chinese_share=chinese_share)
    counts = [len(cited_sentences(e)) for e in examples]
    assert sum(4 <= count <= 8 for count in counts) / len(counts) > 0.85
    assert all(2 <= count <= 9 for count in counts)
    for example in examples:
        reply = example.replies[0]
        assert _MARK.sub("", _SENTENCE.sub("", reply)).strip() == ""  # nothing without a mark
        sentences = [sentence for sentence, _ in cited_sentences(example)]
        assert len(set(sentences)) == len(sentences)
        assert example.request.task == "tell"


def test_stories_leave_out_metadata() -> None:
    examples = story_examples(random.Random(3), 400, chinese_share=0.3)
    stories = "\n".join(example.replies[0] for example in examples)
    evidence = "\n".join(hit.entry.text for e in examples for hit in e.request.evidence.hits)
    for word in ("License", "CC BY-SA", "https://", "Credit", "版权", "网址", "公有领域", ".jpg"):
        assert word in evidence
        assert word not in stories


def test_stories_tell_about_the_thing_of_the_request() -> None:
    examples = story_examples(random.Random(4), 200, chinese_share=0.0)
    about_things = [e for e in examples if not re.search(r"\b(the|this|these) ", e.request.text)]
    for example in about_things:
        first = cited_sentences(example)[0][0]
        words = re.findall(r"[A-Z][\w-]+", example.request.text[4:])
        assert not words or any(word in first for word in words), (example.request.text, first)


def test_articles_are_in_other_words_than_the_story() -> None:
    examples = story_examples(random.Random(5), 300, chinese_share=0.0)
    copied = total = 0
    for example in examples:
        for sentence, text in cited_sentences(example):
            if ":" not in text:
                total += 1
                copied += sentence in text
    assert total > 200
    assert copied / total < 0.12


@pytest.mark.parametrize("maker", MAKERS)
def test_equal_seeds_make_equal_examples(maker: Maker) -> None:
    def make(seed: int) -> list[tuple[str, tuple[str, ...], list[str]]]:
        return [
            (e.request.text, e.replies, [hit.entry.text for hit in e.request.evidence.hits])
            for e in maker(random.Random(seed), 20)
        ]

    assert make(6) == make(6)
    assert make(6) != make(7)


@pytest.mark.parametrize("maker", MAKERS)
def test_languages_are_not_mixed(maker: Maker) -> None:
    for example in maker(random.Random(8), 100, chinese_share=1.0):
        assert example.request.chinese
        assert is_chinese(example.request.text) or "《" in example.request.text
    for example in maker(random.Random(8), 100, chinese_share=0.0):
        assert not example.request.chinese
        assert not any(is_chinese(reply) for reply in example.replies)


@pytest.mark.parametrize("maker", MAKERS)
def test_hundreds_of_examples_a_second(maker: Maker) -> None:
    """A maker that goes through all its material for each example would take minutes."""
    start = time.process_time()
    maker(random.Random(9), 300)
    assert time.process_time() - start < 10


def test_absent_answers_are_abstentions() -> None:
    examples = question_examples(random.Random(10), 500, chinese_share=0.5)
    absent = [e for e in examples if not _MARK.search(e.replies[0])]
    assert 0.12 < len(absent) / len(examples) < 0.35
    assert all(e.replies == (ABSENT[e.request.chinese],) for e in absent)


def test_yes_and_no_agree_with_the_claim() -> None:
    examples = question_examples(random.Random(11), 1500, chinese_share=0.0)
    answers = [e for e in examples if e.replies[0].startswith(("Yes, ", "No, "))]
    assert len(answers) > 100
    for example in answers:
        claim = re.search(r"\d[\d.,]*", example.request.text.split(" ", 2)[-1])
        if example.replies[0].startswith("No, it has ") and claim:
            assert claim[0] not in example.replies[0].split()


def passages() -> list[ReadingExample]:
    examples = []
    for name, builder in (("Oren", "Ada Moss"), ("Velgar", "Ben Hale"), ("Kest", "Ines Dunn")):
        text = (
            f"{name} lies on a hill. "
            + f"The {name} road is long and winding. " * 30
            + f"Its tower was built by {builder} in old times. "
            + f"{name} has a market. " * 20
        )
        question = f"Who built the tower of {name}?"
        examples.append(ReadingExample(question, text, (builder,), "towers"))
    return examples


def test_passages_are_cut_around_the_answer() -> None:
    examples = question_examples(
        random.Random(12), 200, passages(), reading_share=1.0, chinese_share=0.0, max_words=60
    )
    ranks = set()
    for example in examples:
        hits = example.request.evidence.hits
        assert 1 <= len(hits) <= 4
        assert all(len(hit.entry.text.split()) <= 80 for hit in hits)
        assert not example.request.text.endswith("[1]")
        match = _MARK.search(example.replies[0])
        if match:
            ranks.add(int(match[1]))
            answer = example.replies[0].split(" [")[0]
            assert answer in hits[int(match[1]) - 1].entry.text
        else:
            assert example.replies == (ABSENT[False],)
    assert len(ranks) > 1


def test_passages_are_prepared_once() -> None:
    prepared = PassageQuestions(passages(), max_words=60)
    first, second = (
        question_examples(random.Random(13), 10, prepared, reading_share=1.0, chinese_share=0.0)
        for _ in range(2)
    )
    assert [e.replies for e in first] == [e.replies for e in second]


def test_conversations_end_with_the_question_of_the_request() -> None:
    examples = chat_examples(random.Random(14), 300)
    for example in examples:
        messages = example.request.messages
        assert messages[-1].text == example.request.text
        assert messages[-1].role == "user"
        roles = [m.role for m in messages if m.role != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]
    assert any(m.role == "system" for e in examples for m in e.request.messages)
    assert any(len(e.request.messages) > 9 for e in examples)
    assert any(not e.request.evidence.hits for e in examples)


CAPTIONS = [
    "Two black dogs run on the wet sand .",
    "Two dogs are playing on a beach .",
    "A brown dog near an umbrella on a beach .",
]
EVIDENCE = ["A dog on a beach .", "Dogs play with an umbrella ."]


def test_a_noun_is_renamed_everywhere() -> None:
    rng = random.Random(15)
    renamed_nouns = set()
    for _ in range(40):
        own, evidence = renamed(CAPTIONS, EVIDENCE, rng, share=1.0)
        texts = " ".join((*own, *evidence)).lower()
        missing = [n for n in ("dog", "beach", "umbrella") if not re.search(rf"\b{n}s?\b", texts)]
        assert len(missing) == 1
        renamed_nouns.add(missing[0])
        assert not re.search(r"\ban [^aeiou]", texts)
        assert (len(own), len(evidence)) == (3, 2)
    assert {"dog", "beach"} <= renamed_nouns


def test_most_captions_are_not_renamed() -> None:
    rng = random.Random(16)
    same = sum(renamed(CAPTIONS, EVIDENCE, rng)[0] == CAPTIONS for _ in range(500))
    assert 0.74 < same / 500 < 0.86


def test_chinese_nouns_are_renamed() -> None:
    captions = ["一只狗在草地上。", "两只狗在跑。", "草地上的狗。"]
    own, evidence = renamed(captions, ["一只狗在水里。"], random.Random(17), share=1.0)
    assert not any("狗" in text for text in (*own, *evidence))
    assert own[0].startswith("一只")
    assert evidence[0].startswith("一只")


def test_a_story_about_a_photo_says_what_its_captions_say() -> None:
    captions = [
        "A little girl in a pink dress going into a wooden cabin .",
        "A girl is climbing the stairs to her playhouse .",
        "A small child plays near a red door .",
        "A child climbs up a set of stairs .",
        "Two boys are swimming .",
    ]
    evidence = ["A dog runs .", "A girl is climbing the stairs of a house ."]
    for seed in range(20):
        story = story_about_photo(captions, evidence, random.Random(seed))
        assert 3 <= len(re.findall(r"\.", story)) <= 5
        assert "boys" not in story  # most captions show one child
        if "climbing the stairs" in story:
            assert "playhouse. [2]" in story


def test_chinese_story_about_a_photo() -> None:
    captions = ["两只狗在草地上飞奔。", "飞奔的两只狗。", "草地上的狗。", "一只猫在睡觉。"]
    story = story_about_photo(captions, ["两只狗在草地上飞奔。"], random.Random(18))
    assert "猫" not in story
    assert "飞奔。[1]" in story or "草地" in story


def test_parts_of_captions() -> None:
    assert head_nouns("Two black dogs run on the wet sand .") == ["dog", "sand"]
    caption = parse_caption("A man wearing a hat stands near his car .")
    assert (caption.subject, caption.number) == ("a man", 1)
    assert [singular(n) for n in ("women", "puppies", "beaches")] == ["woman", "puppy", "beach"]
    assert [plural(n) for n in ("woman", "puppy", "beach")] == ["women", "puppies", "beaches"]
    assert [with_article(n) for n in ("owl", "unit", "XR-7", "UK code")] == [
        "an owl", "a unit", "an XR-7", "a UK code"
    ]  # fmt: skip


def test_there_are_many_patterns() -> None:
    counts = {}
    for language in ("en", "zh"):
        kinds = World(language, random.Random(0)).kinds
        patterns = {p for k in kinds for p in (*k.verbs, *k.clauses, *k.openings)}
        counts[language] = len(patterns) + len(load_words(language)["generic"])
    assert counts["en"] >= 200
    assert counts["zh"] >= 80
