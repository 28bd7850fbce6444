"""Tokenize English or Chinese for an English network, and remember the characters of every token.

Chinese is read through its English glosses. Each word piece of a gloss keeps the characters of the
Chinese word it stands for, so a span of tokens is a span of the original text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ravlm.data.text import HAN, is_chinese, normalize_text
from ravlm.encoders.starter import minilm
from ravlm.encoders.starter.gloss import Glosser, starter_glosser

NO_GLOSS = 5
"""Token id ([unused4]) of a Chinese word without an English gloss, such as a particle."""
_MAX_GLOSS_PIECES = 6
_OTHER_FORMS = re.compile(rf"[{HAN}\uff10-\uff5a]")
_PUNCTUATION = dict(
    zip("，。！？；：、（）“”‘’《》「」『』【】—…", ',.!?;:,()""\'\'""""""[]-.', strict=True)
)


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

    def encode(self, text: str) -> AlignedTokens:
        """Tokenize `text`. Raises MissingExtra for Chinese without the dictionary's package."""
        text = _normalize_characters(text)
        if is_chinese(text):
            return self._encode_glosses(text)
        ids, offsets = self._pieces(text)
        starts = [start for start, _ in offsets]
        ends = [end for _, end in offsets]
        return AlignedTokens(ids, starts, ends, [""] * len(ids))

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
