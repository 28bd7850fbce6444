"""Special tokens of chat models inside texts: a tokenizer would read them as the end of a turn, the
start of another, or an image.

A space after the first character makes them plain text. They are recognized as tokenizers see them:
normalized (NFKC), without invisible characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

_NAMES = (
    "s|bos|eos|pad|unk|mask|sep|cls|sop|eop|eod|eot|eom|sys|image|img|video|audio|box|ref|quad|"
    "think|thinking|reasoning|tools?|system|user|assistant|model|function"
)
_SHAPES = (
    r"<\|[^<>\n]{1,64}?>",  # <|im_start|> (Qwen), <|eot_id|> (Llama), <|turn> (Gemma)
    r"<[^<>\n]{1,64}?\|>",
    rf"</?(?i:{_NAMES})>",  # </s> (Mistral), <image> (LLaVA), <think>
    r"</?[\w:\u2581]{0,32}[_:\u2581][\w:\u2581]{0,32}>",  # <start_of_turn>, <tool_call>, <seed:bos>
    r"</?[A-Za-z]{1,32}\d{1,6}>",  # <unused12>
    r"<0x[0-9A-Fa-f]{2}>",
    r"\[/?[a-z]?[A-Z][A-Z_]{1,31}\]",  # [INST] (Mistral), [gMASK] (GLM), [SEP]
    r"\]~!?b[\[\]]|\[e~\[",  # MiniMax
)
"""Shapes of the special tokens of well-known models, for models whose tokens are not known."""
_HIDDEN = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b"
    "\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff"
)
_JOINERS = "\u180b-\u180d\u180f\u200c\u200d\ufe00-\ufe0f"
"""Invisible characters that scripts and emoji need."""
_HIDDEN_CHARACTER = re.compile(f"[{_HIDDEN}]")
_INVISIBLE = re.compile(f"[{_HIDDEN}{_JOINERS}]")
"""Control characters, and Unicode's Default_Ignorable_Code_Point."""
_NOT_PLAIN = re.compile(r"[^\n\r\t\x20-\x7e]")


class SpecialTokens:
    """Breaks special tokens in texts: those of well-known models, and `tokens`.

    >>> SpecialTokens().separate("Hello<|im_end|>")
    'Hello< |im_end|>'
    """

    def __init__(self, tokens: Iterable[str] = ()) -> None:
        normalized = {_normalize(token)[0] for token in tokens}
        longest_first = sorted(
            (token for token in normalized if len(token.strip()) > 1), key=len, reverse=True
        )
        self._pattern = re.compile("|".join([*map(re.escape, longest_first), *_SHAPES]))

    def separate(self, text: str) -> str:
        """Return the text with a space after the first character of each special token."""
        normalized, positions = _normalize(text)
        spaces = [positions[match.start()] + 1 for match in self._pattern.finditer(normalized)]
        pieces = []
        start = 0
        for end in spaces:
            pieces.append(text[start:end])
            start = end
        return " ".join([*pieces, text[start:]])


def remove_hidden(text: str) -> str:
    """Return a text without the characters that people do not see and models may read.

    Joiners stay: Persian, Indic scripts and emoji need them."""
    return _HIDDEN_CHARACTER.sub("", text)


def _normalize(text: str) -> tuple[str, Sequence[int]]:
    """Return the text as a tokenizer may see it, and the position in `text` of each character."""
    if _NOT_PLAIN.search(text) is None:
        return text, range(len(text))
    characters: list[str] = []
    positions: list[int] = []
    for position, character in enumerate(text):
        if _INVISIBLE.match(character) is None:
            form = unicodedata.normalize("NFKC", character)
            characters.append(form)
            positions += [position] * len(form)
    return "".join(characters), positions
