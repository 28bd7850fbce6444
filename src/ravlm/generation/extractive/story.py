"""Write a short story from the evidence: what the entity is, its facts and other sentences.

Every sentence comes from the evidence and cites its entry; none is repeated. After the first
mention the entity is "it" (or he, she). English and Chinese."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ravlm.data.facts import Fact, entity_key, entity_name, is_name_key, read_facts, split_list
from ravlm.data.lexical_overlap import content_words
from ravlm.data.text import is_chinese
from ravlm.generation.base import Request, abstain, cited_parts
from ravlm.generation.extractive.embedding_cache import EmbeddingCache
from ravlm.generation.extractive.reader import YES_NO
from ravlm.generation.extractive.units import Units
from ravlm.records import Answer, Hit

_MAX_SENTENCES, _MAX_FACTS = 9, 5
_MAX_CITATIONS = 3
_SAME_ENTITY = 0.5
"""From this weight on the story is about the first entity alone."""
_SAME_MEANING = 0.86
_MAX_VALUE_WORDS = 12
_SKIPPED_KEYS = re.compile(
    r"url|link|id|credit|source|licen[sc]e|title|kind|type|category|网址|来源|种类|类别",
    re.IGNORECASE,
)
_CLOSING = {
    False: "(Based only on entries in the knowledge base.)",
    True: "（以上内容均出自知识库。）",
}
_UNSURE = {
    False: "The knowledge base does not know this image for certain; this is the closest match.",
    True: "知识库不能确定这张图片是什么；下面是最接近的内容。",
}


@dataclass(frozen=True)
class Sentence:
    """A sentence of a story, and the hit it comes from."""

    text: str
    hit: Hit


def write_story(request: Request, vectors: EmbeddingCache) -> Answer:
    """Return the story for a request, without sentences from earlier in its conversation."""
    evidence = request.evidence
    chinese = request.chinese
    hits = _likely(evidence.hits, evidence.weights)
    same_language = [h for h in hits if any(is_chinese(t) == chinese for t in h.entry.texts)]
    hits = same_language or hits
    units = Units()
    sentences = [Sentence(text, hit) for hit in hits for text in _sentences(hit, chinese, units)]
    earlier = " ".join(message.text for message in request.messages if message.role == "assistant")
    new = [s for s in _without_repetition(sentences, vectors) if s.text not in earlier]
    new = new[:_MAX_SENTENCES]
    if not new:
        return abstain(request, "the evidence has no text")

    citations = list(dict.fromkeys(s.hit.entry.id for s in new))[:_MAX_CITATIONS]
    new = [s for s in new if s.hit.entry.id in citations]
    space = "" if chinese else " "
    body = [f"{s.text}{space}[{citations.index(s.hit.entry.id) + 1}]" for s in new]
    opening = [] if evidence.support >= evidence.min_support else [_UNSURE[chinese]]
    confidence = evidence.support * sum(evidence.weights[: len(hits)])
    return Answer(
        text=space.join([*opening, *body, _CLOSING[chinese]]),
        evidence=evidence.hits,
        citations=tuple(citations),
        sources=cited_parts(citations, evidence.hits),
        confidence=round(min(1.0, confidence), 4),
        trace=dict(evidence.trace),
    )


def _likely(hits: Sequence[Hit], weights: Sequence[float]) -> list[Hit]:
    """Return the hits of the first entity if it is likely, else the first few of similar weight."""
    if weights and weights[0] >= _SAME_ENTITY:
        return [hit for hit in hits if entity_key(hit.entry) == entity_key(hits[0].entry)]
    return [hit for hit, weight in zip(hits, weights, strict=True) if weight >= weights[0] / 2][
        :_MAX_CITATIONS
    ]


def _sentences(hit: Hit, chinese: bool, units: Units) -> list[str]:
    """Return an entry's sentences: its name, its first sentence, its facts, and the rest.

    After the first mention the entity is a pronoun.
    """
    facts = read_facts(hit.entry)
    facts = [f for f in facts if is_chinese(f.line) == chinese] or facts
    name = next((f.value for f in facts if f.key and is_name_key(f.key)), "") or entity_name(
        hit.entry
    )
    free = [f.value for f in facts if not f.key and not f.section]
    keyed = [
        f for f in facts if f.key and not is_name_key(f.key) and not _SKIPPED_KEYS.fullmatch(f.key)
    ]
    pronoun = _pronoun(free, chinese)
    short = [
        f
        for f in keyed
        if len(f.value.split()) <= _MAX_VALUE_WORDS and f.value.casefold() != name.casefold()
    ]
    opening = [_open(name, chinese, facts)] if name else []
    stated = [_state(f, pronoun, chinese, units) for f in short[:_MAX_FACTS]]
    first = free[:1]
    later = [_by_pronoun(text, name, pronoun, chinese) for text in free[1:]]
    return [_complete(text, chinese) for text in (*opening, *first, *stated, *later)]


def _open(name: str, chinese: bool, facts: Sequence[Fact]) -> str:
    """Return the first sentence; a common noun gets an article if it has one in the evidence."""
    if chinese:
        return f"图中是{_gap(name)}{name}。"
    if name[0].isupper():
        return f"This is {name}."
    text = " ".join(fact.value for fact in facts if fact.value != name)
    if (
        re.search(rf"\ban? (?:[\w-]+ ){{0,2}}{re.escape(name.split()[-1])}\b", text, re.IGNORECASE)
        is None
    ):
        return f"What we see here: {name}."
    return f"Here we see {'an' if name[0] in 'aeiou' else 'a'} {name}."


def _state(fact: Fact, pronoun: str, chinese: bool, units: Units) -> str:
    """Return a `key: value` fact as a sentence."""
    truth = YES_NO.get(fact.value.strip(" .").lower())
    key, value = fact.key, fact.value.rstrip(" .。")
    if truth is not None and (
        chinese or " " in key
    ):  # "un member: yes" is no sentence by an "is" alone
        return f"{key}：{value}。" if chinese else f"{key[0].upper()}{key[1:]}: {value}."
    *first_words, last = key.split()
    if first_words and value[-1].isdigit() and units.requested(last)[0]:  # area km2: 180
        key, value = " ".join(first_words), f"{value} {last}"
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
    """Return she or he if the evidence says so, else it."""
    text = " ".join(sentences)
    if chinese:
        return next((p for p in ("她", "他") if p in text), "它")
    return next((p for p in ("She", "He") if re.search(rf"\b{p}\b", text, re.IGNORECASE)), "It")


def _by_pronoun(sentence: str, name: str, pronoun: str, chinese: bool) -> str:
    """Replace the entity's name at the start of a sentence (or "The" and its last word)."""
    if not name:
        return sentence
    if chinese:
        return re.sub(
            rf"^(?:这[只个座朵种]?)?{re.escape(name)}(?=[^的])", pronoun, sentence, count=1
        )
    last = name.split()[-1]
    replaced = re.sub(
        rf"^(?:The |An? )?{re.escape(name)}(?=\s)", pronoun, sentence, count=1, flags=re.IGNORECASE
    )
    return re.sub(rf"^The {re.escape(last)}(?=\s)", pronoun, replaced, count=1, flags=re.IGNORECASE)


def _without_repetition(sentences: Sequence[Sentence], vectors: EmbeddingCache) -> list[Sentence]:
    """Return the sentences that add something: a new word, and not nearly the same vector."""
    if not sentences:
        return []
    rows = vectors([sentence.text for sentence in sentences])
    words = [content_words(sentence.text) for sentence in sentences]
    selected: list[int] = []
    for i in range(len(sentences)):
        repeats = (
            words[i] <= words[j] or float(rows[i] @ rows[j]) > _SAME_MEANING for j in selected
        )
        if not any(repeats):
            selected.append(i)
    return [sentences[i] for i in selected]


def _complete(text: str, chinese: bool) -> str:
    """Return a text with a capital letter at the start and a full stop at the end."""
    stop = "。" if is_chinese(text) or chinese else "."
    return text[0].upper() + text[1:] + ("" if text[-1] in '.!?。！？…"”)' else stop)


def _gap(text: str) -> str:
    """Return the space between Chinese characters and Latin letters."""
    return " " if text[:1].isascii() else ""
