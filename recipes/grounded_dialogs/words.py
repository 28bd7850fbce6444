"""Invented names, and the words that stories and questions are made of."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
_VOWELS = "aeiou"
_AN_INITIALS = "AEFHILMNORSX"
"""Letters whose names begin with a vowel."""
_SOUNDS_LIKE_CONSONANT = ("uni", "eu", "one ", "use", "ut")
IRREGULAR = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "snowman": "snowmen",
    "fireman": "firemen",
    "policeman": "policemen",
    "foot": "feet",
    "mouse": "mice",
    "leaf": "leaves",
    "knife": "knives",
    "fish": "fish",
    "sheep": "sheep",
    "fisherman": "fishermen",
}


def word_set(text: str) -> frozenset[str]:
    """Return the words between the spaces of a text."""
    return frozenset(text.split())


def load_words(language: str) -> dict[str, Any]:
    """Load the word lists of "en" or "zh"."""
    words: dict[str, Any] = json.loads((FOLDER / f"words.{language}.json").read_text("utf-8"))
    return words


class Inventor:
    """Invents names; all randomness is `rng`'s."""

    def __init__(self, language: str, rng: random.Random) -> None:
        self.chinese = language == "zh"
        self.rng = rng
        self.words = load_words(language)
        self._english = load_words("en") if self.chinese else self.words

    def name(self) -> str:
        """Return an invented name: "Velgar", or two or three Chinese characters."""
        if not self.chinese:
            return self.word().capitalize()
        choice = self.rng.choice
        middle = choice(self.words["second"]) if self.rng.random() < 0.2 else ""
        return choice(self.words["first"]) + middle + choice(self.words["second"])

    def word(self) -> str:
        """Return an invented English word of two to three syllables, in lower case."""
        choice, words = self.rng.choice, self._english
        syllables = [choice(words["onsets"]) + choice(words["vowels"])]
        if self.rng.random() < 0.35:
            syllables.append(choice(words["onsets"]) + choice(words["vowels"]))
        middle = choice(words["codas"]) or choice(words["onsets"])
        return "".join(syllables) + middle + choice(words["endings"])

    def key(self, type: str) -> str:
        """Return a rare key, or one that no record has: "Brindle index"."""
        choice, words = self.rng.choice, self.words
        if self.rng.random() < 0.4:
            names = {"p": "person_keys", "e": "event_keys", "w": "event_keys"}
            return choice(list(words[names.get(type, "plain_keys")]))
        return f"{self.name()}{'' if self.chinese else ' '}{choice(words['measures'])}"

    def title(self) -> str:
        """Return an invented title of a work."""
        choice, words = self.rng.choice, self.words
        if self.chinese:
            return (
                f"《{self.name()}{choice(('之夜', '往事', '来信', '的风', '旧梦', '传', '之歌'))}》"
            )
        noun = choice(words["title_nouns"])
        return choice((
            f"The {choice(words['title_numbers'])} {noun} of {self.name()}",
            f"{noun} of {self.name()}",
            f"The {choice(words['adjectives'])} {noun}",
            f"{self.name()} and the {noun}",
        ))  # fmt: skip


def with_article(text: str) -> str:
    """Return a noun phrase with "a" or "an", unless it begins with an article."""
    if text.startswith(("the ", "a ", "an ")):
        return text
    if text[:1].isupper() and text[1:2].isupper():
        return f"{'an' if text[0] in _AN_INITIALS else 'a'} {text}"
    lower = text.lower()
    vowel = lower[:1] in _VOWELS and not lower.startswith(_SOUNDS_LIKE_CONSONANT)
    return f"{'an' if vowel else 'a'} {text}"


def plural(noun: str) -> str:
    """Return the plural of an English noun.

    >>> plural("city"), plural("finch"), plural("woman")
    ('cities', 'finches', 'women')
    """
    head, _, last = noun.rpartition(" ")
    if last in IRREGULAR:
        last = IRREGULAR[last]
    elif last.endswith("y") and last[-2:-1] not in _VOWELS:
        last = f"{last[:-1]}ies"
    elif last.endswith(("s", "x", "ch", "sh", "z")):
        last = f"{last}es"
    else:
        last = f"{last}s"
    return f"{head} {last}".strip()


def join_sentences(sentences: Iterable[str], chinese: bool) -> str:
    """Return sentences as one text."""
    return ("" if chinese else " ").join(sentences)


def capitalize(text: str) -> str:
    """Return a text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def lower_first(text: str) -> str:
    """Return a text with its first letter in lower case, unless it is an abbreviation."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
