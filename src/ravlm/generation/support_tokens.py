"""Split a sentence into tokens that can be compared by meaning: inflection, numbers, negation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import takewhile

from ravlm.data.text import normalize_text, strip_accents
from ravlm.generation.support_lexicon import (
    INFLECTIONS,
    IRREGULAR,
    MONTHS,
    NEGATORS,
    NEUTRAL,
    NUMBER_WORDS,
    UNITS,
    WIDE_NEGATORS,
)

_ISO_DATE = re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b")
_TOKEN = re.compile(
    r"\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
    r"|(?:km/h|km²|m²|°[CF]\b|[%€$£¥])"
    r"|[^\W\d_]+(?:['’][^\W\d_]+)*|[,;:.!?()]",
)
_NEGATED_VERB = re.compile(r"\b(\w+)n['’]t\b", re.IGNORECASE)
_NOT_ONLY = re.compile(r"\bnot only\b|\bno\. (?=\d)", re.IGNORECASE)
_BORDERS = frozenset(",;:.!?()")
_NEGATED_NOUNS = 3


@dataclass(frozen=True, slots=True)
class SupportToken:
    """A word, a number or a punctuation mark of a sentence."""

    text: str
    """As written."""
    form: str
    """Lower-cased, irregular forms as their base, numbers as digits, units as their sign."""
    stem: str
    is_name: bool = False
    """Whether it is capitalized (elsewhere than at the start of the sentence, or in a run)."""
    negated: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it is a number, in digits or as a word."""
        return self.form[:1].isdigit()

    @property
    def is_unit(self) -> bool:
        """Whether it is a unit of measurement."""
        return self.form in UNITS

    @property
    def is_border(self) -> bool:
        """Whether it is a punctuation mark."""
        return self.form in _BORDERS

    @property
    def is_content(self) -> bool:
        """Whether it states something, so that it needs support."""
        return not (self.is_border or self.form in NEUTRAL or self.form in NEGATORS)


def tokenize(text: str) -> list[SupportToken]:
    """Return the tokens of a sentence or a line, with negation marked."""
    text = strip_accents(normalize_text(text))
    text = _ISO_DATE.sub(_spell_date, text)
    text = _NEGATED_VERB.sub(lambda m: f"{'ca' if m[1] == 'ca' else m[1]} not", text)
    text = _NOT_ONLY.sub(" ", text)
    words: list[str] = _TOKEN.findall(text)
    tokens: list[SupportToken] = []
    for index, word in enumerate(words):
        follower = words[index + 1].casefold() if index + 1 < len(words) else ""
        starts = index == 0 or words[index - 1] in ".!?:"
        tokens.append(_token(word, follower, starts))
    return _mark_negation(tokens)


def _token(word: str, follower: str, starts_sentence: bool) -> SupportToken:
    lower = word.casefold().replace("’", "'")
    lower = lower.removesuffix("'s")
    if lower[:1].isdigit():
        number = lower.replace(",", "")
        return SupportToken(word, number, number)
    if lower == "one" and follower in ("of", "another", "'s"):
        return SupportToken(word, "the", "the")
    if lower == "made" and follower in ("of", "from", "with"):
        return SupportToken(word, "is", "is")
    is_name = word[:1].isupper() and not starts_sentence and lower not in NEUTRAL
    if lower in UNITS and not is_name:
        unit = UNITS[lower]
        return SupportToken(word, unit, unit)
    form = NUMBER_WORDS.get(lower) or IRREGULAR.get(lower, lower)
    if is_name and lower in IRREGULAR:  # a person called Rose is not "to rise"
        form = lower
    return SupportToken(word, form, _stem(form), is_name)


def _mark_negation(tokens: Sequence[SupportToken]) -> list[SupportToken]:
    """Mark the word that a negator is about, or the noun phrase after "no" and "without"."""
    marked = list(tokens)
    for index, token in enumerate(tokens):
        if token.form not in NEGATORS:
            continue
        scope = _NEGATED_NOUNS if token.form in WIDE_NEGATORS else 1
        for position in range(index + 1, len(tokens)):
            if scope == 0 or tokens[position].is_border:
                break
            if tokens[position].is_content:
                marked[position] = replace(marked[position], negated=True)
                scope -= 1
    return marked


def same_word(left: SupportToken, right: SupportToken) -> bool:
    """Return whether two tokens are forms of one word. Names must be equal."""
    if left.form == right.form:
        return True
    if left.stem != right.stem or left.is_number:
        return False
    if left.is_name and right.is_name:
        return False
    return is_inflection(left.form, right.form)


@lru_cache(maxsize=50_000)
def is_inflection(left: str, right: str) -> bool:
    """Return whether two words with the same stem differ by inflection alone."""
    pairs = zip(left, right, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    if shared < 2:
        return False
    endings = left[shared:], right[shared:]
    doubled = [ending.removeprefix(left[shared - 1]) for ending in endings]
    return all(ending in INFLECTIONS for ending in endings) or all(
        ending in INFLECTIONS for ending in doubled
    )


@lru_cache(maxsize=50_000)
def _stem(word: str) -> str:
    from snowballstemmer import stemmer

    return stemmer("english").stemWord(word) if word.isascii() else word


def stem_word(word: str) -> str:
    """Return the stem by which words are looked up; irregular forms are reduced to their base."""
    return _stem(IRREGULAR.get(word, word))


def _spell_date(match: re.Match[str]) -> str:
    month = int(match[2])
    if not 1 <= month <= len(MONTHS):
        return match[0]
    return f"{int(match[3])} {MONTHS[month - 1].capitalize()} {match[1]}"
