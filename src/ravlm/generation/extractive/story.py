"""A short story woven from the evidence: what the thing is, what is known of it, what is told of
it.

Every sentence comes from the evidence and carries the number of its entry; none comes twice; after
the first mention the thing is "it" (or he, she). English and Chinese. Knows no picture and no
retrieval."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ravlm.data.facts import Fact, entity_key, entity_name, is_name_key, split_list, read_facts
from ravlm.data.lexical_overlap import content_words
from ravlm.data.text import is_chinese
from ravlm.generation.base import Request, abstain
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.reader import YES_NO
from ravlm.generation.extractive.units import Units
from ravlm.records import Answer, Hit

_MOST_SENTENCES, _MOST_FACTS = 9, 5
_MOST_CITATIONS = 3
_SAME_ENTITY = 0.5
"""Above this weight the story is about the first entity alone."""
_ALIKE = 0.86
_LONGEST_VALUE = 12
_UNTOLD_KEYS = re.compile(
    r"url|link|id|credit|source|licen[sc]e|title|kind|type|category|网址|来源|种类|类别",
    re.IGNORECASE,
)
_CLOSING = {
    False: "(Woven from the evidence in the knowledge base.)",
    True: "（依据知识库中的证据编织而成。）",
}
_UNSURE = {
    False: "The knowledge base is not sure of this picture; this is what comes nearest.",
    True: "知识库不能确定这张图片是什么；下面是最接近的内容。",
}


@dataclass(frozen=True)
class Sentence:
    """A sentence of the story and the entry it comes from."""

    text: str
    hit: Hit


def write_story(request: Request, vectors: EmbeddingCache) -> Answer:
    """The story for a request; what was said before in its talk is not told again."""
    evidence = request.evidence
    chinese = request.chinese
    hits = _likely(evidence.hits, evidence.weights)
    hits = [
        hit for hit in hits if any(is_chinese(text) == chinese for text in hit.entry.texts)
    ] or hits
    told: list[Sentence] = []
    units = Units()
    for hit in hits:
        told.extend(Sentence(text, hit) for text in _sentences(hit, chinese, units))
    before = " ".join(message.text for message in request.messages if message.role == "assistant")
    told = [one for one in _no_two_alike(told, vectors) if one.text not in before][:_MOST_SENTENCES]
    if not told:
        return abstain(request, "the evidence has no text")
    cited = list(dict.fromkeys(t.hit.entry.id for t in told))
    told = [t for t in told if t.hit.entry.id in cited[:_MOST_CITATIONS]]
    body = [f"{t.text}{'' if chinese else ' '}[{cited.index(t.hit.entry.id) + 1}]" for t in told]
    opening = [] if evidence.support >= evidence.min_support else [_UNSURE[chinese]]
    text = ("" if chinese else " ").join([*opening, *body, _CLOSING[chinese]])
    confidence = evidence.support * sum(evidence.weights[: len(hits)])
    citations = tuple(cited[:_MOST_CITATIONS])
    return Answer(
        text, evidence.hits, citations, round(min(1.0, confidence), 4), False, dict(evidence.trace)
    )


def _likely(hits: Sequence[Hit], weights: Sequence[float]) -> list[Hit]:
    """The hits of the first entity where that one is likely; else the first few, if nearly as
    likely as the first."""
    if weights and weights[0] >= _SAME_ENTITY:
        return [hit for hit in hits if entity_key(hit.entry) == entity_key(hits[0].entry)]
    return [hit for hit, weight in zip(hits, weights, strict=True) if weight >= weights[0] / 2][
        :_MOST_CITATIONS
    ]


def _sentences(hit: Hit, chinese: bool, units: Units) -> list[str]:
    """What an entry tells: its name, its own first sentence, its facts as sentences, the rest;
    later by pronoun."""
    facts = read_facts(hit.entry)
    facts = [f for f in facts if is_chinese(f.line) == chinese] or facts
    name = next((f.value for f in facts if f.key and is_name_key(f.key)), "") or entity_name(
        hit.entry
    )
    free = [f.value for f in facts if not f.key and not f.section]
    keyed = [
        f for f in facts if f.key and not is_name_key(f.key) and not _UNTOLD_KEYS.fullmatch(f.key)
    ]
    pronoun = _pronoun(free, chinese)
    told = [
        f
        for f in keyed
        if len(f.value.split()) <= _LONGEST_VALUE and f.value.casefold() != name.casefold()
    ]
    opening = [_open(name, chinese, facts)] if name else []
    stated = [_state(f, pronoun, chinese, units) for f in told[:_MOST_FACTS]]
    first = free[:1]
    rest = [_by_pronoun(text, name, pronoun, chinese) for text in free[1:]]
    return [_whole(text, chinese) for text in (*opening, *first, *stated, *rest)]


def _open(name: str, chinese: bool, facts: Sequence[Fact]) -> str:
    """The first sentence: what the picture shows; a common noun with an article where it has one in
    the evidence."""
    if chinese:
        return f"图中是{_gap(name)}{name}。"
    if name[0].isupper():
        return f"This is {name}."
    told = " ".join(fact.value for fact in facts if fact.value != name)
    if (
        re.search(rf"\ban? (?:[\w-]+ ){{0,2}}{re.escape(name.split()[-1])}\b", told, re.IGNORECASE)
        is None
    ):
        return f"What we see here: {name}."
    return f"Here we see {'an' if name[0] in 'aeiou' else 'a'} {name}."


def _state(fact: Fact, pronoun: str, chinese: bool, units: Units) -> str:
    """A `key: value` fact as a sentence."""
    truth = YES_NO.get(fact.value.strip(" .").lower())
    key, value = fact.key, fact.value.rstrip(" .。")
    if truth is not None and (
        chinese or " " in key
    ):  # "un member: yes" is no sentence by an "is" alone
        return f"{key}：{value}。" if chinese else f"{key[0].upper()}{key[1:]}: {value}."
    *rest, last = key.split()
    if rest and value[-1].isdigit() and units.asked(last)[0]:  # area km2: 180
        key, value = " ".join(rest), f"{value} {last}"
    if chinese:
        return f"{pronoun}的{_gap(key)}{key}{_gap(key)}是{_gap(value)}{value}。"
    if not key.isupper():
        key = key[0].lower() + key[1:]
    if truth is not None:
        return f"{pronoun} is {'' if truth else 'not '}{key}."
    listed = split_list(value)
    if len(listed) > 1:
        value = f"{', '.join(listed[:-1])} and {listed[-1]}"
    plural = key.endswith("s") and not key.endswith(("ss", "us", "is"))
    return f"{_POSSESSIVE[pronoun]} {key} {'are' if plural else 'is'} {value}."


_POSSESSIVE = {"It": "Its", "She": "Her", "He": "His"}


def _pronoun(sentences: Iterable[str], chinese: bool) -> str:
    """She or he where the evidence itself says so, else it."""
    text = " ".join(sentences)
    if chinese:
        return next((p for p in ("她", "他") if p in text), "它")
    return next((p for p in ("She", "He") if re.search(rf"\b{p}\b", text, re.IGNORECASE)), "It")


def _by_pronoun(sentence: str, name: str, pronoun: str, chinese: bool) -> str:
    """A sentence that begins with the thing's name (or "The" and its last word) begins with the
    pronoun instead."""
    if not name:
        return sentence
    if chinese:
        return re.sub(
            rf"^(?:这[只个座朵种]?)?{re.escape(name)}(?=[^的])", pronoun, sentence, count=1
        )
    last = name.split()[-1]
    said = re.sub(
        rf"^(?:The |An? )?{re.escape(name)}(?=\s)", pronoun, sentence, count=1, flags=re.IGNORECASE
    )
    return re.sub(rf"^The {re.escape(last)}(?=\s)", pronoun, said, count=1, flags=re.IGNORECASE)


def _no_two_alike(told: Sequence[Sentence], vectors: EmbeddingCache) -> list[Sentence]:
    """The sentences less those that say what one before says: no new word, or nearly the same
    vector."""
    if not told:
        return []
    rows = vectors([t.text for t in told])
    kept: list[int] = []
    for i, one in enumerate(told):
        words = content_words(one.text)
        if any(
            words <= content_words(told[j].text) or float(rows[i] @ rows[j]) > _ALIKE for j in kept
        ):
            continue
        kept.append(i)
    return [told[i] for i in kept]


def _whole(text: str, chinese: bool) -> str:
    """A text with a capital letter in front and a stop behind."""
    stop = "。" if is_chinese(text) or chinese else "."
    return text[0].upper() + text[1:] + ("" if text[-1] in '.!?。！？…"”)' else stop)


def _gap(text: str) -> str:
    """The space that stands between Chinese characters and Latin letters."""
    return " " if text[:1].isascii() else ""
