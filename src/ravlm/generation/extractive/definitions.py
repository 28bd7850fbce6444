"""Answer from the sentences of pages that define a term: `"X" means ...`, `X is a ...`, X是指……

The span reader takes a name or the term itself for its definition. A definition has a form that can
be recognized: the term, a verb of defining, and the rest of the sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ravlm.data.lexical_overlap import content_words, without_question_words
from ravlm.data.page_text import PageText
from ravlm.data.text import sentence_spans, split_words
from ravlm.generation.extractive.passages import Passage

_MIN_COVERAGE = 0.5
"""Minimum share of the other words of a question that the page of a definition must have."""
_QUOTED = r"[\"“”„«「『]\s?(?P<term>[^\"“”«»「」『』\n]{1,60}?)\s?[\"”“»」』]"
_MEANS = (
    r"(?:(?:shall|also|here)\s+){0,2}"
    r"(?:means?|refers?\s+to|denotes?|stands?\s+for|(?:is|are)\s+defined\s+as)"
    r"|bedeutet|bezeichnet|désigne|signifie"
)
_IS = r"is|are|ist|sind|est|sont"
_ARTICLE = r"an?|the|one\s+of|any|either|eine?[rs]?|d(?:er|ie|as)|une?|l[ea]|les"
_LEAD = r"(?:[-*•]\s+|\(?[\d.]{1,8}\)?\s+)?(?:(?:The|An?|To|D(?:er|ie|as)|Eine?|L[ea]|Une?)\s+)?"
_FORMS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_QUOTED}(?:\s\([^()]{{1,40}}\))?(?P<middle>[^.;:,()。；：，]{{0,40}}?)\s+"
        rf"(?:{_MEANS}|{_IS})\s+(?P<value>\S.*)",
        rf"{_QUOTED}(?P<middle>)(?:一词)?(?:是指|系指|指的是|所?指|即|是)[，：:]?\s*(?P<value>\S.*)",
        rf"^{_LEAD}(?P<term>[^\s.;:,，。；：][^;:,，。；：\"“”]{{0,60}}?)(?P<middle>)\s+"
        rf"(?:(?:{_MEANS})\s+|(?:{_IS})\s+(?=(?:{_ARTICLE})\s))(?P<value>\S.*)",
        r"^(?P<term>[^，。；：“”\n]{1,20}?)(?P<middle>)\s?(?:是指|系指|指的是|是)[，：:]?\s*(?P<value>\S.*)",
    )
)
"""A quoted term and any verb of being; or a term that begins a sentence and a verb of defining, or
"is" before an article."""
_CLAUSE = re.compile(r"[^;；\s][^;；]*")
_ASKED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bwhat does it mean to (?P<term>.+)",
        r"\bwhat (?:does|do) (?:the (?:term|word) )?(?P<term>.+?) "
        r"(?:mean|refer to|stand for|denote)\b",
        r"\b(?:what|who) (?:is|are) meant by (?P<term>.+)",
        r"\bhow (?:is|are) (?:the term )?(?P<term>.+?) defined\b",
        r"\b(?:define|definition of|meaning of) (?P<term>.+)",
        r"\bwhat (?:kind|sort|type)s? of \w+ (?:is|are) (?P<term>.+)",
        r"^(?:what|who)(?:'s|’s| is| are) (?P<term>.+)",
        r"^was (?:ist|sind|bedeutet|heißt|versteht man unter) (?P<term>.+)",
        r"^(?:qu['’]est-ce qu(?:e |['’])|que signifie )(?P<term>.+)",
        r"^(?:请问)?(?:什么是|什么叫做?|何谓)(?P<term>.+)",
        r"^(?P<term>.+?)(?:一词)?(?:是什么意思|指的是什么|是指什么|指什么|的(?:定义|含义|意思)是什么"
        r"|是什么(?:程序|东西|命令|工具|软件|文件)?)$",
    )
)
_QUOTED_TERM = re.compile(_QUOTED)
_AFTER_TERM = re.compile(r"\s(?:in|of|under|for|within|according to|by|on|im|dans)\s")
_BEFORE_TERM = re.compile(
    r"^(?:the|an?|der|die|das|eine?|les?|la|l['’]|une?)\b\s*|^.*[中里]的?", re.IGNORECASE
)


@dataclass(frozen=True)
class Definition:
    """What the characters `start:end` of a text say that a term is."""

    term: frozenset[str]
    """Its content words, or all words if it has none."""
    middle: frozenset[str]
    """Content words between the term and the verb: `"Source" form means`."""
    start: int
    end: int


class AskedTerm(NamedTuple):
    """The term whose definition is asked for, and the other words of the question."""

    term: str
    rest: str


@dataclass(frozen=True)
class FoundDefinition:
    """The definition that a question asks for."""

    passage: Passage
    start: int
    end: int
    coverage: float
    """Share of the question's other words that are on the page."""


def asked_term(question: str) -> AskedTerm | None:
    """Return the term whose definition a question asks for; None if it asks for something else.

    >>> asked_term('What does "Source" form mean in the license?')
    AskedTerm(term='Source', rest=' form  in the license')
    """
    bare = question.strip().rstrip("?？.。!！ ")
    match = next((match for form in _ASKED if (match := form.search(bare))), None)
    if match is None:
        return None
    phrase = match["term"]
    quoted = _QUOTED_TERM.search(phrase)
    if quoted is not None:
        term, start, end = quoted["term"], *quoted.span()
    else:
        start = max((m.end() for m in _BEFORE_TERM.finditer(phrase)), default=0)
        after = _AFTER_TERM.search(phrase)
        end = after.start() if after else len(phrase)
        term = phrase[start:end]
    others = (bare[: match.start()], phrase[:start], phrase[end:], bare[match.end() :])
    return AskedTerm(term, " ".join(filter(None, others)))


def definitions(text: str, start: int, end: int) -> Iterator[Definition]:
    """Yield what the sentences within the characters `start:end` of a text define."""
    block = text[start:end].replace("\n", " ")
    clauses = (
        clause.span()
        for first, last in sentence_spans(block)
        for clause in _CLAUSE.finditer(block, first, last)
    )
    for first, last in clauses:
        matches = (form.search(block[first:last].rstrip(".。 ")) for form in _FORMS)
        match = next(filter(None, matches), None)
        if match is not None:
            value_start, value_end = match.span("value")
            middle, offset = content_words(match["middle"]), start + first
            yield Definition(
                _words(match["term"]), middle, offset + value_start, offset + value_end
            )


def find_definition(question: str, passages: Sequence[Passage]) -> FoundDefinition | None:
    """Return the definition of the term that a question asks for, if a page has it.

    Of several, that on the page with most of the question's other words, then the first.
    """
    asked_for = asked_term(question)
    if asked_for is None:
        return None
    asked = _words(asked_for.term)
    others = content_words(without_question_words(asked_for.rest))
    found: FoundDefinition | None = None
    for passage in passages:
        coverage = _coverage(others, passage)
        if coverage < _MIN_COVERAGE or (found is not None and coverage <= found.coverage):
            continue
        for definition in _page_definitions(passage):
            is_meant = definition.term <= asked <= definition.term | definition.middle
            if is_meant and passage.is_certain(definition.start, definition.end):
                found = FoundDefinition(passage, definition.start, definition.end, coverage)
                break
    return found


def _page_definitions(passage: Passage) -> Iterator[Definition]:
    text, page = passage.part.text, passage.page or PageText()
    for block in page.blocks:
        start, end = block.start - passage.offset, block.end - passage.offset
        if block.kind not in ("title", "table") and start >= 0 and end <= len(text):
            yield from definitions(text, start, end)


def _coverage(words: frozenset[str], passage: Passage) -> float:
    """Return the share of words that a page or its titles have."""
    if not words:
        return 1.0
    metadata = passage.hit.entry.metadata
    titles = " ".join(str(metadata.get(key, "")) for key in ("title", "file", "section"))
    return len(words & content_words(f"{titles} {passage.part.text}")) / len(words)


def _words(term: str) -> frozenset[str]:
    return content_words(term) or frozenset(split_words(term))
