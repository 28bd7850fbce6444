"""Normalize text for comparison, and split it into words and sentences.

Chinese words come from a `ChineseDictionary`, which the caller loads and keeps. Without one, a run
of Chinese characters is split into overlapping bigrams.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

import regex

from ravlm.data.chinese import HAN, ChineseDictionary, ChineseWord
from ravlm.data.chinese_lexicon import simplified_characters
from ravlm.errors import InvalidInput

__all__ = [
    "ChineseDictionary",
    "ChineseWord",
    "check_unicode",
    "is_chinese",
    "normalize_text",
    "porter_stem",
    "segment_chinese",
    "sentence_spans",
    "split_sentences",
    "split_words",
    "strip_accents",
]

_HAS_HAN = re.compile(f"[{HAN}]")
_NUMBER = r"\d+(?:[.,]\d+)+"
# A letter or digit with the marks on it. `re` takes vowel signs of Hindi, tones of Thai and
# combining accents for separators, so its words would end at each of them.
_LETTER = r"[\p{L}\p{N}][\p{M}\u200c\u200d]*"
_LETTER_NOT_HAN = rf"(?![{HAN}]){_LETTER}"
_RUN = regex.compile(rf"([{HAN}]+)|{_NUMBER}|(?:{_LETTER_NOT_HAN})+(?:['’](?:{_LETTER_NOT_HAN})+)*")
_NON_CHINESE_WORD = regex.compile(rf"{_NUMBER}|(?:{_LETTER})+(?:['’](?:{_LETTER})+)*")
_NUMBER_WITH_POINT = re.compile(r"\d[.,]\d")
_SEPARATORS_TO_SPACES = bytes(
    code if chr(code).isalnum() else ord(" ") for code in range(128)
) + bytes(128)
"""`bytes.translate` table: every ASCII character that is no letter or digit becomes a space."""
_SENTENCE_END = re.compile(r"""[。！？]+["'”’」』）)]*|[.!?]+["'”’)\]]*(?=\s|$)|\n+""")
_ABBREVIATION = re.compile(
    r"(?:\b[A-Z]|\b(?i:Mr|Mrs|Ms|Dr|Prof|St|Mt|Jr|Sr|No|vs|etc|ca|cf|approx|incl"
    r"|e\.g|i\.e|a\.m|p\.m|bzw|ggf|evtl|inkl|zzgl|bijv|ул|стр|рис|т\.е)"
    r"|\b(?:Figs?|Eq|Abb|Nr|Str|Tel|Mme|Mlle|Sra|Srta|Sig|Dott|Dhr|Mevr))\.$"
)
_GERMAN_ORDINAL = re.compile(
    r"(?<![\d.,])\d{1,2}\.(?= (?:Jan(?:uar)?|Jänner|Feb(?:ruar)?|März|Apr(?:il)?|Mai|Jun[io]?"
    r"|Jul[io]?|Aug(?:ust)?|Sept?(?:ember)?|Okt(?:ober)?|Nov(?:ember)?|Dez(?:ember)?"
    r"|Jahrhunderts?|Jh|Weltkriegs?|Auflage|Stock|Etage|Klasse|Platz|Tag|Woche|Runde)\b)"
)
"""A number that is read as "the first", before a noun that it often counts."""

_TYPOGRAPHY = {
    **dict.fromkeys(map(ord, "\u2018\u2019\u201b\u02bc"), "'"),
    **dict.fromkeys(map(ord, "\u201c\u201d\u201f"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2012\u2013\u2014\u2015\u2212"), "-"),
    **dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"), ""),
    **dict.fromkeys(range(0xFE00, 0xFE10), ""),
}
"""Quotation marks and dashes as keyboards have them; soft hyphens, spaces without width and
variation selectors are removed."""
_LOWERCASE_WORD = re.compile(r"[a-z]{3,}")
_DOUBLED_CONSONANT = re.compile(r"([chjkqvwx])\1$")


def is_chinese(text: str) -> bool:
    """Return whether `text` contains Chinese characters."""
    return not text.isascii() and _HAS_HAN.search(text) is not None


def normalize_text(text: str) -> str:
    """Return the form in which names, keys, questions and keywords are compared.

    Full-width and composed forms become one (Unicode's NFKC), traditional Chinese characters become
    simplified ones, and typographic quotation marks and dashes become plain. Case and accents stay.
    Normalizing twice changes nothing more.

        normalize_text("Ｔｏｋｙｏ Ｔｏｗｅｒ")    # "Tokyo Tower"
        normalize_text("名稱：東方明珠")            # "名称:东方明珠"
    """
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).translate(_TYPOGRAPHY))
    return text.translate(_simplified_characters()) if is_chinese(text) else text


@lru_cache(maxsize=1)
def _simplified_characters() -> dict[int, int]:
    return simplified_characters()


def strip_accents(text: str) -> str:
    """Return `text` without combining marks such as accents: "Café" -> "Cafe"."""
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def split_sentences(text: str) -> list[str]:
    """Return the English and Chinese sentences of `text`, stripped, in order.

    A line break ends a sentence; a period after an initial, a common abbreviation (Mr., e.g.) or a
    German ordinal (1. April) does not. Only white space is lost.
    """
    return [text[start:end] for start, end in sentence_spans(text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return the start and end of each sentence of `split_sentences`."""
    borders = [0]
    ordinals = {ordinal.end() for ordinal in _GERMAN_ORDINAL.finditer(text)}
    for mark in _SENTENCE_END.finditer(text):
        end = mark.end()
        is_abbreviation = mark[0] == "." and (
            end in ordinals or _ABBREVIATION.search(text[borders[-1] : end])
        )
        if not (is_abbreviation and text[end:].strip(" ")):
            borders.append(end)
    spans = []
    for start, end in pairwise([*borders, len(text)]):
        piece = text[start:end]
        length = len(piece.strip())
        if length:
            first = start + len(piece) - len(piece.lstrip())
            spans.append((first, first + length))
    return spans


def split_words(text: str, dictionary: ChineseDictionary | None = None) -> list[str]:
    """Return the lower-cased words of `text`, without punctuation.

    Chinese is segmented by `dictionary`, or into overlapping bigrams without one.
    """
    if _is_plain_ascii(text):  # the common case, several times faster than a regular expression
        return text.lower().encode().translate(_SEPARATORS_TO_SPACES).decode().split()
    if not is_chinese(text):
        return _NON_CHINESE_WORD.findall(text.lower())
    words: list[str] = []
    for match in _RUN.finditer(text.lower()):
        chinese_run = match[1]
        if chinese_run is None:
            words.append(match[0])
        elif dictionary is None:
            bigrams = [chinese_run[i : i + 2] for i in range(len(chinese_run) - 1)]
            words.extend(bigrams or [chinese_run])
        else:
            words.extend(word.surface for word in dictionary.segment(chinese_run))
    return words


def segment_chinese(text: str, dictionary: ChineseDictionary | None = None) -> list[ChineseWord]:
    """Return the Chinese words of `text` with their meanings.

    Loads a dictionary (a third of a second) unless one is passed.
    """
    return (dictionary or ChineseDictionary()).segment(text)


def porter_stem(word: str) -> str:
    """Return the stem of a lower-cased English word: "running" -> "run", "happy" -> "happi".

    Porter's algorithm of 1980 ("An algorithm for suffix stripping", Program 14, 130-137). A word
    that is shorter than three letters, or has other characters than a to z, is returned unchanged.
    """
    from snowballstemmer import stemmer

    if not _LOWERCASE_WORD.fullmatch(word):
        return word
    # A stemmer keeps its state in attributes and is not thread-safe; a new one costs 1 µs.
    stem = stemmer("porter").stemWord(word)
    # Porter undoubles every consonant but l, s, z; Snowball does not know cc, kk, vv ...: trekking.
    if _DOUBLED_CONSONANT.search(stem) and word[len(stem) :].startswith(("ed", "ing")):
        return stem[:-1]
    return stem


def _is_plain_ascii(text: str) -> bool:
    """Return whether words are exactly the runs of ASCII letters and digits in `text`."""
    if not text.isascii() or "'" in text:
        return False
    return not (("." in text or "," in text) and _NUMBER_WITH_POINT.search(text))


def check_unicode(text: str) -> None:
    """Raise InvalidInput for a text that can't be written as UTF-8: it has lone surrogates.

    Python makes them of bytes in another encoding; tokenizers fail on them with a TypeError.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"The text {text[:80]!a} is not valid Unicode: character {error.start + 1} is half of "
            "a surrogate pair, as Python makes of bytes that are not UTF-8. Decode it with its own "
            "encoding."
        ) from None
