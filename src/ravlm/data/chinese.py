"""Segment Chinese text into words with English meanings, using CC-CEDICT (lindera).

The package's own segmentation has no word frequencies and takes the fewest words (图片|中的,
国|家的). Here the dictionary only says which words exist. The segmentation is the cheapest path
over them: words that end in a particle cost more, grammatical characters less, and measure words
are cheap only after a number.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, TypeAlias

from ravlm.data.chinese_lexicon import (
    AMOUNT_MEASURE_WORDS,
    DETERMINERS,
    FUNCTION_CHARACTERS,
    MEASURE_WORDS,
    PARTICLES,
    UNLIKELY_WORDS,
    WORDS_ENDING_IN_PARTICLE,
    usual_readings,
)
from ravlm.errors import MissingExtra

HAN = r"\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
"""The Chinese characters, as the inside of a regular expression's set."""

_TOKEN = re.compile(rf"(?P<chinese>T恤|[{HAN}]+)|[^\W{HAN}]+?(?=T恤|\b|[{HAN}])|[^\w\s]")
_SKIPPED_SENSE = re.compile(
    r"\(?(?:CL:|(?:\w+ )?variants? of|surname |see |also written|also pr\."
    r"|used in|Taiwan pr\.|Kangxi radical"
    r"|abbr\. for|erhua variant)|.* (?:township|county|district|prefecture)\b.* (?:in|of) "
)
"""Senses that do not say what the word means, and small places, which are rarely meant."""
_MAX_WORD_LENGTH = 8  # characters; longer entries of the dictionary are names and proverbs

# Costs of a word in the path: negative log probabilities, set by hand on phrases about images.
_WORD_COST = 5.0
_COST_PER_CHARACTER = 0.2  # beyond two
_COST_PER_SENSE = -0.08
_COST_ENDS_IN_PARTICLE = 3.0
_COST_NO_SENSE = 3.0
_PARTICLE_ENDING_WORD_COST = 3.0
_UNLIKELY_WORD_COST = 9.0
_CHARACTER_COST = 6.0
_USUAL_CHARACTER_COST = 5.0
_FUNCTION_CHARACTER_COST = 2.7
_PARTICLE_COST = 1.0
_MEASURE_WORD_COST = 1.0
_UNKNOWN_COST = 9.0

Glosses: TypeAlias = tuple[tuple[str, str], ...]
"""(pinyin, meaning in English), the most usual first."""


@dataclass(frozen=True)
class ChineseWord:
    """A word of Chinese text."""

    surface: str
    glosses: Glosses = ()
    """Empty if the dictionary has no such word."""
    particle: bool = False
    """Whether it is a particle or a mere measure word, which is not translated."""


class _Path(NamedTuple):
    """A segmentation of the beginning of a run, as a linked list of words from the last one."""

    cost: float
    previous: _Path | None = None
    start: int = 0
    """Where the last word begins."""
    is_measure_word: bool = False


class ChineseDictionary:
    """CC-CEDICT, loaded on first use (a third of a second).

    Keep the object: it caches the dictionary and the words that were looked up.

        ChineseDictionary().segment("一只猫")      # 一, 只, 猫 ("cat")
    """

    def __init__(self) -> None:
        self.lookup = lru_cache(maxsize=100_000)(self._lookup)

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from lindera import Tokenizer, load_dictionary
        except ImportError:
            raise MissingExtra("lindera-python-cc-cedict", "search", "Reading Chinese") from None
        return Tokenizer(load_dictionary("embedded://cc-cedict"), mode="normal")

    @cached_property
    def _usual(self) -> dict[str, tuple[str, str]]:
        return usual_readings()

    @cached_property
    def fingerprint(self) -> str:
        """A hash (hexadecimal) of the dictionary's version, the lexicon and the skipped senses."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            dictionary_version = version("lindera-python-cc-cedict")
        except PackageNotFoundError:
            raise MissingExtra("lindera-python-cc-cedict", "search", "Reading Chinese") from None
        lexicon = (
            PARTICLES,
            MEASURE_WORDS,
            AMOUNT_MEASURE_WORDS,
            DETERMINERS,
            FUNCTION_CHARACTERS,
            WORDS_ENDING_IN_PARTICLE,
            UNLIKELY_WORDS,
            self._usual.items(),
        )
        tables = (sorted(table) for table in lexicon)
        content = repr((dictionary_version, _SKIPPED_SENSE.pattern, *tables))
        return hashlib.sha256(content.encode()).hexdigest()

    def segment(self, text: str) -> list[ChineseWord]:
        """Return the words of `text` in order, without spaces.

        Numbers, foreign words and punctuation marks are words of their own. Raises MissingExtra if
        the dictionary is not installed.
        """
        _ = self._tokenizer  # raises MissingExtra for any text
        words: list[ChineseWord] = []
        for token in _TOKEN.finditer(text):
            if token["chinese"]:
                after_number = bool(words) and words[-1].surface[-1].isdecimal()
                words.extend(self._segment_run(token[0], after_number))
            else:
                words.append(ChineseWord(token[0]))
        return words

    def _lookup(self, word: str) -> tuple[str, Glosses] | None:
        """Return the simplified form and the meanings of `word`, or None for an unknown word."""
        if word in self._usual:
            simplified = word
            pinyin, meanings = self._usual[word]
        else:
            tokens = self._tokenizer.tokenize(word)
            if len(tokens) != 1 or tokens[0].is_unknown:
                return None
            pinyin, _, simplified, *gloss = tokens[0].details[4:]
            pinyin, meanings = self._usual.get(simplified, (pinyin, ",".join(gloss)))
        senses = [sense.strip() for sense in meanings.split("/")]
        return simplified, tuple((pinyin, s) for s in senses if s and not _SKIPPED_SENSE.match(s))

    def _segment_run(self, run: str, after_number: bool) -> list[ChineseWord]:
        """Segment a run of Chinese characters by dynamic programming.

        A state is the end of the last word, and whether a measure word may follow it.
        """
        paths: list[dict[bool, _Path]] = [{} for _ in range(len(run) + 1)]
        paths[0][after_number] = _Path(cost=0.0)
        for end in range(1, len(run) + 1):
            # The longest last word comes first: it wins a tie.
            for start in range(max(0, end - _MAX_WORD_LENGTH), end):
                entry = self.lookup(run[start:end])
                if entry is None and end - start > 1:
                    continue
                form, senses = entry or (run[start:end], None)
                measure_word_may_follow = form[-1] in DETERMINERS
                for after_determiner, path in paths[start].items():
                    is_measure = after_determiner and form in MEASURE_WORDS
                    cost = _MEASURE_WORD_COST if is_measure else self._cost(form, senses)
                    best = paths[end].get(measure_word_may_follow)
                    if best is None or path.cost + cost < best.cost:
                        paths[end][measure_word_may_follow] = _Path(
                            path.cost + cost, path, start, is_measure
                        )
        return self._words(run, min(paths[-1].values(), key=lambda path: path.cost))

    def _words(self, run: str, last: _Path) -> list[ChineseWord]:
        """Return the words of a path, which is followed from its end."""
        words: list[ChineseWord] = []
        path = last
        end = len(run)
        before_verb = False
        while path.previous is not None:
            surface = run[path.start : end]
            form, glosses = self.lookup(surface) or (surface, ())
            particle = (
                (path.is_measure_word and form not in AMOUNT_MEASURE_WORDS)
                or form in PARTICLES
                or (form == "地" and before_verb)
            )
            words.append(ChineseWord(surface, () if particle else glosses, particle))
            before_verb = bool(glosses) and glosses[0][1].startswith("to ")
            end = path.start
            path = path.previous
        return words[::-1]

    def _cost(self, form: str, senses: Glosses | None) -> float:
        """Return the cost of a word with these senses; None means an unknown word."""
        if senses is None:
            return _UNKNOWN_COST
        if form in WORDS_ENDING_IN_PARTICLE:
            return _PARTICLE_ENDING_WORD_COST
        if form in UNLIKELY_WORDS:
            return _UNLIKELY_WORD_COST
        if len(form) == 1:
            return self._character_cost(form)
        cost = _WORD_COST
        cost += _COST_PER_CHARACTER * (len(form) - 2)
        cost += _COST_PER_SENSE * min(len(senses), 6)
        if form[-1] in PARTICLES:
            cost += _COST_ENDS_IN_PARTICLE
        return cost if senses else cost + _COST_NO_SENSE

    def _character_cost(self, form: str) -> float:
        if form in PARTICLES:
            return _PARTICLE_COST
        if form in FUNCTION_CHARACTERS or form in DETERMINERS:
            return _FUNCTION_CHARACTER_COST
        return _USUAL_CHARACTER_COST if form in self._usual else _CHARACTER_COST
