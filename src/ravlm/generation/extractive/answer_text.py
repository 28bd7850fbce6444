"""Phrase the answer from the fact that holds it: the value, the number in it, a yes or no.

The answer is in the language of the question where that is natural."""

from __future__ import annotations

import re

from ravlm.data.facts import Fact, split_list
from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.data.text import split_sentences
from ravlm.generation.extractive.question_types import QuestionTypeScores
from ravlm.generation.extractive.questions import Question, is_negated
from ravlm.generation.extractive.reader import YES_NO, FactReader

_MAX_WORDS = 12
_ONE = re.compile(r"\b(?:an?|one|any|some)\b(?! list)", re.IGNORECASE)
_ENDS_IN_QUESTION = re.compile(
    r"(是什么|是谁|是哪里|在哪里|叫什么名字|叫什么|是哪个国家|来自哪里)[？?。 ]*$"
)
_ASKING = re.compile(r"什么名字|什么|谁|哪里|哪个国家")


def phrase_answer(
    question: Question, fact: Fact, types: QuestionTypeScores, reader: FactReader
) -> str:
    """Return the words of `fact` that answer the question, or "" if it does not answer it."""
    value = fact.value.strip()
    yes_no = YES_NO.get(value.strip(" .").lower())
    if question.form == "yes/no":
        return _yes_no(question, fact, types, yes_no)
    if yes_no is not None and question.form == "choice":
        return fact.line
    if question.form == "number" or question.unit or "number" in _answer_types(types, reader):
        value = _number(question, fact, types, reader)
    elif not fact.key and len(value.split()) > _MAX_WORDS:
        value = _clause(question, value)
    elif _ONE.search(question.english) and len(value.split()) > _MAX_WORDS:
        value = ", ".join(split_list(value)[:3])
    return _framed(question, value)


def same_answer(answer: str, second: str) -> bool:
    """Return whether two answers say the same."""
    return _plain(answer) == _plain(second)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _answer_types(types: QuestionTypeScores, reader: FactReader) -> set[str]:
    return {kind for kind, weight in reader.bank.answer_types(types).items() if weight > 0.6}


def _yes_no(question: Question, fact: Fact, types: QuestionTypeScores, value: bool | None) -> str:
    """Return yes or no from such a value, reversed if the question asks for the opposite."""
    if value is None:
        return _stated(question, fact)
    if types.opposite != (question.negated != is_negated(types.nearest)):
        value = not value
    if question.chinese:
        return "是（yes）" if value else "否（no）"
    return "yes" if value else "no"


def _stated(question: Question, fact: Fact) -> str:
    """Answer whether the claim of a question is in the fact.

    Yes if an item of the value has it; no if the fact is about what is asked and no item has it;
    "" if the fact is a sentence without the claim.
    """
    question_words = content_words(question.english)
    claimed = question_words - content_words(fact.key)
    for item in split_list(fact.value) if fact.key else [fact.value]:
        words = content_words(item)
        holds = overlap(words, question_words) == 1 if fact.key else overlap(claimed, words) == 1
        if words and holds:
            return ("是" if question.chinese else "yes") + f" ({item.rstrip('.')})" * bool(fact.key)
    if not fact.key or not claimed:
        return ""
    return f"{'否' if question.chinese else 'no'} ({fact.value})"


def _number(question: Question, fact: Fact, types: QuestionTypeScores, reader: FactReader) -> str:
    """Return the quantity of the unit or dimension asked for, or the number of items of a list."""
    if question.counts and fact.key and not any(c.isdigit() for c in fact.value):
        return str(len(split_list(fact.value)))
    quantities = reader.units.find(fact.value)
    if question.unit:
        quantities = [q for q in quantities if q.unit == question.unit] or [
            q for q in quantities if q.dimension == question.dimension
        ]
    else:
        weights = reader.bank.dimensions(types)
        likely = max(weights, key=lambda d: weights[d])
        quantities = [q for q in quantities if q.dimension == likely] if likely else []
    if not quantities or len(fact.value.split()) <= 2:
        return (
            fact.value
            if len(fact.value.split()) <= _MAX_WORDS or fact.key
            else _clause(question, fact.value)
        )
    if not question.unit and len(quantities) > 1 and not fact.key:  # 3 1/2-4" (89-102 mm): both
        return ", ".join(dict.fromkeys(q.text for q in quantities[:2]))
    return quantities[0].text


def _clause(question: Question, sentence: str) -> str:
    """Return the clause that shares most words with the question, or the whole sentence if none
    stands out."""
    clauses = [c.strip() for c in re.split(r"[;；]|(?<=\w), (?=\w)", sentence) if c.strip()]
    question_words = content_words(question.english)
    shares = [overlap(question_words, content_words(c)) for c in clauses]
    if len(clauses) < 2 or max(shares) == 0 or shares.count(max(shares)) > 1:
        return sentence
    return clauses[shares.index(max(shares))]


def _framed(question: Question, value: str) -> str:
    """Put a short answer to a Chinese question in its place: 首都是哪里？ -> 首都是 Paris。"""
    text = question.text.strip()
    match = _ENDS_IN_QUESTION.search(text)
    if (
        not question.chinese
        or match is None
        or len(value.split()) > _MAX_WORDS
        or len(split_sentences(text)) != 1
    ):
        return value
    gap = " " if value[:1].isascii() else ""
    statement = _ASKING.sub(f"{gap}{value}", match[1], count=1)
    return f"{text[: match.start()]}{statement}".rstrip("。.") + "。"
