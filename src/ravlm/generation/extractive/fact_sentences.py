"""Write `key: value` facts as English sentences, by the form of the key and the kind of the value.

No key is known in advance. Where the grammar of a key is uncertain, the fact is quoted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ravlm.data.facts import Fact, split_list
from ravlm.generation.extractive.key_lexicon import (
    ADJECTIVES,
    DETERMINERS,
    INTRANSITIVE,
    NOT_PARTICIPLES,
    NOUNS_LIKE_ADJECTIVES,
    PARTICIPLES,
    PLURALS,
    PREPOSITIONS,
    QUESTION_WORDS,
    SINGULAR_S,
    TIMED_VERBS,
    VERBS,
    VERBS_WITH_PREPOSITION,
)
from ravlm.generation.support_lexicon import IRREGULAR, MONTHS, UNITS, YES_NO

ValueKind: TypeAlias = Literal["yes/no", "date", "number", "sentence", "phrase"]
_ADJECTIVE_ENDING = re.compile(r"\w{3,}(?:able|ible|ful|ous|less|proof|esque|ish|-free|-safe)")
_LIKELY_ADJECTIVE = re.compile(r"\w{2,}(?:ic|al|ant|(?<!m)ent|ory|ive)")
_UNIT_IN_KEY = re.compile(r"(.+?)\s*[\(\[](?:in )?([^()\[\]]{1,12})[\)\]]")
_YEAR = re.compile(r"(?:c\. |ca\. )?\d{4}(?:\s?[-–]\s?\d{2,4})?(?: ?(?:BC|AD|BCE|CE))?")
_YEAR_WITH_UNIT = re.compile(
    r"\d{4} ?(?:(?:[mck]?m|k?g|t|m?l|k?W|V|Hz|cc|ft|lbs?|[GMT]B|hours?|days?)\b|[%€$£²])"
)
_ADVERB = re.compile(r"(?:\w{3,}ly|often|seldom|always|never|sometimes|twice|once)\b.{0,20}")
_MONTH = re.compile(rf"\b(?:{'|'.join(m[:3] for m in MONTHS)})[a-z]*\b", re.IGNORECASE)
_DAY = re.compile(r"\b\d{1,2}(?:st|nd|rd|th)?\b(?!\d)")
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\b")
_TIME = re.compile(r"\d{1,2}:\d{2}\b|\d{1,2} ?[ap]\.?m\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?:[€$£¥] ?)?[\d.,]*\d(?: ?[^\s,]{1,12}){0,2}")
_FIRST_PERSON = re.compile(r"\b(?:I|we|my|our|you|your)\b", re.IGNORECASE)
_MAX_LIST_ITEM = 3
_MAX_VALUE_WORDS = 30
_MIN_SENTENCE_WORDS = 4


@dataclass(frozen=True)
class StorySubject:
    """What a story is about, and how its sentences may refer to it."""

    name: str = ""
    pronoun: str = ""
    """It, He, She or They; empty if the name must be repeated."""
    is_mentioned: bool = False
    """Whether a sentence named it before."""

    @property
    def needs_name(self) -> bool:
        """Whether a sentence must use the name, as a pronoun would not be understood."""
        return bool(self.name) and not (self.is_mentioned and self.pronoun)

    @property
    def nominative(self) -> str:
        """The subject of a sentence."""
        return self.name if self.needs_name else self.pronoun or "It"

    @property
    def possessive(self) -> str:
        """The determiner of what the subject has."""
        if self.needs_name:
            return f"{self.name}'" if self.name.endswith("s") else f"{self.name}'s"
        if not self.name and self.pronoun in ("", "It"):
            return "The"
        return {"He": "His", "She": "Her", "They": "Their"}.get(self.pronoun, "Its")

    def conjugate(self, singular: str, plural: str) -> str:
        """Return the form of a verb that agrees with the subject."""
        return plural if self.pronoun == "They" else singular


def value_kind(value: str) -> ValueKind:
    """Return what kind of value a text is."""
    if value.strip(" .").casefold() in YES_NO:
        return "yes/no"
    words = value.split()
    if len(words) >= _MIN_SENTENCE_WORDS and value.rstrip("\"'”’)")[-1:] in tuple(".!?"):
        return "sentence"
    if date_preposition(value):
        return "date"
    return "number" if _NUMBER.fullmatch(value) else "phrase"


def date_preposition(value: str) -> str:
    """Return the preposition that goes with a date or time ("on", "in", "at"), or ""."""
    if _ISO_DATE.match(value):
        return "on"
    if _TIME.match(value):
        return "at"
    month = _MONTH.search(value)
    if month and len(value.split()) <= 6 and any(c.isdigit() for c in value):
        before_year = re.sub(r"\b\d{4}\b", "", value)
        return "on" if _DAY.search(before_year) else "in"
    return "in" if _YEAR.match(value) and not _YEAR_WITH_UNIT.match(value) else ""


def fact_sentence(fact: Fact, subject: StorySubject) -> str:
    """Return a fact as a sentence about its subject, without a full stop; "" if it has none.

    >>> fact_sentence(Fact("Length", "69 m"), StorySubject("Vasa"))
    "Vasa's length is 69 m"
    >>> fact_sentence(Fact("Built in", "Stockholm"), StorySubject("Vasa", "It", True))
    'It was built in Stockholm'
    """
    key, value = _plain_key(fact.key), fact.value.strip().rstrip(".")
    unit = _UNIT_IN_KEY.fullmatch(key)
    if unit and value[-1:].isdigit():
        key, value = unit[1], f"{value} {unit[2]}"
    *front, unit_word = key.split() or [""]
    if front and unit_word.lower() in UNITS and value[-1:].isdigit() and len(unit_word) < 4:
        key, value = " ".join(front), f"{value} {unit_word}"
    if not any(c.isalpha() for c in key) or not value or len(value.split()) > _MAX_VALUE_WORDS:
        return ""
    kind = value_kind(fact.value.strip())
    words = key.split()
    first = words[0].lower()
    no_noun = first in QUESTION_WORDS or (len(words) == 1 and first in DETERMINERS)
    if kind == "sentence" or no_noun:
        return _quoted(fact)
    if kind == "yes/no":
        answer = value.strip(" .").casefold()
        return _yes_no(words, YES_NO[answer], subject, answer == "none")
    return _predicate(words, value, kind, subject) or _noun_phrase(words, value, subject, fact)


def is_noun_key(key: str) -> bool:
    """Return whether a key is used as a noun ("Its length is ..."), so it may share a sentence."""
    words = _plain_key(key).lower().split()
    if not words or words[-1] in PREPOSITIONS:
        return False
    first = words[0]
    is_verb = first in VERBS or first in INTRANSITIVE or _is_participle(first)
    return not is_verb and first not in QUESTION_WORDS


def _predicate(words: list[str], value: str, kind: ValueKind, subject: StorySubject) -> str:
    """Return the sentence of a key that is a verb, a participle or an adjective; "" otherwise."""
    first, last = words[0].lower(), words[-1].lower()
    remainder = " ".join([first, *words[1:]])
    nominative = subject.nominative
    is_verb_phrase = first in VERBS_WITH_PREPOSITION and last in PREPOSITIONS
    if first in VERBS or is_verb_phrase:
        verb = subject.conjugate(first, first.removesuffix("s"))
        return " ".join([nominative, verb, *words[1:], join_list(value)])
    if last in PREPOSITIONS and len(words) > 1:
        if first in INTRANSITIVE:
            return f"{nominative} {remainder} {value}"
        if _is_participle(first):
            if last == "since":
                return f"{nominative} {subject.conjugate('has', 'have')} been {remainder} {value}"
            is_past = kind == "date" or last == "by" or first in ("born", "built", "founded")
            be = subject.conjugate("was", "were") if is_past else subject.conjugate("is", "are")
            return f"{nominative} {be} {remainder} {value}"
        if _is_adjective(first) or first == "part":
            return f"{nominative} {subject.conjugate('is', 'are')} {remainder} {value}"
        return ""
    if kind == "date" and len(words) == 1:
        preposition = date_preposition(value)
        if first in TIMED_VERBS or first in INTRANSITIVE:
            return f"{nominative} {first} {preposition} {value}"
        if _is_participle(first):
            be = subject.conjugate("was", "were")
            return f"{nominative} {be} {first} {preposition} {value}"
    opens_with_preposition = value.split()[0].lower() in PREPOSITIONS
    if len(words) == 1 and opens_with_preposition and _is_adjective(first):
        return f"{nominative} {subject.conjugate('is', 'are')} {first} {value}"
    return ""


def _noun_phrase(words: list[str], value: str, subject: StorySubject, fact: Fact) -> str:
    """Return "Its key is value", or "It has 3 keys" for a bare number of things."""
    first, last = words[0].lower(), words[-1].lower()
    is_odd = (
        last in PREPOSITIONS
        or first in INTRANSITIVE
        or (len(words) == 1 and (_is_participle(first) or _is_adjective(first)))
        or _ADVERB.fullmatch(value) is not None
    )
    if is_odd:
        return _quoted(fact)
    key = _lower_key(words)
    plural = _is_plural(_head(words))
    items = split_list(value)
    if not plural and len(items) > 1 and all(item[:1].isupper() for item in items):
        return _quoted(fact)
    if plural and len(words) == 1 and value.replace(",", "").isdigit():
        if value != "1":
            return f"{subject.nominative} {subject.conjugate('has', 'have')} {value} {key}"
        return f"{subject.possessive} number of {key} is 1"
    if plural:
        value = join_list(value)
    return f"{subject.possessive} {key} {'are' if plural else 'is'} {value}"


def join_list(value: str) -> str:
    """Return a list with "and" before its last item; a value that is no plain list as it is.

    >>> join_list("white, grey"), join_list("DSCOVR, satellite operator NOAA since 2015")
    ('white and grey', 'DSCOVR, satellite operator NOAA since 2015')
    """
    items = split_list(value)
    if len(items) < 2 or re.search(r"[;；、]|\b(?:and|or|with|but|not|e\.g|etc)\b|[().:]", value):
        return value
    opening = [item[0] for item in items]
    alike = (
        all(c.isdigit() for c in opening)
        or all(c.isupper() for c in opening)
        or all(c.islower() for c in opening)
    )
    short = all(len(item.split()) <= _MAX_LIST_ITEM for item in items)
    return f"{', '.join(items[:-1])} and {items[-1]}" if alike and short else value


def _yes_no(words: list[str], truth: bool, subject: StorySubject, is_none: bool = False) -> str:
    """Return the sentence of a yes/no fact; "" if it is not known to be an adjective or a verb."""
    first = words[0].lower()
    remainder = " ".join(words[1:])
    nominative = subject.nominative
    negation = "" if truth else " not"
    have = subject.conjugate("has", "have")
    if is_none:
        is_state = _is_participle(words[-1].lower())
        return "" if is_state else f"{nominative} {have} no {_lower_key(words)}"
    if first in ("is", "are") and remainder:
        return f"{nominative} {first}{negation} {remainder}"
    if first in ("has", "have") and remainder:
        return f"{nominative} {have}{'' if truth else ' no'} {remainder}"
    if first in ("can", "may", "must") and remainder:
        return f"{nominative} {first}{negation} {remainder}".replace("can not", "cannot")
    if first in VERBS and remainder:
        if truth:
            verb = subject.conjugate(first, first.removesuffix("s"))
            return f"{nominative} {verb} {remainder}"
        does = subject.conjugate("does", "do")
        return f"{nominative} {does} not {first.removesuffix('s')} {remainder}"
    is_phrase = len(words) > 1 and words[1].lower() in PREPOSITIONS
    describes = _is_participle(first) or ((len(words) == 1 or is_phrase) and _describes(first))
    if first in PREPOSITIONS or describes:
        be = subject.conjugate("is", "are")
        return f"{nominative} {be}{negation} {_lower_key(words)}"
    if len(words) > 1 and _is_participle(words[-1].lower()):
        key = _lower_key(words)
        noun, participle = key.rsplit(" ", 1)
        if _is_plural(noun.split()[-1]):
            return f"{noun[0].upper()}{noun[1:]} are{negation} {participle}"
        return "" if truth else f"No {noun} is {participle}"
    return ""


def _describes(word: str) -> bool:
    """Return whether the key of a yes/no value is an adjective, which most such keys are."""
    return _is_adjective(word) or (
        _LIKELY_ADJECTIVE.fullmatch(word) is not None and word not in NOUNS_LIKE_ADJECTIVES
    )


def _quoted(fact: Fact) -> str:
    """Return the fact as the entry has it, in a sentence that is right for every key; a yes/no
    fact is left to `yes_no_summary`."""
    if value_kind(fact.value) == "yes/no":
        return ""
    value = fact.value.strip()
    if _FIRST_PERSON.search(value):
        value = f'"{value}"'
    return f'Under "{fact.key}" it says: {value}'


def yes_no_summary(facts: Sequence[Fact]) -> str:
    """Return the yes/no facts that are no sentences, as the entry has them, in one sentence.

    >>> yes_no_summary([Fact("Garage", "no"), Fact("Lift", "no"), Fact("Balcony", "yes")])
    'The entry says "no" under "Garage" and "Lift", and "yes" under "Balcony"'
    """
    keys: dict[str, list[str]] = {}
    for fact in facts:
        if value_kind(fact.value) == "yes/no" and not fact_sentence(fact, StorySubject()):
            keys.setdefault(fact.value.strip(" .").lower(), []).append(f'"{fact.key}"')
    clauses = [
        f'"{value}" under {", ".join(names[:-1])}{" and " if names[:-1] else ""}{names[-1]}'
        for value, names in sorted(keys.items())
    ]
    return f"The entry says {', and '.join(clauses)}" if clauses else ""


def _plain_key(key: str) -> str:
    return " ".join(key.strip(" ?-–*•").split())


def _is_participle(word: str) -> bool:
    if word in PARTICIPLES:
        return True
    is_regular = len(word) > 4 and word.endswith("ed") and not word.endswith("eed")
    return is_regular and word not in NOT_PARTICIPLES


def _is_adjective(word: str) -> bool:
    return word in ADJECTIVES or _ADJECTIVE_ENDING.fullmatch(word) is not None


def _lower_key(words: list[str]) -> str:
    """Return a key in lower case, except for acronyms and names."""
    titled = len(words) > 1 and all(word[:1].isupper() or not word[:1].isalpha() for word in words)
    lowered = [
        word.lower() if (index == 0 or titled) and word[1:].islower() else word
        for index, word in enumerate(words)
    ]
    if len(lowered[0]) == 1:
        lowered[0] = lowered[0].lower()
    return " ".join(lowered)


def _head(words: list[str]) -> str:
    """Return the noun of a key: the last word before a preposition."""
    for index, word in enumerate(words[1:], 1):
        if word.lower() in PREPOSITIONS:
            return words[index - 1].lower()
    if len(words) > 1 and _is_participle(words[-1].lower()):  # people evacuated
        return words[-2].lower()
    return words[-1].lower()


def _is_plural(noun: str) -> bool:
    if noun in PLURALS or IRREGULAR.get(noun, noun) in ("man", "woman"):
        return True
    return (
        noun.endswith("s")
        and noun not in SINGULAR_S
        and not noun.endswith(("ss", "us", "is", "ics"))
    )
