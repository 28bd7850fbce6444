"""Link a question without an image to entries: those it names, or one of whose facts covers it.

It compares words alone: English by stems, Chinese as written and as glossed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ravlm.data.facts import Fact, entity_key, is_name_key, parse_facts, read_facts
from ravlm.data.lexical_overlap import content_words
from ravlm.data.page_text import all_texts, is_page
from ravlm.data.text import is_chinese, normalize_text
from ravlm.records import Entry, Hit

_NAME_COVERAGE = 0.65
"""Share of a name's words that must occur in the question."""
_FACT_COVERAGE = 0.75
"""Share of the question's words, by weight, that one fact must have if no name matches."""
MAX_NAME_SUPPORT = 0.97
_MAX_FACT_SUPPORT = 0.9
_OWNER = re.compile(r"\b(?:of|about) ((?:[A-Z][a-z]+ ?)+)|(?<!^)\b([A-Z][a-z]+)['’]s\b")
_CHINESE_OWNER = re.compile(r"^[^的，。？]{2,8}(?=的)")


@dataclass(frozen=True)
class LinkedEntities:
    """The entries that a question is about."""

    hits: tuple[Hit, ...]
    weights: tuple[float, ...]
    support: float
    """Probability that the question is about something in the base, 0 to 1."""
    subject: str
    """The name in the question; empty if only other words matched."""


@dataclass(frozen=True)
class _NameMatch:
    """How well a name of a hit's entry matches the question."""

    score: float
    name: str
    hit: Hit


def link(question: str, gloss: str, hits: Sequence[Hit]) -> LinkedEntities:
    """Return the entries among the search results `hits` that the question is about.

    `gloss` is the question in English, as `Encoder.gloss` gives it.
    """
    words = content_words(gloss) | content_words(question)
    matches = [_match_name(hit, question, words) for hit in hits]
    best = max((match.score for match in matches), default=0.0)
    if best == 0:
        return _link_by_facts(words, hits)
    linked = _first_per_entity([match for match in matches if match.score == best])
    return LinkedEntities(
        hits=tuple(match.hit for match in linked),
        weights=(1 / len(linked),) * len(linked),
        support=min(MAX_NAME_SUPPORT, best),
        subject=linked[0].name,
    )


def unmatched_entity_name(question: str, gloss: Callable[[str], str], hits: Sequence[Hit]) -> str:
    """Return the entity named in the question ("the capital of *France*") if no hit mentions it.

    Return "" otherwise. An image that comes with such a question is not its subject. `gloss`
    translates Chinese into English.
    """
    if is_chinese(question):
        owner = _CHINESE_OWNER.search(question)
        names = [owner[0]] if owner and gloss(owner[0]).istitle() else []
    else:
        names = [(of or whose).strip() for of, whose in _OWNER.findall(question)]
    mentioned = " ".join(text for hit in hits for text in all_texts(hit.entry)).casefold()
    for name in names:
        if name.casefold() not in mentioned and gloss(name).casefold() not in mentioned:
            return name
    return ""


def entity_names(entry: Entry) -> list[str]:
    """Return all names that an entry's texts and metadata give its entity.

    For a page only its texts count: neither its print nor the title of its document names it.
    """
    names = [
        fact.value
        for fact in _facts(entry)
        if is_name_key(fact.key) or fact.key.casefold().endswith(" name")
    ]
    return list(dict.fromkeys(names))


def _match_name(hit: Hit, question: str, words: frozenset[str]) -> _NameMatch:
    """Return the best match of the entry's names with the question, of score 0 to 1.

    Of equally complete names, longer ones score a little higher.
    """
    best = (0.0, "")
    question = normalize_text(question)
    for name in entity_names(hit.entry):
        if is_chinese(name):
            coverage = 1.0 if normalize_text(name) in question else 0.0
            size = len(name)
        else:
            name_words = content_words(name)
            size = len(name_words & words)
            coverage = size / len(name_words) if name_words else 0.0
        if coverage >= _NAME_COVERAGE:
            best = max(best, (coverage * (1 - 0.1 / (1 + size)), name))
    return _NameMatch(*best, hit)


def _link_by_facts(words: frozenset[str], hits: Sequence[Hit]) -> LinkedEntities:
    """Return the entry one of whose facts has nearly all words, if no other entity has as many.

    One fact must cover them, not the whole entry: an entry with a capital and a border with France
    does not say what France's capital is.
    """
    facts = [
        [content_words(f"{fact.section} {fact.line}") for fact in _facts(hit.entry)] for hit in hits
    ]
    weights = _word_weights(words, facts)
    total = sum(weights.values()) or 1.0
    coverage = [
        max((sum(weights[w] for w in words & fact) for fact in entry_facts), default=0.0) / total
        for entry_facts in facts
    ]
    order = sorted(range(len(hits)), key=lambda i: -coverage[i])
    if not order or coverage[order[0]] < _FACT_COVERAGE:
        return LinkedEntities((), (), coverage[order[0]] * 0.5 if order else 0.0, "")

    first = order[0]
    key = entity_key(hits[first].entry)
    rivals = [coverage[i] for i in order[1:] if entity_key(hits[i].entry) != key]
    if max(rivals, default=0.0) < coverage[first]:
        return LinkedEntities((hits[first],), (1.0,), min(_MAX_FACT_SUPPORT, coverage[first]), "")
    tied = [hits[i] for i in order if coverage[i] >= coverage[first]]
    share = 1 / len(tied)
    return LinkedEntities(tuple(tied), (share,) * len(tied), share, "")


def _facts(entry: Entry) -> list[Fact]:
    """Return the facts of an entry; of a page, those of its texts alone.

    A page has so many lines that one matches most questions, which would exclude the other pages.
    """
    if not is_page(entry):
        return read_facts(entry)
    return [fact for text in entry.texts for fact in parse_facts(text)]


def _word_weights(
    words: frozenset[str], facts: Sequence[Sequence[frozenset[str]]]
) -> Mapping[str, float]:
    """Weigh each word by how few of the entries have it (inverse document frequency)."""
    weights = {}
    for word in words:
        frequency = sum(any(word in fact for fact in entry_facts) for entry_facts in facts)
        weights[word] = math.log((len(facts) + 1) / (frequency + 0.5)) + 0.2
    return weights


def _first_per_entity(matches: Sequence[_NameMatch]) -> list[_NameMatch]:
    first: dict[str, _NameMatch] = {}
    for match in matches:
        first.setdefault(entity_key(match.hit.entry), match)
    return list(first.values())
