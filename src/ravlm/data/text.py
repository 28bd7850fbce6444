"""Words and sentences of English and Chinese text. Knows no encoder and no index.

Chinese words come from a `ChineseDictionary`, which the caller loads and keeps; without one, runs
of Chinese characters fall apart into overlapping pairs."""

from __future__ import annotations

import re

from ravlm.data.chinese import HAN, ChineseDictionary, ChineseWord

__all__ = [
    "ChineseDictionary",
    "ChineseWord",
    "is_chinese",
    "segment_chinese",
    "sentences",
    "words",
]

_HAS_HAN = re.compile(f"[{HAN}]")
_RUN = re.compile(rf"([{HAN}]+)|\d+(?:[.,]\d+)+|[^\W{HAN}_]+(?:['’][^\W{HAN}_]+)*")
_WORD = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:['’][^\W_]+)*")
"""What of _RUN is left where nothing is Chinese."""
_NUMBER = re.compile(r"\d[.,]\d")
"""Where a stop does not part words. Without it, in an ASCII text without ', all but letters and
digits part them."""
_BLANKS = bytes(code if chr(code).isalnum() else 32 for code in range(128)) + bytes(128)
_END = re.compile(r"""[。！？]+["'”’」』）)]*|[.!?]+["'”’)\]]*(?=\s|$)|\n+""")
_ABBREVIATION = re.compile(
    r"(?:\b[A-Z]|\b(?i:Mr|Mrs|Ms|Dr|Prof|St|Mt|Jr|Sr|No|vs|etc|ca|cf|approx|incl|e\.g|i\.e|a\.m|p\.m))\.$"
)


def is_chinese(text: str) -> bool:
    """Whether `text` has Chinese characters."""
    return not text.isascii() and _HAS_HAN.search(text) is not None


def split_sentences(text: str) -> list[str]:
    """`text` in sentences, English and Chinese, each stripped, in order; line ends end a sentence.

    Only white space is lost. A stop after an initial or a usual abbreviation (Mr., e.g.) ends no
    sentence."""
    found, start = [], 0
    for end in _END.finditer(text):
        piece = text[start : end.end()]
        if not (end[0] == "." and _ABBREVIATION.search(piece) and text[end.end() :].strip(" ")):
            found.append(piece.strip())
            start = end.end()
    found.append(text[start:].strip())
    return [s for s in found if s]


def split_words(text: str, dictionary: ChineseDictionary | None = None) -> list[str]:
    """`text` in lower-cased words, without punctuation; Chinese by `dictionary`, else in
    overlapping pairs."""
    if (
        text.isascii()
        and "'" not in text
        and not (("." in text or "," in text) and _NUMBER.search(text))
    ):
        return text.lower().encode().translate(_BLANKS).decode().split()
    if not is_chinese(text):
        return _WORD.findall(text.lower())
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
    """`text` in Chinese words with their meanings. Loads the dictionary (a third of a second)
    unless one is given."""
    return (dictionary or ChineseDictionary()).segment(text)


words = split_words  # temporary alias


sentences = split_sentences  # temporary alias
