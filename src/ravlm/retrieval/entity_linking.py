"""Which entries a question without a picture is about: those whose name stands in it, or a fact of
which covers it.

Works on words alone (English by stems, Chinese as written and glossed). Knows no store and no
encoder."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ravlm.data.facts import entity_key, is_name_key, read_facts
from ravlm.data.lexical_overlap import content_words
from ravlm.data.text import is_chinese
from ravlm.records import Entry, Hit

_WHOLE_NAME = 0.65
"""The share of a name's words that must stand in the question."""
_OWNER = re.compile(r"\b(?:of|about) ((?:[A-Z][a-z]+ ?)+)|(?<!^)\b([A-Z][a-z]+)['’]s\b")
_CHINESE_OWNER = re.compile(r"^[^的，。？]{2,8}(?=的)")
_COVERED = 0.75
"""The share of the question's words, by weight, that a fact must have of an entry without its name
in it."""


@dataclass(frozen=True)
class LinkedEntities:
    """Entries that a question is about."""

    hits: tuple[Hit, ...]
    weights: tuple[float, ...]
    known: float
    """How surely the question is about something in the base, 0 to 1."""
    subject: str
    """The name in the question; empty where only other words led to the entry."""


def link(question: str, english: str, hits: Sequence[Hit]) -> LinkedEntities:
    """The entries among `hits` (as a search found them) that the question is about; `english`: its
    gloss."""
    asked = content_words(english) | content_words(question)
    named = [(*_named(hit.entry, question, asked), hit) for hit in hits]
    best = max((match for match, _, _ in named), default=0.0)
    if best > 0:
        chosen = _one_each([(match, name, hit) for match, name, hit in named if match == best])
        share = 1 / len(chosen)
        return LinkedEntities(
            tuple(hit for _, hit in chosen), (share,) * len(chosen), min(0.97, best), chosen[0][0]
        )
    return _by_words(asked, hits)


def unmatched_entity_name(question: str, gloss: Callable[[str], str], hits: Sequence[Hit]) -> str:
    """The proper name whose matter a question asks for (the capital of France), if no text of
    `hits` has it; else "".

    A picture that comes along is not what such a question is about. `gloss`: Chinese to English.
    """
    if is_chinese(question):
        owner = _CHINESE_OWNER.search(question)
        asked = [owner[0]] if owner and gloss(owner[0]).istitle() else []
    else:
        asked = [(of or whose).strip() for of, whose in _OWNER.findall(question)]
    told = " ".join(text for hit in hits for text in hit.entry.texts).casefold()
    return next(
        (
            name
            for name in asked
            if name.casefold() not in told and gloss(name).casefold() not in told
        ),
        "",
    )


def names(entry: Entry) -> list[str]:
    """What an entry's thing is called, in all its texts."""
    found = [
        f.value
        for f in read_facts(entry)
        if is_name_key(f.key) or f.key.casefold().endswith(" name")
    ]
    return list(dict.fromkeys(found))


def _named(entry: Entry, question: str, asked: frozenset[str]) -> tuple[float, str]:
    """How fully a name of the entry stands in the question (0 to 1; longer names a little higher),
    and the name."""
    best = (0.0, "")
    for name in names(entry):
        if is_chinese(name):
            match = 1.0 if name in question else 0.0
            size = len(name)
        else:
            wanted = content_words(name)
            size = len(wanted & asked)
            match = size / len(wanted) if wanted else 0.0
        if match >= _WHOLE_NAME:
            best = max(best, (match * (1 - 0.1 / (1 + size)), name))
    return best


def _by_words(asked: frozenset[str], hits: Sequence[Hit]) -> LinkedEntities:
    """The entry of which one fact has nearly all words of the question, if no other entity has as
    many.

    One fact, not the whole entry: one with a capital and a border with France says nothing of
    France's capital."""
    owned = [
        [content_words(f"{fact.section} {fact.line}") for fact in read_facts(hit.entry)]
        for hit in hits
    ]
    spread = {word: sum(any(word in fact for fact in own) for own in owned) for word in asked}
    weights = {word: math.log((len(hits) + 1) / (spread[word] + 0.5)) + 0.2 for word in asked}
    total = sum(weights.values()) or 1.0
    covered = [
        max((sum(weights[w] for w in asked & fact) for fact in own), default=0.0) / total
        for own in owned
    ]
    order = sorted(range(len(hits)), key=lambda i: -covered[i])
    if not order or covered[order[0]] < _COVERED:
        return LinkedEntities((), (), covered[order[0]] * 0.5 if order else 0.0, "")
    first = order[0]
    key = entity_key(hits[first].entry)
    second = max((covered[i] for i in order[1:] if entity_key(hits[i].entry) != key), default=0.0)
    if second >= covered[first]:
        tied = [hits[i] for i in order if covered[i] >= covered[first]]
        return LinkedEntities(tuple(tied), (1 / len(tied),) * len(tied), 1 / len(tied), "")
    return LinkedEntities((hits[first],), (1.0,), min(0.9, covered[first]), "")


def _one_each(found: Sequence[tuple[float, str, Hit]]) -> list[tuple[str, Hit]]:
    """The first hit of each entity."""
    first: dict[str, tuple[str, Hit]] = {}
    for _, name, hit in found:
        first.setdefault(entity_key(hit.entry), (name, hit))
    return list(first.values())
