"""Judge the support of a Chinese sentence: its characters in runs of the evidence, without a
dictionary, with the same numbers, polarity and subject."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ravlm.data.chinese import HAN
from ravlm.data.facts import Fact, is_name_key, parse_facts
from ravlm.data.text import normalize_text
from ravlm.generation.support_lexicon import (
    CHINESE_NEGATORS,
    CHINESE_NEUTRAL,
    CHINESE_PRONOUNS,
    YES_NO,
)

_TOKEN = re.compile(rf"[{HAN}]+|\d+(?:,\d{{3}})*(?:\.\d+)?|[^\W\d_]+")
_HAN_RUN = re.compile(rf"[{HAN}]+")
_CLAUSE_BORDER = re.compile(r"[,;，；。！？!?]")
_SUBJECT_END = re.compile(r"[是于在由有，,的为将以与和被把]")
_LEXICAL_NEGATORS = (
    "不锈",
    "无线",
    "非洲",
    "非常",
    "未来",
    "不仅",
    "不但",
    "不过",
    "无论",
    "不久",
    "不断",
    "不同",
)
_PASSIVE = frozenset("被由把受")
_MEASURES = frozenset("长宽高深重厚")
_MEASURE_ENDINGS = ("度", "量", "高")
_POLARITY_REACH = 2
_MAX_CANDIDATES = 12
"""Statements that a clause is compared with: those that share most character pairs with it."""
_MIN_HEAD = 2


@dataclass(frozen=True)
class _ChineseStatement:
    """A sentence, or the lines of a card, in normalized form."""

    text: str
    context: str
    """What it is about: the title of its text and the subject before, one a line."""
    lines: tuple[Fact, ...] = ()
    owned: str = ""
    """Beginning of the noun after "its", if the statement opens so."""


@dataclass(frozen=True)
class _Tile:
    """A run of characters of a sentence that the evidence has, too."""

    start: int
    text: str
    position: int
    """Where the statement has it; -1 if only its title does."""


class ChineseEvidence:
    """The statements of Chinese texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._statements = [s for text in texts for s in _read(normalize_text(text))]

    def has_content(self, sentence: str) -> bool:
        """Return whether a sentence has more than neutral words."""
        return any(map(_strip_neutral, _TOKEN.findall(normalize_text(sentence))))

    def unsupported(self, sentence: str, subject: str = "") -> tuple[str, ...]:
        """Return the characters that lack support, as runs; see `support.unsupported_words`."""
        sentence = normalize_text(sentence).rstrip("。！？!? ")
        subject = normalize_text(subject)
        problems = self._best(sentence, subject)
        clauses = [c for c in _CLAUSE_BORDER.split(sentence) if c.strip()]
        if problems and len(clauses) > 1:
            head = subject or _subject(clauses[0])
            problem_lists = [self._best(clauses[0], subject)]
            problem_lists += [self._best(clause, head) for clause in clauses[1:]]
            problems = [word for words in problem_lists for word in words]
        return tuple(dict.fromkeys(problems))

    def _best(self, clause: str, subject: str) -> list[str]:
        best: list[str] | None = None
        for statement in self._candidates(clause):
            problems = _problems(clause, statement)
            if subject and subject not in statement.text and subject not in statement.context:
                problems.append(subject)
            if not problems:
                return []
            if best is None or len(problems) < len(best):
                best = problems
        return _TOKEN.findall(clause) if best is None else best

    def _candidates(self, clause: str) -> list[_ChineseStatement]:
        grams = {clause[i : i + 2] for i in range(len(clause) - 1)}
        ranked = sorted(self._statements, key=lambda s: -sum(gram in s.text for gram in grams))
        return ranked[:_MAX_CANDIDATES]


def _read(text: str) -> Iterator[_ChineseStatement]:
    facts = parse_facts(text)
    keyed = tuple(fact for fact in facts if fact.key)
    names = [fact.value for fact in keyed if is_name_key(fact.key)]
    if not names and len(facts) > 1 and _names_subject(facts[0]):
        names = [facts[0].value]
    title = "\n".join(names)
    if keyed:
        body = "\n".join(f"{fact.section}{fact.key}:{fact.value}" for fact in keyed)
        yield _ChineseStatement(body, title, keyed)
    subject = ""
    for fact in facts:
        if fact.key:
            continue
        for clause in fact.value.replace("；", "。").split("。"):
            if not clause.strip():
                continue
            takes_over = clause.startswith(CHINESE_PRONOUNS) or clause[0].isdigit()
            context = f"{title}\n{subject if takes_over else ''}"
            owned = clause[2:4] if clause[1:2] == "的" and takes_over else ""
            yield _ChineseStatement(f"{fact.section}\n{clause}", context, owned=owned)
            if not takes_over:
                subject = _subject(clause)


def _names_subject(first: Fact) -> bool:
    """Return whether the first line of a text is a heading, or a key with a name as its value."""
    if not first.key:
        return first.value[-1:] not in "。！？"
    is_name = not first.value[:1].isdigit() and not re.search("[,、]", first.value)
    return is_name and first.value not in YES_NO


def _subject(clause: str) -> str:
    """Return the beginning of a clause, up to the first word that follows a subject."""
    end = _SUBJECT_END.search(clause, _MIN_HEAD)
    head = clause[: end.start()] if end else ""
    return "" if head.startswith(CHINESE_PRONOUNS) else head


def _problems(clause: str, statement: _ChineseStatement) -> list[str]:
    problems: list[str] = []
    tiles: list[_Tile] = []
    for match in _TOKEN.finditer(clause):
        word = match[0]
        if word[0].isdigit():
            unit = clause[match.end() : match.end() + 1].strip("，。,; ")
            before = clause[match.start() - 1 : match.start()]
            if not _has_number(word, unit, statement.text, before):
                problems.append(word)
        elif _HAN_RUN.fullmatch(word):
            problems += _tile(word, match.start(), statement, tiles)
        elif word.casefold() not in _latin(statement):
            problems.append(word)
    problems += _polarity_problems(clause, statement, tiles)
    problems += _role_problems(clause, statement, tiles)
    problems += _key_problems(clause, statement)
    if statement.owned and statement.owned not in clause:
        problems += [tile.text for tile in tiles if tile.position < 0][:1]
    return problems


def _tile(run: str, start: int, statement: _ChineseStatement, tiles: list[_Tile]) -> list[str]:
    """Cover a run by the longest runs that the evidence has; return what is left over."""
    left_over: list[str] = []
    index = 0
    after_single = False
    while index < len(run):
        end = len(run)
        while end > index + 1 and not _has_run(run[index:end], statement):
            end -= 1
        neutral = next((w for w in CHINESE_NEUTRAL if run.startswith(w, index)), "")
        piece = run[index:end]
        is_content = bool(_strip_neutral(piece))
        if len(piece) > max(1, len(neutral)) and is_content:
            tiles.append(_Tile(start + index, piece, statement.text.find(piece)))
            after_single = False
        elif neutral:
            piece = neutral
        elif piece in CHINESE_NEGATORS:
            pass
        elif not after_single and _has_run(piece, statement):
            tiles.append(_Tile(start + index, piece, statement.text.find(piece)))
            after_single = True
        elif left_over and start + index > 0 and run[:index].endswith(left_over[-1]):
            left_over[-1] += piece
        else:
            left_over.append(piece)
        index += len(piece)
    return left_over


def _has_run(run: str, statement: _ChineseStatement) -> bool:
    return run in statement.text or run in statement.context


def _strip_neutral(run: str) -> str:
    for word in CHINESE_NEUTRAL:
        run = run.replace(word, "")
    return "".join(c for c in run if c not in CHINESE_NEGATORS)


def _has_number(number: str, unit: str, text: str, before: str) -> bool:
    """Return whether a text has a number, before the same character if that is of a unit, and not
    after another measure than `before`."""
    bare = re.escape(number.replace(",", ""))
    plain = text.replace(",", "")
    for match in re.finditer(rf"(?<![\d.]){bare}(?!\d|\.\d)", plain):
        measure = plain[match.start() - 1 : match.start()]
        if before in _MEASURES and measure in _MEASURES and before != measure:
            continue
        follower = plain[match.end() : match.end() + 1]
        if follower in ("", "\n") or not (follower.isalpha() or follower in "%℃°"):
            follower = plain[match.end() : match.end() + 2].strip(" ")[:1]
        if not unit or unit == follower or not (follower.isalpha() or follower in "%℃°"):
            return bool(unit) or not (follower.isalpha() and follower not in "的是和及于在由被")
    return False


def _latin(statement: _ChineseStatement) -> set[str]:
    return {w.casefold() for w in _TOKEN.findall(f"{statement.text} {statement.context}")}


def _is_negated(text: str, position: int) -> bool:
    start = max(0, position - _POLARITY_REACH)
    if any(word in text[start : position + 1] for word in _LEXICAL_NEGATORS):
        return False
    before = re.split(r"[，。,;；\n:：]", text[start:position])[-1]
    return any(character in CHINESE_NEGATORS for character in before)


def _polarity_problems(
    clause: str, statement: _ChineseStatement, tiles: Sequence[_Tile]
) -> list[str]:
    """Return the runs that are negated in one of clause and statement only."""
    problems = []
    truths = [f.key for f in statement.lines if f.value.strip("。 ") in YES_NO]
    for tile in tiles:
        if tile.position < 0 or any(tile.text in key for key in truths):
            continue
        if _is_negated(clause, tile.start) != _is_negated(statement.text, tile.position):
            problems.append(tile.text)
    return problems


def _role_problems(clause: str, statement: _ChineseStatement, tiles: Sequence[_Tile]) -> list[str]:
    """Return the subject if subject, verb and object stand in the opposite order."""
    positions = [tile.position for tile in tiles if len(tile.text) > 1]
    if statement.lines or len(positions) != 3 or min(positions) < 0:
        return []
    is_reversed = positions[0] > positions[1] > positions[2]
    passive = [any(c in _PASSIVE for c in text) for text in (clause, statement.text)]
    return [tiles[0].text] if is_reversed and passive[0] == passive[1] else []


def _key_problems(clause: str, statement: _ChineseStatement) -> list[str]:
    """Return the keys that a clause names without their value, or with that of another key."""
    key_facts = [fact for fact in statement.lines if _names_key(fact, clause, statement.context)]
    problems = []
    for fact in key_facts:
        truth = YES_NO.get(fact.value.strip("。 "))
        if truth is not None:
            position = clause.find(fact.key.removeprefix("是否"))
            is_quoted = f'"{fact.value}"' in clause
            if _is_negated(clause, position) == truth and not is_quoted:
                problems.append(fact.key)
        elif not _shares_value(clause, fact):
            problems.append(fact.key)
    if key_facts:
        numbers = re.findall(r"\d+(?:\.\d+)?", clause)
        allowed = " ".join(f"{f.key} {f.value}" for f in key_facts) + statement.context
        problems += [n for n in numbers if not re.search(rf"(?<![\d.]){n}(?!\d|\.\d)", allowed)]
    return problems


def _names_key(fact: Fact, clause: str, context: str) -> bool:
    key = fact.key.removeprefix("是否")
    if key in context or fact.value in context:
        return False
    if key in clause:
        return True
    short = key[:-1] if key.endswith(_MEASURE_ENDINGS) and len(key) > 1 else ""
    return bool(short) and re.search(rf"{re.escape(short)}(?:约|达|为)?\d", clause) is not None


def _shares_value(clause: str, fact: Fact) -> bool:
    remainder = clause.replace(fact.key, "")
    numbers = re.findall(r"\d+(?:\.\d+)?", fact.value)
    if numbers:
        return any(re.search(rf"(?<![\d.]){n}(?!\d|\.\d)", remainder) for n in numbers)
    if not _HAN_RUN.search(fact.value) or len(fact.value) == 1:
        return fact.value.casefold() in remainder.casefold()
    return any(fact.value[i : i + 2] in remainder for i in range(len(fact.value) - 1))
