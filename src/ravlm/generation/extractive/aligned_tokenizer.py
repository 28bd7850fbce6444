"""Tokenize a text for an English network, and remember the characters of every token.

Other languages are read through English glosses: Chinese by a dictionary, others by the nearest
English word. Each word piece of a gloss keeps the characters of the word it stands for, so a span
of tokens is a span of the original text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from ravlm.data.text import HAN, is_chinese, normalize_text
from ravlm.encoders.starter import minilm
from ravlm.encoders.starter.gloss import Glosser, starter_glosser
from ravlm.encoders.starter.multilingual import NearestWordGlosser

NO_GLOSS = 5
"""Token id ([unused4]) of a Chinese word without an English gloss, such as a particle."""
_MAX_GLOSS_PIECES = 6
_ENGLISH_SHARE = 0.62
"""Of the words of an English text, at least this share is in the vocabulary: 99 % of Wikipedia's
passages are above; German, French and Spanish texts have about half."""
_WORD = re.compile(r"[^\W\d_]+")
_KANA = re.compile("[\u3040-\u30ff]")
_KANA_SHARE = 0.1
"""Of the characters of a Japanese text; a Chinese one may quote a few."""
_OTHER_FORMS = re.compile(rf"[{HAN}\uff10-\uff5a]")
_PUNCTUATION = dict(
    zip("，。！？；：、（）“”‘’《》「」『』【】—…", ',.!?;:,()""\'\'""""""[]-.', strict=True)
)


Language: TypeAlias = Literal["en", "zh", "other"]
"""How a text is read: as it is, by the dictionary's glosses, or by the nearest English words."""


@dataclass(frozen=True)
class AlignedTokens:
    """Tokens of a text. All lists have one item per token."""

    ids: list[int]
    starts: list[int]
    """First character of the text that the token stands for."""
    ends: list[int]
    """One after its last character."""
    words: list[str]
    """The Chinese word that the token glosses; "" for a token of the text itself."""


class AlignedTokenizer:
    """Word pieces of all-MiniLM-L6-v2, without special tokens."""

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = minilm.load_tokenizer(minilm.model_folder())
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _glosser(self) -> Glosser:
        return starter_glosser(self._tokenizer.get_vocab())

    @cached_property
    def _nearest_words(self) -> NearestWordGlosser:
        return NearestWordGlosser(self._vocabulary)

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        return self._tokenizer.get_vocab()

    def encode(self, text: str) -> AlignedTokens:
        """Tokenize `text`. Raises MissingExtra without the packages of the extra `search`."""
        text = _normalize_characters(text)
        language = self.language(text)
        if language == "zh":
            return self._encode_glosses(text)
        if language != "en":
            return self._encode_nearest_words(text)
        ids, offsets = self._pieces(text)
        starts = [start for start, _ in offsets]
        ends = [end for _, end in offsets]
        return AlignedTokens(ids, starts, ends, [""] * len(ids))

    def encode_question(self, question: str, passage_language: Language) -> AlignedTokens:
        """Tokenize a question about a passage.

        The few words of a question may be English words by chance ("Wo steht er?"), so it is read
        like the passage where that is in another language; English words gloss themselves.
        """
        if passage_language == "other" and self.language(question) != "zh":
            return self._encode_nearest_words(_normalize_characters(question))
        return self.encode(question)

    def language(self, text: str) -> Language:
        """Return how a text is read."""
        if is_chinese(text) and not _is_japanese(text):
            return "zh"
        return "en" if self.is_english(text) else "other"

    def is_english(self, text: str) -> bool:
        """Return whether the words of a text are English ones, or there is none."""
        words = _WORD.findall(text.lower())
        num_known = sum(word in self._vocabulary for word in words)
        return num_known >= _ENGLISH_SHARE * len(words)

    def _encode_nearest_words(self, text: str) -> AlignedTokens:
        tokens = AlignedTokens([], [], [], [])
        for word in self._nearest_words.gloss_words(text):
            ids = self._pieces(word.english)[0][:_MAX_GLOSS_PIECES] or [NO_GLOSS]
            tokens.ids.extend(ids)
            tokens.starts.extend([word.start] * len(ids))
            tokens.ends.extend([word.end] * len(ids))
            tokens.words.extend([""] * len(ids))
        return tokens

    def _pieces(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def _encode_glosses(self, text: str) -> AlignedTokens:
        tokens = AlignedTokens([], [], [], [])
        position = 0
        for surface, english in self._glosser.gloss_words(text):
            start = _find_word(text, surface, position)
            position = start + len(surface)
            if is_chinese(surface):
                ids = self._pieces(english)[0][:_MAX_GLOSS_PIECES] if english else []
                ids = ids or [NO_GLOSS]
                offsets = [(0, len(surface))] * len(ids)
                word = surface
            elif surface in _PUNCTUATION:
                ids = self._pieces(_PUNCTUATION[surface])[0]
                offsets = [(0, len(surface))] * len(ids)
                word = ""
            else:
                ids, offsets = self._pieces(surface)
                word = ""
            tokens.ids.extend(ids)
            tokens.starts.extend(start + first for first, _ in offsets)
            tokens.ends.extend(start + last for _, last in offsets)
            tokens.words.extend([word] * len(ids))
        return tokens


def _is_japanese(text: str) -> bool:
    return len(_KANA.findall(text)) > _KANA_SHARE * len(text)


def _normalize_characters(text: str) -> str:
    """Replace full-width and traditional characters by their normal form, one for one."""
    return _OTHER_FORMS.sub(lambda match: _normal_form(match[0]), text)


def _normal_form(character: str) -> str:
    normal = normalize_text(character)
    return normal if len(normal) == 1 else character


def _find_word(text: str, surface: str, position: int) -> int:
    """Return where the next word starts: the next character that is no space if not found."""
    while position < len(text) and text[position].isspace():
        position += 1
    start = text.find(surface, position)
    return start if position <= start <= position + len(surface) else position
