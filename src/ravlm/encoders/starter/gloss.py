"""Chinese words to English ones, for a text tower that reads no Chinese.

Each word is looked up in the starter's glossary (closed-class words, and those whose first
dictionary sense misleads), else in CC-CEDICT, where the sense is chosen by how common its English
words are and how early it stands. Knows no encoder; English words and digits stay as they are."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path

from ravlm.data.text import ChineseDictionary, ChineseWord, is_chinese

_NOT_A_SENSE = re.compile(
    r"^(CL:|surname|(old |erhua )?variant of|abbr\.|see |also |\(?used in|Kangxi|pr\.|same as)|radical"
)
_MARKED = re.compile(
    r"\((archaic|old|dialect|coll\.|literary|Tw|loanword|slang|fig\.|bound form)[^)]*\)"
)
_ASIDE = re.compile(r"\([^)]*\)|\[[^\]]*\]")
_PUNCTUATION = str.maketrans("，。！？；：、（）“”‘’《》", ',.!?;:,()""\'\'""')
_SPACE_BEFORE = re.compile(r"\s+([,.!?;:)])")


def read_glossary(path: str | Path) -> dict[str, str]:
    """A tab-separated file, Chinese and English a line ("" where the word is dropped); "#" opens a
    comment."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t", 1) for line in lines if line and not line.startswith("#"))


class Glosser:
    """Glosses Chinese by a glossary and CC-CEDICT.

    `ranks` gives the rank of each English word by how common it is (a word-piece vocabulary is in
    that order)."""

    def __init__(self, glossary: Mapping[str, str], ranks: Mapping[str, int]) -> None:
        self._glossary, self._ranks = glossary, ranks
        self._dictionary = ChineseDictionary()

    @property
    def fingerprint(self) -> str:
        """Hexadecimal hash of both dictionaries: another one gives other glosses, and so other
        vectors."""
        pairs = sorted(self._glossary.items())
        return hashlib.sha256(f"{self._dictionary.fingerprint} {pairs}".encode()).hexdigest()

    def gloss(self, text: str) -> str:
        """`text` with every Chinese word in English; a text without Chinese characters comes back
        unchanged.

        A word that is in neither dictionary stays as it is. Raises MissingExtra without the
        dictionary's package."""
        if not is_chinese(text):
            return text
        english = (self._word(word) for word in self._merged(self._dictionary.segment(text)))
        return (
            _SPACE_BEFORE.sub(r"\1", " ".join(filter(None, english)))
            .translate(_PUNCTUATION)
            .strip()
        )

    def _merged(self, words: list[ChineseWord]) -> list[ChineseWord]:
        """Neighbours that are one word of the glossary, put together (the longest first)."""
        merged, i = [], 0
        while i < len(words):
            for j in range(min(i + 4, len(words)), i, -1):
                surface = "".join(w.surface for w in words[i:j])
                if j == i + 1 or surface in self._glossary:
                    merged.append(words[i] if j == i + 1 else ChineseWord(surface))
                    i = j
                    break
        return merged

    def _word(self, word: ChineseWord) -> str:
        if word.particle:
            return ""
        if word.surface in self._glossary:
            return self._glossary[word.surface]
        if not is_chinese(word.surface):
            return word.surface.strip()
        senses = [sense for _, gloss in word.glosses for sense in gloss.split("/")]
        scored = [
            (self._cost(sense, place), clean)
            for place, sense in enumerate(senses)
            if (clean := _clean(sense))
        ]
        return min(scored)[1] if scored else self._in_pieces(word.surface)

    def _cost(self, sense: str, place: int) -> float:
        """How unlikely a sense is meant: rare words, many words, a late place, a mark such as
        "(archaic)"."""
        words = re.findall(r"[a-z]+", _clean(sense).lower()) or ["?"]
        rarity = sum(math.log(self._ranks.get(w, 60_000) + 1000) for w in words) / len(words)
        return rarity + 0.6 * len(words) + 0.4 * place + (2.0 if _MARKED.search(sense) else 0.0)

    def _in_pieces(self, surface: str) -> str:
        """A word without a sense of its own (古塔 is a small district too): its pieces, the longest
        known ones of the glossary first, else its characters; the word itself where one of them
        says nothing."""
        for size in range(len(surface) - 1, 0, -1):
            if surface[:size] in self._glossary:
                rest = surface[size:]
                return f"{self._glossary[surface[:size]]} {self._glossary.get(rest, rest)}".strip()
        if len(surface) == 1:
            return surface
        known = [self._dictionary.lookup(character) for character in surface]
        pieces = [
            self._word(ChineseWord(c, found[1]))
            for c, found in zip(surface, known, strict=True)
            if found
        ]
        whole = len(pieces) == len(surface) and not any(is_chinese(piece) for piece in pieces)
        return " ".join(filter(None, pieces)) if whole else surface


def _clean(sense: str) -> str:
    if _NOT_A_SENSE.search(sense.strip()):
        return ""
    plain = re.sub(r"\s+", " ", _ASIDE.sub("", sense)).strip(" ,;?!")
    return re.sub(r"^(to be|to|a|an|the) ", "", plain)
