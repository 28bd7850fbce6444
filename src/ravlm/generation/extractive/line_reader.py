"""Answer from the lines of pages that have a form: `key: value`, rows of tables, options, "x - y".

The span reader was trained on prose. Here the words of a question are compared with the subject of
a line: its key, its row, and the titles above it. Rare words count more (inverse document
frequency), and a word of the key must match.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ravlm.data.lexical_overlap import content_words
from ravlm.data.page_text import CellSpan
from ravlm.data.text import is_chinese
from ravlm.generation.base import Request
from ravlm.generation.extractive.passages import Passage, passages_of
from ravlm.records import Answer

MIN_COVERAGE = 0.5
"""Minimum share of a question's words, by weight, that the answering line must match."""
_MAX_CONFIDENCE = 0.9
_UNKNOWN_WEIGHT = {False: 1.0, True: 0.3}
"""Weight of a word that no line has, in other scripts and (True) in Chinese: it is a name that must
match, or a word that only asks."""
_LITERAL_WEIGHT = 3.0
"""Weight of an option as it is written ("-a"): a single letter is no word."""
_MIN_KEY_SHARE = 0.25
"""Minimum share of the matched weight that is in the key."""
_PAIR = re.compile(r"[ \t]*(?:[*•·]\s+)?([^:：\n]{1,60})[:：](?!//)[ \t]*(\S[^\n]*)")
_OPTION = re.compile(r"[ \t]*(-{1,2}[^\s,]+(?:[ ,/|]+-{1,2}[^\s,]+)*)((?:[ \t]+\S+){0,2})[ \t]*\n?")
_LITERAL = re.compile(r"(?<![\w-])-{1,2}[A-Za-z0-9?][\w-]*")
_OPTION_WORD = re.compile(r"\b(?:options?|flags?|switch(?:es)?)\b|选项|参数", re.IGNORECASE)
_DEFINITION = re.compile(r"[ \t]*([^\n:：–—]{1,40}?)\s+[-–—]+\s+(\S[^\n]*)")
_SENTENCE_END = re.compile(r"(?<=[.;])\s|[。；]")
_NOT_A_KEY = re.compile(r"[.!?;。！？；\"\[\]{}()<>=`]|https?$")
_KINDS = content_words(
    "command option flag package program table row column value page 命令 选项 参数 一表"
)
"""Words that say what kind of line is asked for."""


@dataclass(frozen=True)
class FormLine:
    """A value in a line of a known form, and the words that say what it is."""

    key: frozenset[str]
    context: frozenset[str]
    """Words of the row, and of the titles above it."""
    start: int
    end: int
    """The characters `start:end` of the passage are the value."""
    passage: Passage
    literals: frozenset[str] = frozenset()
    """Spellings of an option ("-a", "--all"); empty for other lines."""


def answer_from_lines(request: Request) -> Answer | None:
    """Return the value of the line that matches the question; None if none has enough words."""
    passages = [passage for passage in passages_of(request) if passage.page is not None]
    lines = [line for passage in passages for line in form_lines(passage)]
    best, coverage = best_line(request.text, lines)
    if best is None or coverage < MIN_COVERAGE:
        return None
    value = best.passage.part.text[best.start : best.end].strip()
    source = best.passage.source(best.start, best.end)
    return Answer(
        text=value,
        evidence=request.evidence.hits,
        citations=(source.entry_id,),
        sources=(source,),
        confidence=round(min(_MAX_CONFIDENCE, coverage), 4),
        trace={**request.evidence.trace, "read by": "lines", "coverage": round(coverage, 4)},
    )


def best_line(question: str, lines: Sequence[FormLine]) -> tuple[FormLine | None, float]:
    """Return the line that matches most words of a question, by weight, and their share.

    The first of equal lines wins. A question that names an option needs a line with the same
    spelling; a question about no option is not answered by one.
    """
    words = content_words(question) - _KINDS
    key_weights, context_weights = _weights(words, lines)
    literals = frozenset(_LITERAL.findall(question))
    asks_for_option = bool(literals) or _OPTION_WORD.search(question) is not None
    best: FormLine | None = None
    best_score = best_weight = 0.0
    for line in lines:
        if bool(line.literals) != asks_for_option or (literals and not literals & line.literals):
            continue
        key = sum(key_weights[word] for word in words & line.key)
        key += _LITERAL_WEIGHT * len(literals & line.literals)
        context = sum(context_weights[word] for word in words & (line.context - line.key))
        has_other_subject = len(words) > 1 and not words & line.context
        if not key or key < _MIN_KEY_SHARE * (key + context) or has_other_subject:
            continue
        if not line.passage.is_certain(line.start, line.end):
            continue
        surplus = 0.02 * len(line.key - words)  # prefer the key with fewer other words
        score = key + context - surplus + 0.1 * line.passage.weight
        if score > best_score:
            best, best_score, best_weight = line, score, key + context
    total = sum(
        max(key_weights[word], context_weights[word]) or _UNKNOWN_WEIGHT[is_chinese(word)]
        for word in words
    )
    total += _LITERAL_WEIGHT * len(literals)
    return best, best_weight / total if total else 0.0


def form_lines(passage: Passage) -> Iterator[FormLine]:
    """Yield the lines of a passage of a page that have a known form, in order."""
    text = passage.part.text
    metadata = passage.hit.entry.metadata
    title = content_words(" ".join(str(metadata.get(key, "")) for key in ("title", "file")))
    rows: dict[int, list[CellSpan]] = {}
    for cell in passage.page.cells if passage.page is not None else ():
        rows.setdefault(cell.line_start - passage.offset, []).append(cell)
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        context = title | content_words(_section(passage, start))
        if len(rows.get(start, ())) > 1:
            yield from _cells(passage, rows[start], context)
        else:
            yield from _line(passage, start, end, context)
        start = end + 1


def _cells(
    passage: Passage, row: Sequence[CellSpan], context: frozenset[str]
) -> Iterator[FormLine]:
    """Yield the cells of a row after its first one, which says what the row is about.

    A cell of two columns is the value of the first one; of more it is that of its column.
    """
    text, offset = passage.part.text, passage.offset
    first, *others = row
    subject = content_words(text[first.start - offset : first.end - offset])
    context |= content_words(first.column)
    for cell in others:
        if cell.start - offset >= len(text):
            return  # the passage ends within the row
        column = content_words(cell.column)
        key, about = (subject, column) if len(row) == 2 else (column, subject)
        end = min(cell.end - offset, len(text))
        yield FormLine(key, context | about, cell.start - offset, end, passage)


def _line(passage: Passage, start: int, end: int, context: frozenset[str]) -> Iterator[FormLine]:
    """Yield the value of one line: an option, `key: value`, or "x - y"."""
    text = passage.part.text
    if text[start:end].lstrip().startswith("-"):
        yield from _option(passage, start, end, context)
        return
    for pattern in (_PAIR, _DEFINITION):
        match = pattern.match(text, start)
        if match is None or _NOT_A_KEY.search(match[1]):
            continue
        first, last = match.span(2)
        if pattern is _DEFINITION:
            last = _end_of_sentence(text, first, last)
        yield FormLine(content_words(match[1]), context, first, last, passage)
        return


def _option(passage: Passage, start: int, end: int, context: frozenset[str]) -> Iterator[FormLine]:
    """Yield an option of a command with the first sentence of its description, which follows on the
    same line or on the next."""
    text = passage.part.text
    match = _OPTION.match(text, start)
    if match is None:
        return
    literals = frozenset(_LITERAL.findall(match[1]))
    first = match.end() if match.end() > end else match.end(1)
    last = text.find("\n", first)
    last = _end_of_sentence(text, first, len(text) if last < 0 else last)
    if literals and text[first:last].strip() and not text[first:last].lstrip().startswith("-"):
        key = content_words(match[1])
        yield FormLine(key, context, first, last, passage, literals)


def _end_of_sentence(text: str, start: int, end: int) -> int:
    stop = _SENTENCE_END.search(text, start, end)
    return end if stop is None else stop.start()


def _section(passage: Passage, position: int) -> str:
    if passage.page is None:
        return ""
    position += passage.offset
    blocks = passage.page.blocks
    return next((block.section for block in blocks if position < block.end), "")


def _weights(
    words: frozenset[str], lines: Sequence[FormLine]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the weight of each word in keys and in contexts: the fewer have it, the higher; 0 if
    none has it."""
    keys = {line.key for line in lines}  # a key may be repeated on a page
    contexts = {(line.key, line.context) for line in lines}
    return (
        _inverse_frequencies(words, list(keys)),
        _inverse_frequencies(words, [context for _, context in contexts]),
    )


def _inverse_frequencies(words: frozenset[str], sets: Sequence[frozenset[str]]) -> dict[str, float]:
    counts = Counter(word for members in sets for word in words & members)
    return {
        word: math.log((len(sets) + 1) / (counts[word] + 0.5)) + 0.2 if counts[word] else 0.0
        for word in words
    }
