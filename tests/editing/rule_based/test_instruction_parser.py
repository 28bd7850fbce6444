"""Instructions read: what is asked, joined, contradictory, or beyond what can be done; English and
Chinese."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ravlm.editing.rule_based.instruction_parser import POSSIBLE, parse
from ravlm.editing.rule_based.lexicon import ACTIONS, BACKGROUND, COLOURS, NAMES, WHOLE, vocabulary

ASKED: dict[str, list[tuple[str, str, str]]] = {
    "make the sky blue": [("colour", "sky", "blue")],
    "将图片中的天空变成蓝色": [("colour", "sky", "blue")],
    "sky blue": [("colour", "sky", "blue")],
    "Give me a purple sky, please!": [("colour", "sky", "purple")],
    "make the sky blue and the grass darker": [("colour", "sky", "blue"), ("darker", "grass", "")],
    "把天空变成蓝色，草地变暗一点": [("colour", "sky", "blue"), ("darker", "grass", "")],
    "make the sky and the sea green": [("colour", "sky", "green"), ("colour", "sea", "green")],
    "make the sky blue and brighter": [("colour", "sky", "blue"), ("brighter", "sky", "")],
    "warmer": [("warmer", WHOLE, "")],
    "整张照片变冷": [("colder", WHOLE, "")],
    "make only the grass greener": [("colour", "grass", "green")],
    "make the picture less bright": [("darker", WHOLE, "")],
    "降低饱和度": [("less saturated", WHOLE, "")],
    "提高亮度": [("brighter", WHOLE, "")],
    "turn the photo black and white": [("black and white", WHOLE, "")],
    "把图片变成黑白": [("black and white", WHOLE, "")],
    "blur the background": [("blur", BACKGROUND, "")],
    "背景虚化": [("blur", BACKGROUND, "")],
    "make the man's shirt red": [("colour", "shirt", "red")],
    "make the red shirt blue": [("colour", "shirt", "blue")],
    "make the wall dark": [("darker", "wall", "")],
    "make the boat red": [("colour", "boat", "red")],
    "把船变成红色": [("colour", "船", "red")],
    "make the sky like a sunset": [("like", "sky", "a sunset")],
    "让天空像日落一样": [("like", "sky", "日落")],
    "把天空变成日落的样子": [("like", "sky", "日落")],
    "crop to the dog": [("crop", "dog", "")],
    "裁剪到狗": [("crop", "dog", "")],
    "cut the dog out": [("cut out", "dog", "")],
    "抠出狗": [("cut out", "dog", "")],
    "make it warmer, then sharpen it": [("warmer", WHOLE, ""), ("sharpen", WHOLE, "")],
    "把T恤染成绿色": [("colour", "shirt", "green")],
}


@pytest.mark.parametrize("instruction", ASKED)
def test_what_is_asked(instruction: str) -> None:
    found = parse(instruction)
    assert not found.problem
    assert [(s.action, s.target, s.value) for s in found.steps] == ASKED[instruction]


@pytest.mark.parametrize(
    ("instruction", "words"),
    [
        ("remove the dog", '"remove"'),
        ("frobnicate the sky", '"frobnicate"'),
        ("make the dog on the left red", '"left"'),
        ("make the sky", '"sky"'),
        ("make the sky less blue", '"less blue"'),
        ("don't make the sky blue", '"don t"'),
        ("keep the sky blue", '"keep"'),
        ("blur everything except the dog", '"except"'),
        ("天空不要变蓝", "“不”"),
        ("hello there", '"hello there"'),
        ("...", '"..."'),
        ("删除狗", "“删除”"),
        ("天空", "“天空”"),
        ("make the sky brighter and darker", "contradict"),
        ("make the sky red and the sky blue", "contradict"),
        ("make it black and white and more saturated", "contradict"),
        ("把天空变亮，把天空变暗", "矛盾"),
        ("crop to the dog and crop to the person", "contradict"),
        ("make the sky like a sunset and the grass like autumn", "Only one example"),
    ],
)
def test_what_is_not_done(instruction: str, words: str) -> None:
    assert words in parse(instruction).problem


def test_what_is_not_understood_comes_with_what_can_be_asked() -> None:
    assert POSSIBLE[False] in parse("remove the dog").problem
    assert POSSIBLE[True] in parse("删除狗").problem


def test_opposites_on_two_things_do_not_contradict() -> None:
    assert [s.target for s in parse("make the sky brighter and the grass darker").steps] == [
        "sky",
        "grass",
    ]


def test_how_much_and_which_shade() -> None:
    assert (
        parse("make the sky slightly brighter").steps[0].amount
        < 1
        < parse("much brighter").steps[0].amount
    )
    assert parse("把草地稍微变暗").steps[0].amount < 1
    assert parse("make the sky dark blue").steps[0].shade == "deep"
    assert parse("把天空变成浅蓝色").steps[0].shade == "light"


def test_sentences_are_in_the_language_of_the_instruction() -> None:
    asked = parse("make the sky dark blue, blur the background and crop to the dog").sentence
    assert asked == "Understood: the sky dark blue; the background blurred; cropped to the dog."
    assert parse("把天空变成浅蓝色，抠出狗").sentence == "理解为：天空变成浅蓝色；抠出狗。"


THINGS = [t for t in NAMES if t not in (WHOLE, BACKGROUND)]


@given(
    st.sampled_from(THINGS),
    st.sampled_from(sorted(COLOURS)),
    st.sampled_from(THINGS),
    st.sampled_from(sorted(ACTIONS)),
)
def test_every_thing_takes_every_colour_in_both_languages(
    one: str, colour: str, other: str, action: str
) -> None:
    words = {
        (kind, meaning, word.isascii()): word
        for word, (kind, meaning) in reversed(vocabulary().items())
    }
    english = f"make the {words['thing', one, True]} {words['colour', colour, True]}"
    chinese = f"把{words['thing', one, False]}变成{words['colour', colour, False]}"
    for instruction in (english, chinese):
        (step,) = parse(instruction).steps
        assert (step.action, step.target, step.value) == ("colour", one, colour)
    joined = parse(
        f"{english} and the {words['thing', other, True]} {words['action', action, True]}"
    )
    assert joined.problem or [s.target for s in joined.steps] == [one, other]


@given(
    st.text(max_size=60) | st.lists(st.sampled_from(sorted(vocabulary())), max_size=8).map(" ".join)
)
def test_anything_is_read_or_refused_with_a_sentence(text: str) -> None:
    found = parse(text)
    assert bool(found.problem) or bool(found.steps)
    assert found.problem or found.sentence.endswith((".", "。"))
