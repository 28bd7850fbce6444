"""Parsed instructions in two languages: steps, contradictions, unsupported requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravlm.editing.rule_based.instruction_parser import parse
from ravlm.editing.rule_based.lexicon import (
    ACTIONS,
    BACKGROUND,
    COLORS,
    NAMES,
    WHOLE_IMAGE,
    vocabulary,
)
from ravlm.editing.rule_based.messages import SUGGESTIONS, summarize

EXPECTED: dict[str, list[tuple[str, str, str]]] = {
    "make the sky blue": [("color", "sky", "blue")],
    "将图片中的天空变成蓝色": [("color", "sky", "blue")],
    "sky blue": [("color", "sky", "blue")],
    "Give me a purple sky, please!": [("color", "sky", "purple")],
    "make the sky blue and the grass darker": [("color", "sky", "blue"), ("darker", "grass", "")],
    "把天空变成蓝色，草地变暗一点": [("color", "sky", "blue"), ("darker", "grass", "")],
    "make the sky and the sea green": [("color", "sky", "green"), ("color", "sea", "green")],
    "make the sky blue and brighter": [("color", "sky", "blue"), ("brighter", "sky", "")],
    "warmer": [("warmer", WHOLE_IMAGE, "")],
    "整张照片变冷": [("colder", WHOLE_IMAGE, "")],
    "make only the grass greener": [("color", "grass", "green")],
    "make the picture less bright": [("darker", WHOLE_IMAGE, "")],
    "降低饱和度": [("less saturated", WHOLE_IMAGE, "")],
    "提高亮度": [("brighter", WHOLE_IMAGE, "")],
    "turn the photo black and white": [("black and white", WHOLE_IMAGE, "")],
    "把图片变成黑白": [("black and white", WHOLE_IMAGE, "")],
    "blur the background": [("blur", BACKGROUND, "")],
    "背景虚化": [("blur", BACKGROUND, "")],
    "make the man's shirt red": [("color", "shirt", "red")],
    "make the red shirt blue": [("color", "shirt", "blue")],
    "make the wall dark": [("darker", "wall", "")],
    "make the boat red": [("color", "boat", "red")],
    "把船变成红色": [("color", "船", "red")],
    "make the sky like a sunset": [("like", "sky", "a sunset")],
    "让天空像日落一样": [("like", "sky", "日落")],
    "把天空变成日落的样子": [("like", "sky", "日落")],
    "crop to the dog": [("crop", "dog", "")],
    "裁剪到狗": [("crop", "dog", "")],
    "cut the dog out": [("cut out", "dog", "")],
    "抠出狗": [("cut out", "dog", "")],
    "make it warmer, then sharpen it": [("warmer", WHOLE_IMAGE, ""), ("sharpen", WHOLE_IMAGE, "")],
    "把T恤染成绿色": [("color", "shirt", "green")],
}


def summary(instruction: str) -> str:
    parsed = parse(instruction)
    return summarize(parsed.steps, parsed.chinese)


@pytest.mark.parametrize("instruction", EXPECTED)
def test_steps(instruction: str) -> None:
    parsed = parse(instruction)
    assert not parsed.problem
    assert [(s.action, s.target, s.value) for s in parsed.steps] == EXPECTED[instruction]


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        ("remove the dog", 'I can\'t do "remove"'),
        ("frobnicate the sky", 'I don\'t understand "frobnicate"'),
        ("make the dog on the left red", '"left"'),
        ("make the sky", 'I don\'t know what to do with "sky"'),
        ("make the sky less blue", '"less blue"'),
        ("don't make the sky blue", '"don t"'),
        ("keep the sky blue", '"keep"'),
        ("blur everything except the dog", '"except"'),
        ("天空不要变蓝", "我不明白“不”的意思"),
        ("hello there", '"hello there"'),
        ("...", '"..."'),
        ("删除狗", "不支持“删除”"),
        ("天空", "我不知道要对“天空”做什么"),
        ("make the sky brighter and darker", "contradict"),
        ("make the sky red and the sky blue", "contradict"),
        ("make it black and white and more saturated", "contradict"),
        ("把天空变亮，把天空变暗", "矛盾"),
        ("crop to the dog and crop to the person", "contradict"),
        ("make the sky like a sunset and the grass like autumn", "Only one example"),
    ],
)
def test_problems(instruction: str, words: str) -> None:
    assert words in parse(instruction).problem


def test_problems_come_with_suggestions() -> None:
    assert SUGGESTIONS[False] in parse("remove the dog").problem
    assert SUGGESTIONS[True] in parse("删除狗").problem


def test_opposites_on_two_things_do_not_contradict() -> None:
    assert [s.target for s in parse("make the sky brighter and the grass darker").steps] == [
        "sky",
        "grass",
    ]


def test_spellings_of_both_englishes() -> None:
    for instruction in ("make the wall grey", "make the wall gray"):
        assert [(s.action, s.value) for s in parse(instruction).steps] == [("color", "gray")]
    for instruction in ("set the colour of the sky to blue", "set the color of the sky to blue"):
        (step,) = parse(instruction).steps
        assert (step.action, step.target, step.value) == ("color", "sky", "blue")
    for word in ("colourful", "colorful"):
        assert [s.action for s in parse(f"make it more {word}").steps] == ["more saturated"]
    for word in ("greyscale", "grayscale"):
        assert [s.action for s in parse(f"make it {word}").steps] == ["black and white"]


def test_amount_and_shade() -> None:
    assert (
        parse("make the sky slightly brighter").steps[0].amount
        < 1
        < parse("much brighter").steps[0].amount
    )
    assert parse("把草地稍微变暗").steps[0].amount < 1
    assert parse("make the sky dark blue").steps[0].shade == "deep"
    assert parse("把天空变成浅蓝色").steps[0].shade == "light"


def test_summaries_are_in_the_language_of_the_instruction() -> None:
    english = summary("make the sky dark blue, blur the background and crop to the dog")
    assert english == "Understood: the sky dark blue; the background blurred; cropped to the dog."
    assert summary("把天空变成浅蓝色，抠出狗") == "理解为：天空变成浅蓝色；抠出狗。"


THINGS = [t for t in NAMES if t not in (WHOLE_IMAGE, BACKGROUND)]


@given(
    st.sampled_from(THINGS),
    st.sampled_from(sorted(COLORS)),
    st.sampled_from(THINGS),
    st.sampled_from(sorted(ACTIONS)),
)
def test_every_thing_takes_every_color_in_both_languages(
    one: str, color: str, other: str, action: str
) -> None:
    words = {
        (kind, meaning, word.isascii()): word
        for word, (kind, meaning) in reversed(vocabulary().items())
    }
    english = f"make the {words['thing', one, True]} {words['color', color, True]}"
    chinese = f"把{words['thing', one, False]}变成{words['color', color, False]}"
    for instruction in (english, chinese):
        (step,) = parse(instruction).steps
        assert (step.action, step.target, step.value) == ("color", one, color)
    joined = parse(
        f"{english} and the {words['thing', other, True]} {words['action', action, True]}"
    )
    assert joined.problem or [s.target for s in joined.steps] == [one, other]


@given(
    st.text(max_size=60) | st.lists(st.sampled_from(sorted(vocabulary())), max_size=8).map(" ".join)
)
def test_any_text_is_parsed_or_refused_with_a_sentence(text: str) -> None:
    parsed = parse(text)
    assert bool(parsed.problem) or bool(parsed.steps)
    assert parsed.problem or summary(text).endswith((".", "。"))
