"""Words and sentences of English and Chinese text. Knows no encoder and no index.

Chinese words come from the CC-CEDICT dictionary (package lindera-python-cc-cedict), loaded and kept by the caller as a
`ChineseDictionary`; without one, runs of Chinese characters fall apart into pairs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ravlm.errors import MissingExtra

_HAN = r"\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_HAS_HAN = re.compile(f"[{_HAN}]")
_RUN = re.compile(rf"([{_HAN}]+)|[^\W{_HAN}_]+(?:['’][^\W{_HAN}_]+)*")
_END = re.compile(r"""[。！？]+["'”’」』）)]*|[.!?]+["'”’)\]]*(?=\s|$)|\n+""")


@dataclass(frozen=True)
class ChineseWord:
    """A word of Chinese text: what stands there, and its dictionary entries as (pinyin, gloss), senses split by "/"."""

    surface: str
    glosses: tuple[tuple[str, str], ...] = ()


def is_chinese(text: str) -> bool:
    """Whether `text` has Chinese characters."""
    return _HAS_HAN.search(text) is not None


def sentences(text: str) -> list[str]:
    """`text` in sentences, English and Chinese, each stripped, in order; line ends end a sentence."""
    found, start = [], 0
    for end in _END.finditer(text):
        found.append(text[start : end.end()].strip())
        start = end.end()
    found.append(text[start:].strip())
    return [s for s in found if s]


def words(text: str, dictionary: ChineseDictionary | None = None) -> list[str]:
    """`text` in lower-cased words, without punctuation; Chinese by `dictionary`, else in overlapping pairs."""
    found: list[str] = []
    for match in _RUN.finditer(text.lower()):
        run = match[1]
        if run is None:
            found.append(match[0])
        elif dictionary is None:
            found.extend([run[i : i + 2] for i in range(len(run) - 1)] or [run])
        else:
            found.extend(word.surface for word in dictionary.segment(run))
    return found


def segment_chinese(text: str, dictionary: ChineseDictionary | None = None) -> list[ChineseWord]:
    """`text` in Chinese words with glosses. Loads the dictionary (0.3 s) unless one is given."""
    return (dictionary or ChineseDictionary()).segment(text)


class ChineseDictionary:
    """CC-CEDICT, loaded on first use and kept by whoever owns the object."""

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from lindera import Tokenizer, load_dictionary
        except ImportError:
            raise MissingExtra("lindera-python-cc-cedict", "starter", "Reading Chinese") from None
        return Tokenizer(load_dictionary("embedded://cc-cedict"), mode="normal")

    def segment(self, text: str) -> list[ChineseWord]:
        """`text` in words, in order; what is not in the dictionary has no glosses."""
        found = []
        for token in self._tokenizer.tokenize(text):
            details = token.details
            gloss = ",".join(details[7:]).strip("/") if len(details) > 7 else ""
            found.append(ChineseWord(token.surface, ((details[4], gloss),) if gloss not in ("", "*") else ()))
        return found
