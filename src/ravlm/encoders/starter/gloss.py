"""Gloss Chinese words in English, for a text tower that reads no Chinese.

Each word is looked up in the starter's glossary (closed-class words, and words whose first
dictionary sense misleads), then in CC-CEDICT. Among the senses of CC-CEDICT, common English words
and early senses are preferred. English words and digits stay unchanged.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path

from ravlm.data.text import ChineseDictionary, ChineseWord, is_chinese
from ravlm.files import STARTER

_NOT_A_SENSE = re.compile(
    r"^(CL:|surname|(old |erhua )?variant of|abbr\.|see |also |\(?used in|Kangxi|pr\.|same as)"
    r"|radical"
)
_RARE_USAGE = re.compile(
    r"\((archaic|old|dialect|coll\.|literary|Tw|loanword|slang|fig\.|bound form)[^)]*\)"
)
_PARENTHESES = re.compile(r"\([^)]*\)|\[[^\]]*\]")
_PUNCTUATION = str.maketrans("，。！？；：、（）“”‘’《》", ',.!?;:,()""\'\'""')
_SPACE_BEFORE_PUNCTUATION = re.compile(r"\s+([,.!?;:)])")
_MAX_GLOSSARY_WORDS = 4
"""Words of the segmenter that one word of the glossary may span."""
_UNKNOWN_RANK = 60_000
"""Frequency rank of an English word that is not in the vocabulary."""


def read_glossary(path: str | Path) -> dict[str, str]:
    """Read a tab-separated file: Chinese, English ("" to drop the word). "#" starts a comment."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t", 1) for line in lines if line and not line.startswith("#"))


def starter_glosser(ranks: Mapping[str, int]) -> Glosser:
    """Create a glosser with the glossary that ships with ravlm. `ranks`: see `Glosser`."""
    return Glosser(read_glossary(STARTER / "glossary.tsv"), ranks)


class Glosser:
    """Glosses Chinese with a glossary and CC-CEDICT.

    `ranks`: frequency rank of each English word. A word-piece vocabulary is in that order.
    """

    def __init__(self, glossary: Mapping[str, str], ranks: Mapping[str, int]) -> None:
        self._glossary = glossary
        self._ranks = ranks
        self._dictionary = ChineseDictionary()

    @property
    def fingerprint(self) -> str:
        """Hexadecimal hash of both dictionaries: other glosses would give other vectors."""
        pairs = sorted(self._glossary.items())
        return hashlib.sha256(f"{self._dictionary.fingerprint} {pairs}".encode()).hexdigest()

    def gloss(self, text: str) -> str:
        """Replace every Chinese word with English. A text without Chinese is returned unchanged.

        A word in neither dictionary stays as it is. Raises MissingExtra without the dictionary's
        package.
        """
        if not is_chinese(text):
            return text
        english = " ".join(filter(None, (gloss for _, gloss in self.gloss_words(text))))
        english = _SPACE_BEFORE_PUNCTUATION.sub(r"\1", english)
        return english.translate(_PUNCTUATION).strip()

    def gloss_words(self, text: str) -> list[tuple[str, str]]:
        """Return every word of `text` with its English gloss ("" for a particle), in order.

        Chinese words are in simplified form, which has as many characters as the text's.
        """
        words = self._merge_words(self._dictionary.segment(text))
        return [(word.surface, self._gloss_word(word)) for word in words]

    def _merge_words(self, words: list[ChineseWord]) -> list[ChineseWord]:
        """Merge adjacent words that are one word of the glossary, the longest first."""
        merged: list[ChineseWord] = []
        start = 0
        while start < len(words):
            for end in range(min(start + _MAX_GLOSSARY_WORDS, len(words)), start, -1):
                surface = "".join(word.surface for word in words[start:end])
                if end == start + 1 or surface in self._glossary:
                    merged.append(words[start] if end == start + 1 else ChineseWord(surface))
                    start = end
                    break
        return merged

    def _gloss_word(self, word: ChineseWord) -> str:
        if word.particle:
            return ""
        if word.surface in self._glossary:
            return self._glossary[word.surface]
        if not is_chinese(word.surface):
            return word.surface.strip()
        senses = [sense for _, gloss in word.glosses for sense in gloss.split("/")]
        candidates = [
            (self._cost(sense, position), english)
            for position, sense in enumerate(senses)
            if (english := _clean(sense))
        ]
        return min(candidates)[1] if candidates else self._gloss_by_parts(word.surface)

    def _cost(self, sense: str, position: int) -> float:
        """Score how unlikely a sense is: rare words, many words, a late position, or a label
        such as "(archaic)"."""
        words = re.findall(r"[a-z]+", _clean(sense).lower()) or ["?"]
        log_ranks = [math.log(self._ranks.get(word, _UNKNOWN_RANK) + 1000) for word in words]
        rarity = sum(log_ranks) / len(words)
        label = 2.0 if _RARE_USAGE.search(sense) else 0.0
        return rarity + 0.6 * len(words) + 0.4 * position + label

    def _gloss_by_parts(self, surface: str) -> str:
        """Gloss a word that has no usable sense (古塔 is only listed as a small district).

        The longest prefix in the glossary wins, else single characters; if a character has no
        gloss, the word itself is returned.
        """
        for size in range(len(surface) - 1, 0, -1):
            prefix, suffix = surface[:size], surface[size:]
            if prefix in self._glossary:
                return f"{self._glossary[prefix]} {self._glossary.get(suffix, suffix)}".strip()
        if len(surface) == 1:
            return surface
        pieces = []
        for character in surface:
            entry = self._dictionary.lookup(character)
            if not entry:
                return surface
            pieces.append(self._gloss_word(ChineseWord(character, entry[1])))
        if any(is_chinese(piece) for piece in pieces):
            return surface
        return " ".join(filter(None, pieces))


def _clean(sense: str) -> str:
    """Return the sense without parentheses, articles and "to"; "" if it is only a reference."""
    if _NOT_A_SENSE.search(sense.strip()):
        return ""
    plain = re.sub(r"\s+", " ", _PARENTHESES.sub("", sense)).strip(" ,;?!")
    return re.sub(r"^(to be|to|a|an|the) ", "", plain)
