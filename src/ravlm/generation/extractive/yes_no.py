"""Answer a question for yes or no from the span that a reader found in a passage."""

from __future__ import annotations

import re

from ravlm.data.facts import Fact, is_name_key, parse_facts
from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.generation.extractive.questions import Question, is_negated
from ravlm.generation.extractive.reader import YES_NO
from ravlm.generation.extractive.span_reader import Span

_CLAUSE_END = re.compile(r"[,;.!?](?=\s)|[:：](?!\d)|[，；。！？\n]")
_REMARK = re.compile(r"\s*[(（][^()（）]*[)）]")
_EXCLUSION = re.compile(r"\b(?:closed|except|excluding|shut)\b|闭|除了?|休息|停业", re.IGNORECASE)
_BE = ("is ", "are ", "was ", "were ")


def yes_no_answer(question: Question, span: Span, text: str) -> str:
    """Return yes where the question claims what the span, or another line of the passage `text`,
    says; no where the clause of the span denies it or names another value; and the span itself
    where it is no value of the kind that is claimed."""
    words = _REMARK.sub("", span.text).strip() or span.text.strip()
    truth = YES_NO.get(words.strip(" .。").lower())
    if truth is not None:
        return _word(question, truth)
    question_words = content_words(question.english)
    clause = _clause(text, span)
    is_denied = denies(clause) != denies(question.text)
    if _is_claimed(words, question_words):
        if not is_denied:
            return _word(question, True)
        return f"不，{clause}。" if question.chinese else f"No: {clause}."
    fact = _fact(text, span)
    key_words = content_words(fact.key if fact else "")
    if not overlap(key_words, question_words) and _claimed_fact(text, question_words):
        return _word(question, True)
    if is_denied:  # "closed on Mondays" says nothing about Tuesdays
        return fact.value if fact else clause
    if _has_digit(words) != _has_digit(question.text):
        return words
    if question.chinese:
        return f"不是，是{words}。"
    return f"No, it is {words}." if question.text.lower().startswith(_BE) else f"No: {words}."


def denies(text: str) -> bool:
    """Return whether a clause says no, not, without, except or closed."""
    return is_negated(text) or _EXCLUSION.search(text) is not None


def _word(question: Question, truth: bool) -> str:
    if question.chinese:
        return "是。" if truth else "否。"
    return "Yes." if truth else "No."


def _is_claimed(text: str, question_words: frozenset[str]) -> bool:
    """Return whether a text has content words, and the question all of them."""
    words = content_words(text)
    return bool(words) and overlap(words, question_words) == 1


def _claimed_fact(text: str, question_words: frozenset[str]) -> Fact | None:
    """Return a `key: value` fact, other than the name, whose value the question claims."""
    return next(
        (
            fact
            for fact in parse_facts(text)
            if fact.key and not is_name_key(fact.key) and _is_claimed(fact.value, question_words)
            and not denies(fact.value)
        ),
        None,
    )  # fmt: skip


def _fact(text: str, span: Span) -> Fact | None:
    """Return the `key: value` line that a span stands in, if it is one."""
    start = text.rfind("\n", 0, span.start) + 1
    end = text.find("\n", span.end)
    facts = parse_facts(text[start : end if end >= 0 else len(text)])
    return next((fact for fact in facts if fact.key), None)


def _clause(text: str, span: Span) -> str:
    """Return the clause of a text that a span stands in, without the key of its line."""
    start = max((m.end() for m in _CLAUSE_END.finditer(text, 0, span.start)), default=0)
    after = _CLAUSE_END.search(text, span.end)
    return text[start : after.start() if after else len(text)].strip()


def _has_digit(text: str) -> bool:
    return any(character.isdigit() for character in text)
