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
from dataclasses import dataclass, replace

from ravlm.data.chinese import HAN
from ravlm.data.lexical_overlap import FUNCTION_WORDS, content_words, without_question_words
from ravlm.data.line_keys import OPTION, PAIR, numbered_items
from ravlm.data.page_text import CellSpan, PageText
from ravlm.data.text import is_chinese, split_words
from ravlm.generation.base import Request
from ravlm.generation.extractive.definitions import FoundDefinition, find_definition
from ravlm.generation.extractive.passages import Passage, passages_of
from ravlm.records import Answer

MIN_COVERAGE = 0.5
"""Minimum share of a question's words, by weight, that the answering line must match."""
MAX_PAGE_CHARACTERS = 50_000
"""Characters of a page that are read. Comparing lines is fast, so these are whole pages."""
_MAX_CONFIDENCE = 0.9
_UNKNOWN_CHINESE, _UNKNOWN_OTHER = 0.3, 0.5
"""Weight of a word that no line has, unless it is a name."""
_LATE_KEY = 0.3
"""Penalty of a key at the end of a question, next to one at its beginning."""
_MIN_WEIGHT = 0.5
"""Weight of a word that all lines have."""
_LITERAL_WEIGHT = 3.0
"""Weight of an option as it is written ("-a"): a single letter is no word."""
_HEAD_CHARACTERS = 120
"""Characters before an enumeration that say what it counts."""
_MIN_KEY_SHARE, _MIN_KEY_WORDS = 0.25, 0.5
"""Minimum share of the matched weight that is in the key, or of the key's words that match."""
_LITERAL = re.compile(r"(?<![\w-])-{1,2}[A-Za-z0-9?][\w-]*")
_OPTION_WORD = re.compile(r"\b(?:options?|flags?|switch(?:es)?)\b|选项|参数", re.IGNORECASE)
_DEFINITION = re.compile(
    rf"[ \t]*([^\n:：–—]{{1,40}}?)(?:\s+[-–—]+\s+|(?<=[A-Za-z0-9])[-–—]+(?=[{HAN}]))(\S[^\n]*)"
)
"""What something is for: "ls - list directory contents"; recognizers of text leave out the spaces
before Chinese."""
_SENTENCE_END = re.compile(r"(?<=[.;])\s|[。；]")
_NOT_A_KEY = re.compile(r"[.!?;。！？；\"\[\]{}()<>=`]|https?$")
_KINDS = content_words(
    "command option flag package program table row column value page 命令 选项 参数 一表"
    " used purpose 做 干 用 用于 用途 作用"
)
"""Words that say what kind of line is asked for, or what it is for."""


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
    title: frozenset[str] = frozenset()
    """Words of the document's title."""
    is_summary: bool = False
    """Whether it is "x - y" and x the subject of the document."""
    needs_whole_key: bool = False
    """Whether a question must have all words of the key."""


def answer_from_lines(request: Request) -> Answer | None:
    """Return the definition that is asked for, or else the value of the line that matches the
    question; None if no line has enough words."""
    passages = [
        passage for passage in passages_of(request, MAX_PAGE_CHARACTERS) if passage.page is not None
    ]
    definition = find_definition(request.text, passages)
    if definition is not None:
        return _answer(request, definition, definition.coverage)
    lines = [line for passage in passages for line in form_lines(passage)]
    best, coverage = best_line(request.text, lines)
    if best is None or coverage < MIN_COVERAGE:
        return None
    return _answer(request, best, coverage)


def _answer(request: Request, found: FormLine | FoundDefinition, coverage: float) -> Answer:
    passage = found.passage
    source = passage.source(found.start, found.end)
    return Answer(
        text=passage.part.text[found.start : found.end].strip(),
        evidence=request.evidence.hits,
        citations=(source.entry_id,),
        sources=(source,),
        confidence=round(min(_MAX_CONFIDENCE, coverage), 4),
        trace={**request.evidence.trace, "read by": "lines", "coverage": round(coverage, 4)},
    )


def page_title(request: Request) -> Answer | None:
    """Return the title at the top of the first page of the evidence; None without one."""
    for passage in passages_of(request, MAX_PAGE_CHARACTERS):
        first = passage.page.blocks[0] if passage.page and passage.page.blocks else None
        if first is None or first.kind != "title" or passage.offset:
            continue
        if not passage.is_certain(first.start, first.end):
            continue
        return Answer(
            text=passage.part.text[first.start : first.end].strip(),
            evidence=request.evidence.hits,
            citations=(passage.hit.entry.id,),
            sources=(passage.source(first.start, first.end),),
            confidence=_MAX_CONFIDENCE,
            trace={**request.evidence.trace, "read by": "title"},
        )
    return None


def best_line(question: str, lines: Sequence[FormLine]) -> tuple[FormLine | None, float]:
    """Return the line that matches most words of a question, by weight, and their share.

    The first of equal lines wins. A question that names an option needs a line with the same
    spelling; a question about no option is not answered by one.
    """
    text = without_question_words(question)
    words = content_words(text)
    function_words = {word for line in lines for word in line.key} & FUNCTION_WORDS
    words |= function_words & set(split_words(text))
    lines = [line for line in lines if line.key <= words or not line.needs_whole_key]
    positions = _positions(text)
    key_weights, context_weights = _weights(words, lines)
    literals = frozenset(_LITERAL.findall(question))
    asks_for_option = bool(literals) or _OPTION_WORD.search(question) is not None
    best: FormLine | None = None
    best_score = best_weight = 0.0
    for line in lines:
        if literals and not literals & line.literals:
            continue
        if line.literals and not asks_for_option:
            continue
        key = sum(key_weights[word] for word in words & line.key)
        key += _LITERAL_WEIGHT * len(literals & line.literals)
        context = sum(context_weights[word] for word in words & (line.context - line.key))
        has_key = len(words & line.key) >= _MIN_KEY_WORDS * len(line.key)
        if not line.key <= FUNCTION_WORDS:
            has_key = has_key or key >= _MIN_KEY_SHARE * (key + context)
        has_other_subject = len(words - _KINDS) > 1 and not words & line.context
        if not key or not has_key or has_other_subject or _is_about_more(words, line):
            continue
        if not line.passage.is_certain(line.start, line.end):
            continue
        surplus = 0.02 * len(line.key - words)  # prefer the key with fewer other words
        late = min((positions[word] for word in line.key & positions.keys()), default=0.0)
        score = key + context - surplus - _LATE_KEY * late + 0.1 * line.passage.weight
        if score > best_score:
            best, best_score, best_weight = line, score, key + context
    total = sum(
        max(key_weights[word], context_weights[word]) or _unknown_weight(word, question)
        for word in words
    )
    total += _LITERAL_WEIGHT * len(literals)
    return best, best_weight / total if total else 0.0


def _is_about_more(words: frozenset[str], line: FormLine) -> bool:
    """Return whether a line says something about the subject of its document that is not asked for.

    Words of the title don't tell one line of the document from the others: "How often does watch
    run a command?" is not answered by "watch - execute a program", nor by "watch homepage: ...".
    """
    if line.is_summary:
        return bool(words - line.title - _KINDS)
    return words & line.key <= line.title and not line.key <= words and not line.literals


def _positions(question: str) -> dict[str, float]:
    """Return the first position of each content word in a question, 0 to 1: the key that it asks
    for comes early ("Until when are there works ...")."""
    pieces = question.split()
    positions: dict[str, float] = {}
    for number, piece in enumerate(pieces):
        for word in content_words(piece):
            positions.setdefault(word, number / len(pieces))
    return positions


def _key_words(text: str) -> frozenset[str]:
    """Return the content words of a key, or all words if it has none ("What to do")."""
    return content_words(text) or frozenset(split_words(text))


def _unknown_weight(word: str, question: str) -> float:
    """Return the weight of a word that no line has: a name must match, other words only ask."""
    if word in _KINDS:
        return 0.0
    if is_chinese(word):
        return _UNKNOWN_CHINESE
    is_name = re.search(rf"(?<!^)\b{re.escape(word[0].upper() + word[1:])}", question) is not None
    return 1.0 if is_name or any(map(str.isdigit, word)) else _UNKNOWN_OTHER


def form_lines(passage: Passage) -> Iterator[FormLine]:
    """Yield the lines of a passage of a page that have a known form, in order."""
    text, page = passage.part.text, passage.page or PageText()
    metadata = passage.hit.entry.metadata
    title = content_words(" ".join(str(metadata.get(key, "")) for key in ("title", "file")))
    rows: dict[int, list[CellSpan]] = {}
    for cell in page.cells:
        rows.setdefault(cell.line_start - passage.offset, []).append(cell)
    contexts = {"": title}  # by section
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        block = page.block_at(passage.offset + start)
        section = "" if block is None else block.section
        if section not in contexts:
            contexts[section] = title | content_words(section)
        context = contexts[section]
        if block is not None and block.kind == "title":
            pass  # it may look like `key: value`
        elif len(rows.get(start, ())) > 1:
            yield from _cells(passage, rows[start], context)
        else:
            for line in _line(passage, start, end, context):
                yield replace(line, title=title, is_summary=line.is_summary and line.key <= title)
            if block is not None and start == max(block.start - passage.offset, 0):
                block_end = min(block.end - passage.offset, len(text))
                yield from _numbered(passage, start, block_end, context)
        start = end + 1


def _cells(
    passage: Passage, row: Sequence[CellSpan], context: frozenset[str]
) -> Iterator[FormLine]:
    """Yield the cells of a row after its first one, which names the subject of the row.

    With two columns the subject is the key, with more the name of the cell's column.
    """
    text, offset = passage.part.text, passage.offset
    first, *others = row
    subject = content_words(text[first.start - offset : first.end - offset])
    context |= content_words(first.column)
    for cell in others:
        if cell.start - offset >= len(text):
            return  # the passage ends within the row
        column = _key_words(cell.column)
        key, other = (subject, column) if len(row) == 2 else (column, subject)
        end = min(cell.end - offset, len(text))
        yield FormLine(key, context | other, cell.start - offset, end, passage)


def _line(passage: Passage, start: int, end: int, context: frozenset[str]) -> Iterator[FormLine]:
    """Yield the value of one line: an option, `key: value`, or "x - y"."""
    text = passage.part.text
    if text[start:end].lstrip().startswith("-"):
        yield from _option(passage, start, end, context)
        return
    for pattern in (PAIR, _DEFINITION):
        match = pattern.match(text, start)
        if match is None or _NOT_A_KEY.search(match[1]):
            continue
        first, last = match.span(2)
        if pattern is _DEFINITION:
            last = _end_of_sentence(text, first, last)
        is_summary = pattern is _DEFINITION
        key = content_words(match[1])
        yield FormLine(key, context, first, last, passage, is_summary=is_summary)
        return


def _option(passage: Passage, start: int, end: int, context: frozenset[str]) -> Iterator[FormLine]:
    """Yield an option of a command with the first sentence of its description, which follows on the
    same line or on the next."""
    text = passage.part.text
    match = OPTION.match(text, start)
    if match is None:
        return
    literals = frozenset(_LITERAL.findall(match[1]))
    first = match.end() if match.end() > end else match.end(1)
    last = text.find("\n", first)
    last = _end_of_sentence(text, first, len(text) if last < 0 else last)
    if literals and text[first:last].strip() and not text[first:last].lstrip().startswith("-"):
        key = content_words(match[1])
        yield FormLine(key, context, first, last, passage, literals)


def _numbered(
    passage: Passage, start: int, end: int, context: frozenset[str]
) -> Iterator[FormLine]:
    """Yield what each number of an enumeration means, and the number of each meaning.

    What stands before the first one says what the numbers are ("Exit codes: 0 done, 1 refused").
    """
    text = passage.part.text
    items = numbered_items(text, start, end)
    if items:
        first = items[0].number_start
        context |= content_words(text[max(start, first - _HEAD_CHARACTERS) : first])
    for item in items:
        number_end = item.number_start + len(item.number)
        yield FormLine(frozenset({item.number}), context, item.start, item.end, passage)
        key = content_words(text[item.start : item.end])
        yield FormLine(key, context, item.number_start, number_end, passage, needs_whole_key=True)


def _end_of_sentence(text: str, start: int, end: int) -> int:
    stop = _SENTENCE_END.search(text, start, end)
    return end if stop is None else stop.start()


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
    weights = dict.fromkeys(words, 0.0)
    for word, count in counts.items():
        weights[word] = math.log((len(sets) + 1) / (count + 0.5)) + _MIN_WEIGHT
    return weights
