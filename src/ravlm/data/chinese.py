"""Chinese text in words with their English meanings, by the CC-CEDICT dictionary of
lindera-python-cc-cedict.

The package's own segmentation knows no word frequencies and takes the fewest words (图片|中的, 国|家的).
Here the dictionary is only asked which words there are; the split is the cheapest path over them,
with a price for words that end in a particle, a discount for grammatical characters, and measure
words only behind a number. Knows no encoder."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from ravlm.data.chinese_lexicon import (
    AMOUNTS,
    COUNTS,
    FUNCTION,
    LEXICAL,
    MEASURES,
    PARTICLES,
    RARE,
    usual_readings,
)
from ravlm.errors import MissingExtra

HAN = r"\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
"""The Chinese characters, as the inside of a regular expression's set."""

_PIECES = re.compile(rf"(?P<chinese>T恤|[{HAN}]+)|[^\W{HAN}]+?(?=T恤|\b|[{HAN}])|[^\w\s]")
_NO_MEANING = re.compile(
    r"\(?(?:CL:|(?:\w+ )?variants? of|surname |see |also written|also pr\.|used in|Taiwan pr\.|Kangxi radical"
    r"|abbr\. for|erhua variant)|.* (?:township|county|district|prefecture)\b.* (?:in|of) "
)
"""Senses that say nothing about the word's meaning in a text, and places so small that they are
seldom meant."""
_LONGEST = 8  # characters of a word; longer ones in the dictionary are names and proverbs
# Costs of a word in the path: negative logarithms of how likely it is, set by hand on phrases about
# pictures.
_WORD, _PER_CHARACTER, _CHARACTER, _UNKNOWN = 5.0, 0.2, 6.0, 9.0
_USUAL, _FUNCTION, _PARTICLE, _MEASURE = 5.0, 2.7, 1.0, 1.0
_LEXICAL, _RARE = 3.0, 9.0
_ENDS_IN_PARTICLE, _NO_SENSE, _PER_SENSE = 3.0, 3.0, -0.08


@dataclass(frozen=True)
class ChineseWord:
    """A word of Chinese text."""

    surface: str
    glosses: tuple[tuple[str, str], ...] = ()
    """(pinyin, meaning in English), the most usual first; empty for what the dictionary lacks."""
    particle: bool = False
    """A particle or mere measure word here: it has nothing to translate."""


class ChineseDictionary:
    """CC-CEDICT. Loaded on first use (a third of a second) and kept by whoever owns the object."""

    def __init__(self) -> None:
        self.lookup = lru_cache(maxsize=100_000)(self._lookup)

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from lindera import Tokenizer, load_dictionary
        except ImportError:
            raise MissingExtra("lindera-python-cc-cedict", "starter", "Reading Chinese") from None
        return Tokenizer(load_dictionary("embedded://cc-cedict"), mode="normal")

    @cached_property
    def _usual(self) -> dict[str, tuple[str, str]]:
        return usual_readings()

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal hash that names the dictionary's version, the readings before it, and what is
        skipped."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("lindera-python-cc-cedict")
        except PackageNotFoundError:
            raise MissingExtra("lindera-python-cc-cedict", "starter", "Reading Chinese") from None
        sets = (PARTICLES, MEASURES, AMOUNTS, COUNTS, FUNCTION, LEXICAL, RARE)
        tables = (sorted(table) for table in (*sets, self._usual.items()))
        return hashlib.sha256(repr((found, _NO_MEANING.pattern, *tables)).encode()).hexdigest()

    def segment(self, text: str) -> list[ChineseWord]:
        """`text` in words, in order; spaces are dropped, numbers, foreign words and marks stay
        whole.

        Raises MissingExtra where the dictionary's package is not installed.
        """
        _ = self._tokenizer  # says so where it is missing, whatever the text
        found: list[ChineseWord] = []
        for piece in _PIECES.finditer(text):
            if piece["chinese"]:
                counted = bool(found) and found[-1].surface[-1].isdecimal()
                found.extend(self._segment_run(piece[0], counted))
            else:
                found.append(ChineseWord(piece[0]))
        return found

    def _lookup(self, word: str) -> tuple[str, tuple[tuple[str, str], ...]] | None:
        """The simplified form and the meanings of `word`; None if the dictionary has no such
        word."""
        if word in self._usual:
            simplified, (pinyin, meanings) = word, self._usual[word]
        else:
            tokens = self._tokenizer.tokenize(word)
            if len(tokens) != 1 or tokens[0].is_unknown:
                return None
            pinyin, _, simplified, *gloss = tokens[0].details[4:]
            pinyin, meanings = self._usual.get(simplified, (pinyin, ",".join(gloss)))
        senses = [s.strip() for s in meanings.split("/")]
        return simplified, tuple((pinyin, s) for s in senses if s and not _NO_MEANING.match(s))

    def _segment_run(self, run: str, counted: bool) -> list[ChineseWord]:
        """The cheapest path through `run`; a state is where a word ends and whether a measure word
        may follow."""
        paths: list[dict[bool, tuple[float, tuple[Any, ...]]]] = [{} for _ in range(len(run) + 1)]
        paths[0][counted] = (0.0, ())
        for end in range(1, len(run) + 1):
            for start in range(
                max(0, end - _LONGEST), end
            ):  # the longest last word first: it wins a draw
                known = self.lookup(run[start:end])
                if known is None and end - start > 1:
                    continue
                form, senses = known or (run[start:end], None)
                counts = form[-1] in COUNTS
                for counted, (cost, path) in paths[start].items():
                    measure = counted and form in MEASURES
                    total = cost + (_MEASURE if measure else self._price(form, senses))
                    if counts not in paths[end] or total < paths[end][counts][0]:
                        paths[end][counts] = (total, (path, start, measure))
        return self._words(run, min(paths[-1].values(), key=lambda p: p[0])[1])

    def _words(self, run: str, path: tuple[Any, ...]) -> list[ChineseWord]:
        found: list[ChineseWord] = []
        end, before_verb = len(run), False
        while path:
            path, start, measure = path
            form, glosses = self.lookup(run[start:end]) or (run[start:end], ())
            particle = (
                (measure and form not in AMOUNTS)
                or form in PARTICLES
                or (form == "地" and before_verb)
            )
            found.append(ChineseWord(run[start:end], () if particle else glosses, particle))
            end, before_verb = start, bool(glosses) and glosses[0][1].startswith("to ")
        return found[::-1]

    def _price(self, form: str, senses: tuple[tuple[str, str], ...] | None) -> float:
        """The cost of the word `form` with these senses (None: the dictionary lacks it)."""
        if senses is None:
            return _UNKNOWN
        if form in LEXICAL:
            return _LEXICAL
        if form in RARE:
            return _RARE
        if len(form) == 1:
            if form in PARTICLES:
                return _PARTICLE
            if form in FUNCTION or form in COUNTS:
                return _FUNCTION
            return _USUAL if form in self._usual else _CHARACTER
        cost = _WORD + _PER_CHARACTER * (len(form) - 2) + _PER_SENSE * min(len(senses), 6)
        if form[-1] in PARTICLES:
            cost += _ENDS_IN_PARTICLE
        return cost if senses else cost + _NO_SENSE
