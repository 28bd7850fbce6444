"""English words to their stems: Porter's algorithm of 1980 ("An algorithm for suffix stripping",
Program 14, 130-137).

A stem is no word ("poni", "happi"): it only is the same for forms of one word. Knows no other
language; what has a character outside a to z stays as it is."""

from __future__ import annotations

import re

_LETTERS = re.compile(r"[a-z]+")
_VOWEL = r"(?:[aeiou]|(?<=[^aeiou])y)"
"""y is a vowel after a consonant; a consonant in front, or after a vowel."""
_RUNS = re.compile(f"(?:{_VOWEL})+")
_STEP_2 = {
    "ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "abli": "able", "alli": "al",
    "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
    "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble",
}  # fmt: skip
_STEP_3 = {
    "icate": "ic",
    "ative": "",
    "alize": "al",
    "iciti": "ic",
    "ical": "ic",
    "ful": "",
    "ness": "",
}
_STEP_4 = (
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
)  # fmt: skip


def stem(word: str) -> str:
    """The stem of a lower-cased word."""
    if len(word) < 3 or not _LETTERS.fullmatch(word):
        return word
    return _final(_longest(_replaced(_replaced(_plural_and_past(word), _STEP_2), _STEP_3)))


def _measure(start: str) -> int:
    """How often a vowel is followed by a consonant."""
    runs = [match.end() for match in _RUNS.finditer(start)]
    return sum(end < len(start) for end in runs)


def _short(word: str) -> bool:
    """Whether it ends in consonant, vowel, consonant other than w, x, y: `hop`, not `snow`."""
    return bool(re.search(f"(?:[^aeiouy]|(?<![^aeiou])y){_VOWEL}[^aeiouwxy]$", word))


def _plural_and_past(word: str) -> str:
    """Steps 1a to 1c."""
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        word = word[:-1] if _measure(word[:-3]) else word
    elif (found := re.fullmatch("(.*)(?:ed|ing)", word)) and _RUNS.search(found[1]):
        word = found[1]
        if word.endswith(("at", "bl", "iz")):
            word += "e"
        elif re.search(r"([^aeiouylsz])\1$", word):
            word = word[:-1]
        elif _measure(word) == 1 and _short(word):
            word += "e"
    if word.endswith("y") and _RUNS.search(word[:-1]):
        word = word[:-1] + "i"
    return word


def _replaced(word: str, endings: dict[str, str]) -> str:
    """Steps 2 and 3: the longest ending that fits, replaced where what stands before it has a
    measure above 0."""
    for ending in sorted(endings, key=len, reverse=True):
        if word.endswith(ending):
            start = word[: -len(ending)]
            return start + endings[ending] if _measure(start) else word
    return word


def _longest(word: str) -> str:
    """Step 4: the longest ending that fits, dropped where what stands before it has a measure above
    1."""
    for ending in sorted(_STEP_4, key=len, reverse=True):
        if word.endswith(ending):
            start = word[: -len(ending)]
            drop = _measure(start) > 1 and (ending != "ion" or start.endswith(("s", "t")))
            return start if drop else word
    return word


def _final(word: str) -> str:
    """Step 5: a last e, and one of two l."""
    if word.endswith("e"):
        start = word[:-1]
        measure = _measure(start)
        if measure > 1 or (measure == 1 and not _short(start)):
            word = start
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word
