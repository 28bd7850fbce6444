"""Split a long text, or the text of a page, into passages that fit a text tower."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ravlm.data.page_text import Block, PageText
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


def split_page(page: PageText, split: Callable[[str], list[str]], title: str = "") -> list[str]:
    """Split the text of a page along its layout into passages that `split` leaves whole.

    As many consecutive blocks of a section as fit make a passage, together with the section's title
    and `title`, that of the document. A section that fills less than half a passage is joined with
    the next one. A figure or table stays with its caption. Only a block that is too long by itself
    is split at sentences.
    """

    def text_of(blocks: Sequence[Block]) -> str:
        return page.text[blocks[0].start : blocks[-1].end]

    def fit(blocks: Sequence[Block]) -> bool:
        section = "" if blocks[0].kind == "title" else blocks[0].section
        titles = "".join(f"{above}\n" for above in (title, section) if above)
        return len(split(f"{titles}{text_of(blocks)}")) == 1

    def are_short(blocks: Sequence[Block]) -> bool:
        return len(split(f"{text_of(blocks)}\n{text_of(blocks)}")) == 1

    passages: list[str] = []
    current: list[Block] = []
    for unit in _units(page.blocks):
        starts_section = unit[0].kind == "title" and not (current and are_short(current))
        if current and not starts_section and fit([*current, *unit]):
            current += unit
            continue
        if current and [block.kind for block in current] == ["title"] and not starts_section:
            current += unit  # a title is no passage by itself
            continue
        if current:
            passages += split(text_of(current))
        current = list(unit)
    return passages + (split(text_of(current)) if current else [])


def _units(blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Yield the blocks, a figure or table with the captions next to it."""
    unit: list[Block] = []
    for block in blocks:
        kinds = {member.kind for member in unit}
        is_pair = block.kind == "caption" and kinds and kinds <= {"figure", "table", "caption"}
        is_pair = is_pair or (block.kind in ("figure", "table") and kinds == {"caption"})
        if is_pair:
            unit.append(block)
            continue
        if unit:
            yield unit
        unit = [block]
    if unit:
        yield unit
