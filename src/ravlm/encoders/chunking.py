"""A long text in passages that fit a text tower. Knows no tower: the caller says what fits."""

from __future__ import annotations

from collections.abc import Callable

from ravlm.data.text import sentences


def passages(text: str, fits: Callable[[str], bool]) -> list[str]:
    """`text` in pieces that each fit, in order: whole sentences where they fit, else whole words,
    else characters.

    A text that fits is one piece, unchanged; of another only white space between pieces is lost.
    """
    if fits(text):
        return [text]
    found: list[str] = []
    for sentence in sentences(text):
        for piece in [sentence] if fits(sentence) else _cut(sentence, fits):
            joined = f"{found[-1]} {piece}" if found else piece
            if found and fits(joined):
                found[-1] = joined
            else:
                found.append(piece)
    return found or [text]


def _cut(sentence: str, fits: Callable[[str], bool]) -> list[str]:
    """A sentence that is too long, halved at a space (or anywhere) until the pieces fit."""
    if len(sentence) < 2 or fits(sentence):
        return [sentence]
    middle = len(sentence) // 2
    space = sentence.rfind(" ", 1, middle + 1)
    place = space if space > 0 else middle
    return _cut(sentence[:place].strip(), fits) + _cut(sentence[place:].strip(), fits)
