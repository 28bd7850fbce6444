"""Sentences that tell the facts of a thing, in many wordings, each fact once."""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from recipes.grounded_dialogs.things import Fact, Thing, World, with_measure_word
from recipes.grounded_dialogs.words import capitalize, lower_first, with_article

_AUXILIARIES = ("is", "was", "can", "should")
_STARTS_ITSELF = ("as for", "for ", "至于", "说到", "the day")
_NEGATIVE = ("no", "false", "否")
_TAKES_ALSO = ("有", "含", "可以", "能", "与", "提供")
_FIRST_KINDS = ("thing", "city", "profession", "country", "animal", "person")
_MAX_MERGED = 40
"""Characters of a value in a sentence with two facts."""


@dataclass
class Narrator:
    """Tells about one thing, its name first and pronouns later.

    `avoid` has patterns that must not be used: those of an article about the same facts.
    """

    world: World
    thing: Thing
    avoid: Collection[str] = ()
    used_patterns: list[str] = field(default_factory=list)
    used_facts: list[Fact] = field(default_factory=list)
    mentioned: bool = False
    is_plain: bool = False
    """Whether to leave out connectives such as "in addition"."""

    @property
    def rng(self) -> random.Random:
        """The world's randomness."""
        return self.world.rng

    def tell(self, facts: Sequence[Fact], num_sentences: int) -> list[str]:
        """Return at most `num_sentences` sentences with the facts, in order."""
        queue = list(facts)
        sentences: list[str] = []
        while queue and len(sentences) < num_sentences:
            needed = num_sentences - len(sentences)
            sentences.append(self._next(queue, may_merge=len(queue) > needed or needed == 1))
        return sentences

    def _next(self, queue: list[Fact], may_merge: bool) -> str:
        """Take one fact or two from the queue and return a sentence."""
        rng = self.rng
        self._start_with_telling(queue)
        fact = queue.pop(0)
        other = queue[0] if queue and may_merge else None
        if other is not None and _is_short(fact, other) and other.kind.verbs:
            opening = self._pick(fact.kind.openings)
            draw = rng.random()
            if opening and draw < 0.45:
                queue.pop(0)
                return self._with_opening(fact, opening, other)
            if fact.kind.verbs and draw < 0.85:
                queue.pop(0)
                return self._pair(fact, other)
        return self._single(fact)

    def verb_sentence(self, fact: Fact) -> str:
        """Return "It stands in Oren.", with a pronoun."""
        return self._finish(self._join(self.thing.pronouns[0], self.verb_phrase(fact)))

    def verb_phrase(self, fact: Fact) -> str:
        """Return "stands in Oren"."""
        return self._fill(self._pick(fact.kind.verbs), fact)

    def noun_phrase(self) -> str:
        """Return "bridge" or "座桥"."""
        thing = self.thing
        if self.world.chinese and thing.noun:
            return with_measure_word(thing.noun, thing.type, self.world.words)[1:]
        return thing.noun or ("个" if self.world.chinese else "one")

    def _start_with_telling(self, queue: list[Fact]) -> None:
        """Put a fact first that introduces the thing, and that has a verb phrase."""
        if self.mentioned:
            return
        first = [i for i, f in enumerate(queue) if f.kind.kind in _FIRST_KINDS and f.kind.verbs]
        index = first[0] if first and self.rng.random() < 0.7 else 0
        queue.insert(0, queue.pop(index))

    def _pick(self, patterns: Sequence[str]) -> str:
        """Return a pattern that is not avoided, or "" if there is none."""
        allowed = [p for p in patterns if p not in self.avoid] or list(patterns)
        if not allowed:
            return ""
        pattern = self.rng.choice(allowed)
        self.used_patterns.append(pattern)
        return pattern

    def _single(self, fact: Fact) -> str:
        clauses = fact.kind.clauses
        if not self.mentioned:
            clauses = tuple(
                c for c in clauses if any(reference in c for reference in ("{P}", "{o}", "{n}"))
            )
        verbs = fact.kind.verbs
        num_both = len(verbs) + len(clauses)
        use_clause = bool(clauses) and self.rng.random() * num_both < len(clauses)
        start = self._connective() if self.mentioned else ""
        if use_clause:
            sentence = self._fill(self._pick(clauses), fact)
        else:
            verb = self._fill(self._pick(verbs), fact)
            if self.mentioned and not (start or self.is_plain) and self.rng.random() < 0.1:
                verb = self._also(verb)
            sentence = self._join(self._subject(fact), verb)
        self.mentioned = True
        if sentence.startswith(_STARTS_ITSELF):
            start = ""
        return self._finish(start + sentence)

    def _with_opening(self, fact: Fact, opening: str, other: Fact) -> str:
        phrase = self._fill(opening, fact)
        verb = self._fill(self._pick(other.kind.verbs), other)
        if self.world.chinese:
            by_noun = self.mentioned and self.rng.random() < 0.5
            subject = self._noun_reference(other) if by_noun else ""
            sentence = self._join(phrase + (subject or self.thing.name), verb)
        else:
            sentence = f"{phrase}, {self._subject(other)} {verb}"
        self.mentioned = True
        return self._finish(sentence)

    def _pair(self, fact: Fact, other: Fact) -> str:
        first = self._fill(self._pick(fact.kind.verbs), fact)
        second = self._fill(self._pick(other.kind.verbs), other)
        subject = self._subject(fact, other)
        pronoun = self.thing.pronouns[0]
        if self.world.chinese:
            sentence = f"{self._join(subject, first)}，{second.lstrip('的，')}"
        elif subject != pronoun and self.rng.random() < 0.35:
            who = "who" if self.thing.type == "p" else "which"
            sentence = f"{subject}, {who} {first}, {second}"
        elif self.rng.random() < 0.75:
            sentence = f"{subject} {first} and {second}"
        else:
            sentence = f"{subject} {first}, and {pronoun} {second}"
        self.mentioned = True
        return self._finish(sentence)

    def _subject(self, *facts: Fact) -> str:
        """Return the name at the first mention; later a pronoun, the noun, or the name."""
        if not self.mentioned:
            return self.thing.name
        draw = self.rng.random()
        if draw < 0.12:
            return self.thing.name
        noun = self._noun_reference(*facts) if draw < 0.32 else ""
        return noun or self.thing.pronouns[0]

    def _noun_reference(self, *facts: Fact) -> str:
        """Return "the bridge" if the noun is known from the evidence and not what is told."""
        thing = self.thing
        tells_noun = any(fact.kind.kind in ("thing", "animal") for fact in facts)
        if thing.type == "p" or tells_noun or not thing.noun_is_known:
            return ""
        if self.world.chinese:
            return f"这{with_measure_word(thing.noun, thing.type, self.world.words)[1:]}"
        return f"the {thing.noun}"

    def _fill(self, pattern: str, fact: Fact) -> str:
        """Return a pattern with its value, key and references."""
        self.used_facts.append(fact)
        thing = self.thing
        subject, possessive, object_form = thing.pronouns
        if not self.mentioned:
            ending = "'" if thing.name.endswith("s") else "'s"
            possessive = thing.name + ("的" if self.world.chinese else ending)
            subject = object_form = thing.name
        key = lower_first(fact.key)
        value = fact.value
        replacements = {
            "{v}": value,
            "{k}": key,
            "{P}": possessive,
            "{o}": object_form,
            "{s}": subject,
            "{n}": thing.name,
            "{p}": thing.pronouns[1],
            "{not}": self._negation(value),
        }
        if self.world.chinese:
            replacements["{cv}"] = _classified_value(value, thing, self.world)
        else:
            replacements["{av}"] = with_article(value)
            replacements["{ak}"] = with_article(key)
        return re.sub(r"\{\w+\}", lambda match: replacements[match[0]], pattern)

    def _negation(self, value: str) -> str:
        if value not in _NEGATIVE:
            return ""
        return "不" if self.world.chinese else "not "

    def _join(self, subject: str, verb: str) -> str:
        if self.world.chinese:
            return f"{subject}{verb}"
        return f"{subject} {verb}"

    def _connective(self) -> str:
        if not self.is_plain and self.rng.random() < 0.16:
            connective: str = self.rng.choice(self.world.words["connectives"])
            return connective
        return ""

    def _also(self, verb: str) -> str:
        """Return "also stands in Oren", "is also in Oren", or "还..."."""
        if self.world.chinese:
            return f"还{verb}" if verb.startswith(_TAKES_ALSO) else verb
        first, _, rest = verb.partition(" ")
        return f"{first} also {rest}" if first in _AUXILIARIES else f"also {verb}"

    def _finish(self, sentence: str) -> str:
        return f"{sentence}。" if self.world.chinese else f"{capitalize(sentence)}."


def _classified_value(value: str, thing: Thing, world: World) -> str:
    if value == thing.noun:
        return with_measure_word(value, thing.type, world.words)
    return f"一只{value}"


def _is_short(*facts: Fact) -> bool:
    """Whether the values fit into one sentence."""
    return all(
        len(fact.value) <= _MAX_MERGED and not re.search(r",| and |、|:", fact.value)
        for fact in facts
    )
