"""Terms of keyword search: the stems of words, and pieces of scripts without spaces (Lucene's token
filters).

Words are stemmed in the language of their text, detected by its function words. A query is often
too short for that: its words are stemmed in every language of the base. A run of kana, Hangul,
Thai, Lao, Khmer or Burmese letters is split into overlapping pairs and single letters, as Chinese
is; that needs no dictionary, so every machine splits a text into the same terms.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import chain, pairwise
from typing import NamedTuple

import regex

from ravlm.data.stemming import ENGLISH, STEMMERS, detect_language, languages_of, stem
from ravlm.data.text import normalize_text

_POSSESSIVE = re.compile("['’]s?$")
_UNSPACED = r"(?!\p{{M}})[{scripts}]\p{{M}}*"
_SCRIPTS_WITHOUT_SPACES = (
    *(r"\p{Hiragana}ー", r"\p{Katakana}ー", r"\p{Hangul}"),
    *(r"\p{Thai}", r"\p{Lao}", r"\p{Khmer}", r"\p{Myanmar}"),
)
_RUN = regex.compile(
    "|".join(rf"((?:{_UNSPACED.format(scripts=scripts)})+)" for scripts in _SCRIPTS_WITHOUT_SPACES)
)
"""A run of letters of one of these scripts, with the marks on them."""
_MAX_QUERY_PIECES = 64
_LETTER = regex.compile(_UNSPACED.format(scripts="".join(_SCRIPTS_WITHOUT_SPACES)))


class TermHashes:
    """Words to terms, 64-bit hashes; a cache that fills on access."""

    def __init__(self) -> None:
        self._by_language: dict[str, dict[str, _WordTerms]] = {}
        self.markers = {language: _hash(f"language:{language}") for language in STEMMERS}
        """Language -> a term of each text that has words of it. English has none."""

    def index_terms(self, words: Sequence[str]) -> list[int]:
        """Return the terms of a text, which is given as its words."""
        language = detect_language(words)
        cache = self._by_language.setdefault(language, {})
        terms: list[int] = []
        markers: set[int] = set()
        for word in words:
            entry = cache.get(word)
            if entry is None:
                entry = cache[word] = self._word_terms(word, language)
            terms += entry.terms
            if entry.marker is not None:
                markers.add(entry.marker)
        return [*terms, *markers]

    def query_terms(self, words: Iterable[str], languages: Iterable[str]) -> list[int]:
        """Return the distinct terms of a query; `languages` are those of the texts, and English."""
        return list(dict.fromkeys(chain.from_iterable(self.query_synonyms(words, languages))))

    def query_synonyms(
        self, words: Iterable[str], languages: Iterable[str]
    ) -> list[tuple[int, ...]]:
        """Return the terms of a query; those of one word in several languages are one item."""
        synonyms: dict[tuple[int, ...], None] = {}
        codes = [ENGLISH, *languages]
        for word in map(normalize_text, words):
            pieces = _pieces(word)
            if pieces is not None:
                terms = map(_hash, (*pieces[:_MAX_QUERY_PIECES], word))
                synonyms |= dict.fromkeys((term,) for term in terms)
            else:
                possible = languages_of(word)
                in_word = [code for code in codes if code == ENGLISH or code in possible]
                synonyms[tuple(dict.fromkeys(_term(word, code) for code in in_word))] = None
        return list(synonyms)

    def _word_terms(self, word: str, language: str) -> _WordTerms:
        """Return the terms of a word in a text of this language."""
        # Normalized here, too: an older base stores words as they were written.
        word = normalize_text(word)
        pieces = _pieces(word)
        if pieces is not None:
            return _WordTerms(tuple(map(_hash, dict.fromkeys([*pieces, *_LETTER.findall(word)]))))
        possible = languages_of(word) or (ENGLISH,)
        code = language if language in possible else possible[0]
        return _WordTerms((_term(word, code),), self.markers.get(code))


class _WordTerms(NamedTuple):
    terms: tuple[int, ...]
    marker: int | None = None
    """The marker of the word's language; None for English."""


def max_terms(words: str) -> int:
    """Return the largest number of terms of a text that is given as words separated by blanks."""
    return sum(2 if word.isascii() else 2 * len(word) for word in words.split())


def _term(word: str, language: str) -> int:
    """Hash the stem of a word. Terms of different languages differ, even if their stems do not."""
    word_stem = stem(_POSSESSIVE.sub("", word), language)
    return _hash(word_stem if language == ENGLISH else f"{language} {word_stem}")


def _pieces(word: str) -> list[str] | None:
    """Return the pairs of letters of a word in scripts without spaces, and the rest of the word as
    it is; None for a word of other scripts."""
    if word.isascii() or _LETTER.search(word) is None:
        return None
    pieces: list[str] = []
    end = 0
    for run in _RUN.finditer(word):
        if run.start() > end:
            pieces.append(word[end : run.start()])
        letters = _LETTER.findall(run[0])
        pieces += ["".join(pair) for pair in pairwise(letters)] or letters
        end = run.end()
    return pieces + ([word[end:]] if end < len(word) else [])


def _hash(term: str) -> int:
    return int.from_bytes(blake2b(term.encode(), digest_size=8).digest(), "little")
