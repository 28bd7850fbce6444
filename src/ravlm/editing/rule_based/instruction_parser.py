"""From an instruction in words, English or Chinese, to the steps of an edit, or to a sentence on
what is missing.

An instruction is cut into clauses, a clause into words of the lexicon; what is done to what is read
from their order. A word that the lexicon lacks may name a thing ("the boat"); it never stands for
something to do. Knows no pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ravlm.data.text import is_chinese
from ravlm.editing.rule_based.lexicon import ACTIONS, NAMES, OPPOSITES, WHOLE, vocabulary

POSSIBLE = {
    False: "You can ask for a colour, brighter, darker, warmer, colder, more or less saturated, black and white, blur, "
    'sharpen, crop to, cut out, or "like a sunset", of the whole picture, the background or a thing: '
    '"make the sky blue and the grass darker".',
    True: "可以要求：改变颜色，变亮，变暗，变暖，变冷，更鲜艳，更淡，黑白，模糊，清晰，裁剪到，抠出，或者“像日落一样”；"
    "对象是整张图片，背景，或者某样东西，例如：“把天空变成蓝色，草地变暗”。",
}
"""What can be asked, in English and (True) Chinese."""
_SPLIT = re.compile(
    r"[,，。；;、！!？?]|\.(?:\s|$)|\band\b|\bthen\b|\balso\b|&|然后|并且|而且|同时|以及|并|再|(?<!饱)和|与"
)
_BEFORE = (  # what would be cut or misread if it were taken word by word
    (re.compile(r"\b(black[\s-]*(?:and|&)[\s-]*white|b\s*&\s*w)\b"), "monochrome"),
    (re.compile(r"\bcut(?:ting)?\b(.*)\bout\b"), r"cutout\1"),
    (re.compile(r"\b(in|of|from|on|at)\s+(the|this|my)\s+(picture|photo|image|photograph)\b"), " "),
    (re.compile(r"(图片|照片|图像|画面|图)(里面|里|中|上)的?"), ""),
    (
        re.compile(
            r"(?:变成|变得|改成|变为|调成|弄成)(?!像)([^像，,。]{1,12}?)(?:的样子|那样|的风格)"
        ),
        r"像\1",
    ),
    (re.compile(r"t恤"), "衬衫"),
    (re.compile(r"黑\s*(和|与|、)?\s*白"), "黑白"),
)
_LATIN = re.compile(r"[a-z]+(?:[-'’][a-z]+)*|[^\sa-z]+")


@dataclass(frozen=True)
class Step:
    """One thing to do. `action`: "colour", "like", or one of `lexicon.ACTIONS`."""

    action: str
    target: str = WHOLE
    """A word of the lexicon, "background", the whole picture (""), or whatever else was named."""
    value: str = ""
    """The colour, or what it shall be like, in the instruction's words."""
    shade: str = ""
    """"deep" or "light", of a colour."""
    amount: float = 1.0
    """How much of it: 0.5 slightly, 1.6 strongly."""
    name: str = ""
    """The target in the instruction's words."""


@dataclass(frozen=True)
class Understood:
    """What an instruction asks for: steps, or the problem that it has."""

    steps: tuple[Step, ...]
    chinese: bool = False
    problem: str = ""
    """A sentence; empty where the steps can be tried."""

    @property
    def sentence(self) -> str:
        """What was understood, as a sentence in the instruction's language."""
        said = [_said(step, self.chinese) for step in self.steps]
        return f"理解为：{'；'.join(said)}。" if self.chinese else f"Understood: {'; '.join(said)}."


@dataclass
class _Clause:
    """A clause being read."""

    targets: list[tuple[str, str]] = field(default_factory=list)
    """Each target and its name."""
    steps: list[Step] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    undoable: str = ""


def parse(instruction: str) -> Understood:
    """What `instruction` asks for. Never raises for a string; `problem` says what could not be
    understood."""
    chinese = is_chinese(instruction)
    text = " ".join(instruction.lower().split())
    for pattern, plain in _BEFORE:
        text = pattern.sub(plain, text)
    words = vocabulary()
    steps: list[Step] = []
    waiting: list[tuple[str, str]] = []  # targets that were named, to which nothing is done yet
    last = [(WHOLE, "")]
    for piece in _SPLIT.split(text):
        clause = _read(piece, words)
        if clause.undoable or (problem := _unclear(clause)):
            return Understood((), chinese, _cannot(clause.undoable or problem, chinese))
        if not clause.steps:
            waiting += clause.targets
            continue
        targets = waiting + clause.targets or last
        steps += [
            replace(step, target=t, name=name) for step in clause.steps for t, name in targets
        ]
        waiting, last = [], targets
    if waiting or not steps:
        return Understood((), chinese, _nothing_to_do(waiting, instruction, chinese))
    return Understood(
        tuple(dict.fromkeys(steps)),
        chinese,
        _contradiction(steps, chinese) or _two_examples(steps, chinese),
    )


def _tokens(text: str, words: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """The kind, the meaning and the word itself of each word of a clause; kind "unknown" for what
    no table has."""
    longest = max(map(len, words))
    for run in _LATIN.findall(text):
        if run[0].isascii() and run[0].isalpha():
            for word in [run] if run in words else re.split(r"['’]", run):
                yield (*words.get(word, ("unknown", word)), word)
            continue
        start = unknown = 0
        while start < len(run):
            sizes = range(min(longest, len(run) - start), 0, -1)
            size = next((n for n in sizes if run[start : start + n] in words), 0)
            if size == 0:
                start += 1
                continue
            if start > unknown:
                yield "unknown", run[unknown:start], run[unknown:start]
            word = run[start : start + size]
            yield (*words[word], word)
            start += size
            unknown = start
        if unknown < len(run) and re.search(r"\w", run[unknown:]):
            yield "unknown", run[unknown:], run[unknown:]


def _read(text: str, words: Mapping[str, tuple[str, str]]) -> _Clause:
    """A clause's targets and what shall be done to them."""
    clause = _Clause()
    tokens = list(_tokens(text, words))
    amount, shade, sign = 1.0, "", ""
    for place, (kind, meaning, word) in enumerate(tokens):
        if kind == "like":
            rest = " " if word.isascii() else ""
            value = rest.join(w for k, _, w in tokens[place + 1 :] if k != "fill" or word.isascii())
            clause.steps += [Step("like", value=value)] if value else []
            break
        if kind == "thing":
            if clause.targets and clause.targets[-1][0] not in (WHOLE, meaning) and word.isascii():
                clause.targets.pop()  # "the man's shirt" is about the shirt
            clause.targets = (
                [t for t in clause.targets if t[0] != WHOLE] if meaning != WHOLE else clause.targets
            )
            clause.targets += [(meaning, word)] if meaning != WHOLE or not clause.targets else []
        elif kind == "colour" and not _describes(tokens, place):
            if sign == "less":  # than what it is: into which colour instead is not said
                clause.undoable = f"less {word}" if word.isascii() else word
            clause.steps.append(Step("colour", value=meaning, shade=shade))
            shade = ""
        elif kind == "action":
            clause.steps.append(Step(_turned(meaning) if sign == "less" else meaning))
        elif kind in ("deep", "light"):
            shade = kind
        elif kind in ("slightly", "strongly"):
            amount = 0.5 if kind == "slightly" else 1.6
        elif kind in ("more", "less"):
            sign = kind
        elif kind == "undoable":
            clause.undoable = clause.undoable or word
        elif kind == "unknown":
            clause.unknown.append(word)
    if shade and not clause.steps:
        clause.steps.append(Step("darker" if shade == "deep" else "brighter"))
    clause.steps = [replace(step, amount=amount) for step in clause.steps]
    return clause


def _describes(tokens: list[tuple[str, str, str]], place: int) -> bool:
    """Whether the colour at `place` only says which thing is meant: it stands before the thing
    ("the red shirt"), and something to do comes later."""
    rest = [kind for kind, _, _ in tokens[place + 1 :] if kind != "fill"]
    return rest[:1] in (["thing"], ["unknown"]) and any(
        k in ("colour", "action", "like", "deep", "light") for k in rest
    )


def _turned(action: str) -> str:
    pairs = dict(OPPOSITES[:3])
    return pairs.get(action) or {two: one for one, two in pairs.items()}.get(action, action)


def _unclear(clause: _Clause) -> str:
    """The words that keep a clause from being understood; where it names no known thing, they are
    its thing."""
    if not clause.unknown:
        return ""
    name = " ".join(clause.unknown)
    known = [t for t in clause.targets if t[0] != WHOLE]
    if known or (not clause.steps and len(clause.unknown) > 2):
        return name
    clause.targets, clause.unknown = [(name, name)], []
    return ""


def _cannot(words: str, chinese: bool) -> str:
    return (
        f"我不明白“{words}”。{POSSIBLE[True]}"
        if chinese
        else f"I can't do or don't know \"{words}\". {POSSIBLE[False]}"
    )


def _nothing_to_do(waiting: list[tuple[str, str]], instruction: str, chinese: bool) -> str:
    what = "、".join(t[1] for t in waiting) if chinese else " and ".join(t[1] for t in waiting)
    what = what or " ".join(instruction.split())[:80]
    if chinese:
        return f"没有说明要对“{what}”做什么。{POSSIBLE[True]}"
    return f'It is not said what shall be done to "{what}", or not in words that I know. {POSSIBLE[False]}'


def _contradiction(steps: list[Step], chinese: bool) -> str:
    """What contradicts in `steps`; empty where nothing does."""
    for place, one in enumerate(steps):
        for two in steps[place + 1 :]:
            if one.target != two.target and not {one.action, two.action} <= {"crop", "cut out"}:
                continue
            if _against(one, two):
                a, b = _said(one, chinese), _said(two, chinese)
                return (
                    f"“{a}”和“{b}”互相矛盾；请只选一个。"
                    if chinese
                    else f'"{a}" and "{b}" contradict; choose one.'
                )
    return ""


def _two_examples(steps: list[Step], chinese: bool) -> str:
    values = list(dict.fromkeys(step.value for step in steps if step.action == "like"))
    if len(values) < 2:
        return ""
    if chinese:
        return f"一次只能仿照一个例子，这里有“{values[0]}”和“{values[1]}”；请分两次做。"
    return f'Only one example can be followed at a time, not both "{values[0]}" and "{values[1]}"; do one after the other.'


def _against(one: Step, two: Step) -> bool:
    if one.action == two.action:
        return one.action in ("colour", "like", "crop", "cut out") and one != two
    pair = {one.action, two.action}
    return pair in (
        {"colour", "black and white"},
        {"colour", "like"},
        {"like", "black and white"},
    ) or any(pair == set(opposite) for opposite in OPPOSITES)


def _said(step: Step, chinese: bool) -> str:
    """A step in words."""
    name = NAMES.get(step.target, (f"the {step.name}", step.name))[chinese]
    if step.action == "colour":
        shade = {"deep": ("dark ", "深"), "light": ("light ", "浅"), "": ("", "")}[step.shade][
            chinese
        ]
        return (
            f"{name}变成{shade}{_chinese_colour(step.value)}"
            if chinese
            else f"{name} {shade}{step.value}"
        )
    if step.action == "like":
        return f"{name}像{step.value}一样" if chinese else f"{name} like {step.value}"
    done = ACTIONS[step.action][chinese]
    if step.action in ("crop", "cut out"):
        return (
            f"{done}{name}"
            if chinese
            else f"{done} {name}"
            if step.action == "crop"
            else f"{name} {done}"
        )
    return f"{name}{done}" if chinese else f"{name} {done}"


def _chinese_colour(colour: str) -> str:
    return next(
        w
        for w, (kind, meaning) in vocabulary().items()
        if kind == "colour" and meaning == colour and not w.isascii()
    )
