"""Split a long text into passages that fit a text tower."""

from __future__ import annotations

from collections.abc import Callable

from ravlm.data.text import split_sentences


def split_passages(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Split `text` into consecutive passages that each fit: at sentences, else words, else
    characters.

    A text that fits is returned unchanged as one passage. Otherwise only white space between
    passages is lost.
    """
    if fits(text):
        return [text]
    passages: list[str] = []
    for sentence in split_sentences(text):
        for piece in [sentence] if fits(sentence) else _halve(sentence, fits):
            extended = f"{passages[-1]} {piece}" if passages else piece
            if passages and fits(extended):
                passages[-1] = extended
            else:
                passages.append(piece)
    return passages or [text]


def _halve(sentence: str, fits: Callable[[str], bool]) -> list[str]:
    """Halve a sentence that is too long, at a space if possible, until every piece fits."""
    if len(sentence) < 2 or fits(sentence):
        return [sentence]
    middle = len(sentence) // 2
    space = sentence.rfind(" ", 1, middle + 1)
    cut = space if space > 0 else middle
    return _halve(sentence[:cut].strip(), fits) + _halve(sentence[cut:].strip(), fits)
