"""Sentences for the user, in the language of the instruction: what was understood, and why not."""

from __future__ import annotations

from collections.abc import Sequence

from ravlm.editing.rule_based.lexicon import ACTIONS, NAMES, vocabulary
from ravlm.editing.rule_based.steps import EditStep

SUGGESTIONS = {
    False: "Try: a color, brighter, darker, warmer, colder, more or less saturated, black and "
    'white, blur, sharpen, crop to, cut out, or "like a sunset", for the whole image, the '
    'background or a thing: "make the sky blue and the grass darker".',
    True: "可以要求：某种颜色、变亮、变暗、变暖、变冷、更鲜艳、更淡、黑白、模糊、锐化、裁剪、"
    "抠图，或者“像日落一样”；对象可以是整张图片、背景或某样东西，例如：“把天空变成蓝色，草地变暗”。",
}
"""What can be asked for, in English and (True) Chinese."""


def summarize(steps: Sequence[EditStep], chinese: bool) -> str:
    """Return what was understood, as a sentence."""
    parts = [describe(step, chinese) for step in steps]
    return f"理解为：{'；'.join(parts)}。" if chinese else f"Understood: {'; '.join(parts)}."


def describe(step: EditStep, chinese: bool) -> str:
    """Return a step in words: "the sky dark blue"."""
    return _describe_in_chinese(step) if chinese else _describe_in_english(step)


def _describe_in_english(step: EditStep) -> str:
    name = NAMES[step.target][0] if step.target in NAMES else f"the {step.name}"
    if step.action == "color":
        shade = {"deep": "dark ", "light": "light ", "": ""}[step.shade]
        return f"{name} {shade}{step.value}"
    if step.action == "like":
        return f"{name} like {step.value}"
    action = ACTIONS[step.action][0]
    return f"{action} {name}" if step.action == "crop" else f"{name} {action}"


def _describe_in_chinese(step: EditStep) -> str:
    name = _name(step, chinese=True)
    if step.action == "color":
        shade = {"deep": "深", "light": "浅", "": ""}[step.shade]
        return f"{name}变成{shade}{_chinese_color(step.value)}"
    if step.action == "like":
        return f"{name}像{step.value}一样"
    action = ACTIONS[step.action][1]
    return f"{action}{name}" if step.action in ("crop", "cut out") else f"{name}{action}"


def _chinese_color(color: str) -> str:
    return next(
        word
        for word, (kind, meaning) in vocabulary().items()
        if kind == "color" and meaning == color and not word.isascii()
    )


def _name(step: EditStep, chinese: bool) -> str:
    return NAMES[step.target][chinese] if step.target in NAMES else step.name


def unsupported(words: str, chinese: bool) -> str:
    """Return the sentence for an instruction that asks for something no step can do."""
    if chinese:
        return f"不支持“{words}”。{SUGGESTIONS[True]}"
    return f'I can\'t do "{words}". {SUGGESTIONS[False]}'


def not_understood(words: str, chinese: bool) -> str:
    """Return the sentence for an instruction with words of unknown meaning."""
    if chinese:
        return f"我不明白“{words}”的意思。{SUGGESTIONS[True]}"
    return f'I don\'t understand "{words}". {SUGGESTIONS[False]}'


def no_action(words: Sequence[str], instruction: str, chinese: bool) -> str:
    """Return the sentence for an instruction without an action. `words`: the things it names."""
    subject = ("、" if chinese else " and ").join(words) or " ".join(instruction.split())[:80]
    if chinese:
        return f"我不知道要对“{subject}”做什么。{SUGGESTIONS[True]}"
    return f'I don\'t know what to do with "{subject}". {SUGGESTIONS[False]}'


def contradiction(one: EditStep, two: EditStep, chinese: bool) -> str:
    """Return the sentence for two steps that exclude each other."""
    first = describe(one, chinese)
    second = describe(two, chinese)
    if chinese:
        return f"“{first}”和“{second}”互相矛盾，请只选其一。"
    return f'"{first}" and "{second}" contradict each other. Choose one.'


def several_examples(values: Sequence[str], chinese: bool) -> str:
    """Return the sentence for an instruction that names several examples."""
    if chinese:
        return f"一次只能参照一个例子，这里有“{values[0]}”和“{values[1]}”；请分两次编辑。"
    return (
        f'Only one example can be followed at a time, not both "{values[0]}" and "{values[1]}". '
        "Make two edits, one after the other."
    )


def not_visible(step: EditStep, visible: Sequence[str], chinese: bool) -> str:
    """Return the sentence for a target that the image lacks. `visible`: words that it shows."""
    name = _name(step, chinese)
    names = ("、" if chinese else ", ").join(NAMES[word][chinese] for word in visible)
    if chinese:
        hint = f"图中有：{names}。" if visible else ""
        return f"图片里没有找到“{name}”，因此没有做任何修改。{hint}也可以修改整张图片。"
    hint = f"What I see: {names}. " if visible else ""
    is_known = step.target in NAMES
    subject = name if is_known else f'"{name}"'
    doubt = "" if is_known else " (or don't know the word)"
    return (
        f"I don't see {subject} in this image{doubt}, so nothing was changed. "
        f"{hint}You can also edit the whole image."
    )


def no_subject(chinese: bool) -> str:
    """Return the sentence for an image without a foreground that would define the background."""
    if chinese:
        return (
            "图片里没有找到人或狗，无法确定哪里是背景，因此没有做任何修改。"
            "可以修改整张图片，或者指明某样东西。"
        )
    return (
        "I don't see a person or a dog in front of a background, so nothing was changed. "
        "Edit the whole image, or name a thing."
    )


def no_example(step: EditStep, num_images: int, chinese: bool) -> str:
    """Return the sentence for an example that no retrieved image shows."""
    name = _name(step, chinese)
    if chinese:
        return (
            f"为“{step.value}”检索到{num_images}张图片，但没有一张能为{name}提供颜色，"
            "因此没有做任何修改。请在知识库中加入这样的图片，或者直接说一种颜色。"
        )
    return (
        f'No example for "{step.value}": {num_images} images were retrieved, and none has colors '
        f"for {name}, so nothing was changed. Add such images to the knowledge base, or name a "
        "color."
    )


def no_target(step: EditStep, chinese: bool) -> str:
    """Return the sentence for a crop or cut-out without a target."""
    if chinese:
        action = "裁剪到" if step.action == "crop" else "抠出"
        return f"请说明要{action}什么。{SUGGESTIONS[True]}"
    action = "crop to" if step.action == "crop" else "cut out"
    return f"I don't know what to {action}. {SUGGESTIONS[False]}"
