"""From the fact that answers to the words of the answer: the value, the number in it, a yes or no;
in the question's language where that is natural. Knows no retrieval."""

from __future__ import annotations

import re

from ravlm.data.facts import Fact, split_list
from ravlm.data.lexical_overlap import content_words, overlap
from ravlm.data.text import split_sentences
from ravlm.generation.extractive.question_types import QuestionTypeScores
from ravlm.generation.extractive.questions import Question, negated
from ravlm.generation.extractive.reader import YES_NO, Reader

_MOST_WORDS = 12
_ONE = re.compile(r"\b(?:an?|one|any|some)\b(?! list)", re.IGNORECASE)
_ENDS_IN_QUESTION = re.compile(
    r"(是什么|是谁|是哪里|在哪里|叫什么名字|叫什么|是哪个国家|来自哪里)[？?。 ]*$"
)
_ASKING = re.compile(r"什么名字|什么|谁|哪里|哪个国家")


def phrase(question: Question, fact: Fact, about: QuestionTypeScores, reader: Reader) -> str:
    """The words that answer `question` from `fact`; an empty string where the fact turns out not to
    answer it."""
    value = fact.value.strip()
    yes_no = YES_NO.get(value.strip(" .").lower())
    if question.form == "yes/no":
        return _yes_no(question, fact, about, yes_no)
    if yes_no is not None and question.form == "choice":
        return fact.line
    if question.form == "number" or question.unit or "number" in _types(about, reader):
        value = _number(question, fact, about, reader)
    elif not fact.key and len(value.split()) > _MOST_WORDS:
        value = _clause(question, value)
    elif _ONE.search(question.english) and len(value.split()) > _MOST_WORDS:
        value = ", ".join(split_list(value)[:3])
    return _framed(question, value)


def same(one: str, other: str) -> bool:
    """Whether two answers say the same."""
    return _plain(one) == _plain(other)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _types(about: QuestionTypeScores, reader: Reader) -> set[str]:
    return {kind for kind, weight in reader.bank.types(about).items() if weight > 0.6}


def _yes_no(question: Question, fact: Fact, about: QuestionTypeScores, value: bool | None) -> str:
    """Yes or no: from such a value, turned round where the question asks for the opposite; or from
    what is stated."""
    if value is None:
        return _stated(question, fact)
    if about.opposite != (question.negated != negated(about.nearest)):
        value = not value
    if question.chinese:
        return "是（yes）" if value else "否（no）"
    return "yes" if value else "no"


def _stated(question: Question, fact: Fact) -> str:
    """Whether a question's own claim stands in the fact: yes where an item of the value is in it,
    no where the fact is about what is asked and has no such item, nothing where the fact is a
    sentence that lacks the claim."""
    asked = content_words(question.english)
    claimed = asked - content_words(fact.key)
    for item in split_list(fact.value) if fact.key else [fact.value]:
        words = content_words(item)
        holds = overlap(words, asked) == 1 if fact.key else overlap(claimed, words) == 1
        if words and holds:
            return ("是" if question.chinese else "yes") + f" ({item.rstrip('.')})" * bool(fact.key)
    if not fact.key or not claimed:
        return ""
    return f"{'否' if question.chinese else 'no'} ({fact.value})"


def _number(question: Question, fact: Fact, about: QuestionTypeScores, reader: Reader) -> str:
    """The quantity that the question wants, by its unit or its dimension; the number of items of a
    list."""
    if question.counts and fact.key and not any(c.isdigit() for c in fact.value):
        return str(len(split_list(fact.value)))
    found = reader.units.find(fact.value)
    if question.unit:
        found = [q for q in found if q.unit == question.unit] or [
            q for q in found if q.dimension == question.dimension
        ]
    else:
        weights = reader.bank.dimensions(about)
        likely = max(weights, key=lambda d: weights[d])
        found = [q for q in found if q.dimension == likely] if likely else []
    if not found or len(fact.value.split()) <= 2:
        return (
            fact.value
            if len(fact.value.split()) <= _MOST_WORDS or fact.key
            else _clause(question, fact.value)
        )
    if not question.unit and len(found) > 1 and not fact.key:  # 3 1/2-4" (89-102 mm): both
        return ", ".join(dict.fromkeys(q.text for q in found[:2]))
    return found[0].text


def _clause(question: Question, sentence: str) -> str:
    """The clauses of a long sentence that share most words with the question, the whole where none
    stands out."""
    clauses = [c.strip() for c in re.split(r"[;；]|(?<=\w), (?=\w)", sentence) if c.strip()]
    asked = content_words(question.english)
    shares = [overlap(asked, content_words(c)) for c in clauses]
    if len(clauses) < 2 or max(shares) == 0 or shares.count(max(shares)) > 1:
        return sentence
    return clauses[shares.index(max(shares))]


def _framed(question: Question, value: str) -> str:
    """A short answer to a Chinese question in the question's own frame: 首都是哪里？ -> 首都是 Paris。"""
    text = question.text.strip()
    match = _ENDS_IN_QUESTION.search(text)
    if (
        not question.chinese
        or match is None
        or len(value.split()) > _MOST_WORDS
        or len(split_sentences(text)) != 1
    ):
        return value
    gap = " " if value[:1].isascii() else ""
    said = _ASKING.sub(f"{gap}{value}", match[1], count=1)
    return f"{text[: match.start()]}{said}".rstrip("。.") + "。"
