"""Parse an edit instruction, English or Chinese, into steps, or into a sentence on what is missing.

An instruction is split into clauses, and a clause into words of the lexicon; their order decides
what is done to what. A word outside the lexicon may name a thing ("the boat"), but never an action.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ravlm.data.text import is_chinese
from ravlm.editing.rule_based import messages
from ravlm.editing.rule_based.lexicon import OPPOSITES, WHOLE_IMAGE, vocabulary
from ravlm.editing.rule_based.steps import EditStep, ParsedInstruction

_CLAUSE_END = re.compile(
    r"[,，。；;、！!？?]|\.(?:\s|$)|\band\b|\bthen\b|\balso\b|&"
    r"|然后|并且|而且|同时|以及|并|再|(?<!饱)和|与"
)
_REWRITES = (  # phrases that would be split or misread word by word
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
_RUN = re.compile(r"[a-z]+(?:[-'’][a-z]+)*|[^\sa-z]+")
_MAX_THING_WORDS = 2
"""In a clause without an action, up to this many unknown words may be the name of a thing."""

Vocabulary = Mapping[str, tuple[str, str]]
"""Word -> (kind, meaning)."""


class _Token(NamedTuple):
    kind: str
    """A kind of the lexicon, or "unknown"."""
    meaning: str
    word: str


class _Target(NamedTuple):
    target: str
    name: str
    """In the words of the instruction."""


@dataclass
class _Clause:
    """The parts of a clause."""

    targets: list[_Target] = field(default_factory=list)
    steps: list[EditStep] = field(default_factory=list)
    unknown_words: list[str] = field(default_factory=list)
    unsupported: str = ""


def parse(instruction: str) -> ParsedInstruction:
    """Parse `instruction`. Never raises for a string: see `ParsedInstruction.problem`.

    parse("make the sky blue").steps  # (EditStep("color", "sky", "blue", name="sky"),)
    """
    chinese = is_chinese(instruction)
    text = " ".join(instruction.lower().split())
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    words = vocabulary()
    steps: list[EditStep] = []
    pending: list[_Target] = []  # named, but nothing has been done to them yet
    previous = [_Target(WHOLE_IMAGE, "")]
    for clause_text in _CLAUSE_END.split(text):
        clause = _parse_clause(clause_text, words)
        problem = _clause_problem(clause, chinese)
        if problem:
            return ParsedInstruction((), chinese, problem)
        if not clause.steps:
            pending += clause.targets
            continue
        targets = pending + clause.targets or previous
        steps += [replace(s, target=t.target, name=t.name) for s in clause.steps for t in targets]
        pending = []
        previous = targets
    if pending or not steps:
        names = [target.name for target in pending]
        return ParsedInstruction((), chinese, messages.no_action(names, instruction, chinese))
    problem = _contradiction(steps, chinese) or _several_examples(steps, chinese)
    return ParsedInstruction(tuple(dict.fromkeys(steps)), chinese, problem)


def _tokenize(text: str, words: Vocabulary) -> Iterator[_Token]:
    for run in _RUN.findall(text):
        if not (run[0].isascii() and run[0].isalpha()):
            yield from _tokenize_chinese(run, words)
            continue
        for word in [run] if run in words else re.split(r"['’]", run):
            yield _Token(*words.get(word, ("unknown", word)), word)


def _tokenize_chinese(run: str, words: Vocabulary) -> Iterator[_Token]:
    """Match the longest word at each position; characters in between are one unknown word."""
    max_length = max(map(len, words))
    position = unknown_start = 0
    while position < len(run):
        lengths = range(min(max_length, len(run) - position), 0, -1)
        length = next((n for n in lengths if run[position : position + n] in words), 0)
        if length == 0:
            position += 1
            continue
        if position > unknown_start:
            unknown = run[unknown_start:position]
            yield _Token("unknown", unknown, unknown)
        word = run[position : position + length]
        yield _Token(*words[word], word)
        position += length
        unknown_start = position
    unknown = run[unknown_start:]
    if re.search(r"\w", unknown):
        yield _Token("unknown", unknown, unknown)


def _parse_clause(text: str, words: Vocabulary) -> _Clause:
    clause = _Clause()
    tokens = list(_tokenize(text, words))
    amount = 1.0
    shade = direction = ""
    for position, (kind, meaning, word) in enumerate(tokens):
        if kind == "like":
            example = _example(tokens[position + 1 :], english=word.isascii())
            clause.steps += [EditStep("like", value=example)] if example else []
            break
        if kind == "thing":
            _add_target(clause, _Target(meaning, word))
        elif kind == "color" and not _is_attribute(tokens, position):
            if direction == "less":  # which color it should have instead is unknown
                clause.unsupported = f"less {word}" if word.isascii() else word
            clause.steps.append(EditStep("color", value=meaning, shade=shade))
            shade = ""
        elif kind == "action":
            clause.steps.append(EditStep(_opposite(meaning) if direction == "less" else meaning))
        elif kind in ("deep", "light"):
            shade = kind
        elif kind in ("slightly", "strongly"):
            amount = 0.5 if kind == "slightly" else 1.6
        elif kind in ("more", "less"):
            direction = kind
        elif kind == "undoable":
            clause.unsupported = clause.unsupported or word
        elif kind == "unknown":
            clause.unknown_words.append(word)
    if shade and not clause.steps:
        clause.steps.append(EditStep("darker" if shade == "deep" else "brighter"))
    clause.steps = [replace(step, amount=amount) for step in clause.steps]
    return clause


def _example(tokens: Sequence[_Token], english: bool) -> str:
    """Return the words after "like"; fill words are kept in English only."""
    words = [token.word for token in tokens if english or token.kind != "fill"]
    return (" " if english else "").join(words)


def _add_target(clause: _Clause, target: _Target) -> None:
    """Add a thing. It replaces one that it belongs to, and the whole image."""
    previous = clause.targets[-1].target if clause.targets else WHOLE_IMAGE
    if previous not in (WHOLE_IMAGE, target.target) and target.name.isascii():
        clause.targets.pop()  # "the man's shirt" is about the shirt
    if target.target != WHOLE_IMAGE:
        clause.targets = [t for t in clause.targets if t.target != WHOLE_IMAGE]
        clause.targets.append(target)
    elif not clause.targets:
        clause.targets.append(target)


def _is_attribute(tokens: Sequence[_Token], position: int) -> bool:
    """Return whether the color at `position` only tells which thing is meant ("the red shirt").

    It does if the thing follows directly, and an action comes later.
    """
    kinds = [token.kind for token in tokens[position + 1 :] if token.kind != "fill"]
    changes = ("color", "action", "like", "deep", "light")
    return kinds[:1] in (["thing"], ["unknown"]) and any(kind in changes for kind in kinds)


def _opposite(action: str) -> str:
    pairs = dict(OPPOSITES[:3])
    return pairs.get(action) or {two: one for one, two in pairs.items()}.get(action, action)


def _clause_problem(clause: _Clause, chinese: bool) -> str:
    """Return what is wrong with a clause; "" if nothing is.

    If a clause names no known thing, its unknown words become its target.
    """
    if clause.unsupported:
        return messages.unsupported(clause.unsupported, chinese)
    if not clause.unknown_words:
        return ""
    name = " ".join(clause.unknown_words)
    has_known_target = any(target.target != WHOLE_IMAGE for target in clause.targets)
    is_short = len(clause.unknown_words) <= _MAX_THING_WORDS
    if has_known_target or not (clause.steps or is_short):
        return messages.not_understood(name, chinese)
    clause.targets = [_Target(name, name)]
    return ""


def _contradiction(steps: Sequence[EditStep], chinese: bool) -> str:
    """Return a sentence on the first contradiction; "" if there is none."""
    for index, one in enumerate(steps):
        for two in steps[index + 1 :]:
            if one.target != two.target and not {one.action, two.action} <= {"crop", "cut out"}:
                continue
            if _contradict(one, two):
                return messages.contradiction(one, two, chinese)
    return ""


def _contradict(one: EditStep, two: EditStep) -> bool:
    if one.action == two.action:
        return one.action in ("color", "like", "crop", "cut out") and one != two
    pair = {one.action, two.action}
    sets_color = {"color", "like", "black and white"}
    return pair <= sets_color or any(pair == set(opposite) for opposite in OPPOSITES)


def _several_examples(steps: Sequence[EditStep], chinese: bool) -> str:
    """Return a sentence if several examples are named; else ""."""
    examples = list(dict.fromkeys(step.value for step in steps if step.action == "like"))
    return messages.several_examples(examples, chinese) if len(examples) > 1 else ""
