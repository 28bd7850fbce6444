"""Which regions stand in one line, and which lines belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from ravlm.regions import IMAGE_KINDS, Box, Region, RegionKind, enclosing_box

_MIN_OVERLAP = 0.5
"""Share of the lower line's height that two lines of one row have in common."""
_MAX_WORD_GAP = 2.5
"""Gap between words of a line, in characters; cells of a table are further apart."""
_MAX_LINE_GAP = 0.9
"""Gap between lines of a block, in lines."""
_MAX_HEIGHT_RATIO = 1.35
"""Ratio of the heights of lines of one block, and of a title to the median line."""
_MAX_TITLE_LINES = 2


class Line(NamedTuple):
    """Regions that stand next to each other in one line: one line region, or words."""

    regions: tuple[Region, ...]
    text: str
    box: Box | None

    @classmethod
    def of(cls, *regions: Region) -> Line:
        """Return the line of these regions, in order."""
        if len(regions) == 1:
            return cls(regions, regions[0].text.strip(), regions[0].box)
        text = " ".join(region.text.strip() for region in regions)
        return cls(regions, text, enclosing_box(region.box for region in regions))


@dataclass
class LineGroup:
    """The lines of one block; `kind` is "line" if no layout block holds them."""

    kind: RegionKind
    lines: list[Line]


def line_groups(regions: Sequence[Region]) -> list[LineGroup]:
    """Return the blocks, and loose lines that stand close together, in reading order."""
    groups = [group for group in _groups(regions) if group.lines]
    _find_titles(groups)
    return groups


def same_row(first: Box, second: Box) -> bool:
    """Return whether two boxes stand next to each other."""
    shared = min(first[3], second[3]) - max(first[1], second[1])
    lower = min(first[3] - first[1], second[3] - second[1])
    return are_apart(first, second) and shared > _MIN_OVERLAP * lower


def are_apart(first: Box, second: Box) -> bool:
    """Return whether one box ends, from left to right, before the other one begins."""
    return second[0] >= first[2] or first[0] >= second[2]


def _groups(regions: Sequence[Region]) -> Iterator[LineGroup]:
    container: Region | None = None
    group = LineGroup("line", [])
    for region in regions:
        is_block = region.kind not in ("line", "word")
        if region.kind in IMAGE_KINDS or not (is_block or region.text.strip()):
            continue
        if is_block:
            yield group
            container = None if region.text.strip() else region
            group = LineGroup(region.kind, [] if container else [Line.of(region)])
            continue
        if container is not None and not _is_inside(region, container):
            container = None
            yield group
            group = LineGroup("line", [])
        if container is None and not _continues(group, region):
            yield group
            group = LineGroup("line", [])
        _append(group, region)
    yield group


def _append(group: LineGroup, region: Region) -> None:
    """Add a region to the last line of a group if both are words of it, else as a new line."""
    last = group.lines[-1].regions[-1] if group.lines else None
    if last is not None and last.kind == region.kind == "word" and _is_next_word(last, region):
        group.lines[-1] = Line.of(*group.lines[-1].regions, region)
    else:
        group.lines.append(Line.of(region))


def _is_next_word(word: Region, following: Region) -> bool:
    """Return whether a word stands behind another one in the same line and cell."""
    if word.box is None or following.box is None:
        return word.box is following.box
    width = (word.box[2] - word.box[0]) / max(len(word.text), 1)
    gap = following.box[0] - word.box[2]
    return same_row(word.box, following.box) and gap < _MAX_WORD_GAP * width


def _continues(group: LineGroup, region: Region) -> bool:
    """Return whether a line belongs to the loose lines before it."""
    if group.kind != "line" or not group.lines:
        return False
    if group.lines[-1].regions[0].page != region.page:
        return False
    last, box = group.lines[-1].box, region.box
    if last is None or box is None:
        return last is box
    if same_row(last, box):
        return True
    height, next_height = last[3] - last[1], box[3] - box[1]
    ratio = max(height, next_height) / max(min(height, next_height), 1e-6)
    is_below = -0.5 * height < box[1] - last[3] < _MAX_LINE_GAP * height
    overlap = min(last[2], box[2]) - max(last[0], box[0])
    return ratio < _MAX_HEIGHT_RATIO and is_below and (overlap > 0 or _has_row(group))


def _has_row(group: LineGroup) -> bool:
    """Return whether a group has cells next to each other."""
    boxes = [line.box for line in group.lines if line.box is not None]
    return any(same_row(*pair) for pair in pairwise(boxes))


def _find_titles(groups: Sequence[LineGroup]) -> None:
    """Mark loose lines as a title that are clearly higher than the lines of the page."""
    heights = [_height(line) for group in groups for line in group.lines]
    usual = median([height for height in heights if height] or [0.0])
    for group in groups:
        is_short = group.kind == "line" and len(group.lines) <= _MAX_TITLE_LINES
        if is_short and all(_height(line) > _MAX_HEIGHT_RATIO * usual > 0 for line in group.lines):
            group.kind = "title"


def _height(line: Line) -> float:
    """Return the height of a line; 0 for a block, which may have several, and without a box."""
    is_line = line.regions[0].kind in ("line", "word")
    return line.box[3] - line.box[1] if is_line and line.box is not None else 0.0


def _is_inside(region: Region, container: Region) -> bool:
    if region.page != container.page:
        return False
    if region.box is None or container.box is None:
        return True
    x, y = (region.box[0] + region.box[2]) / 2, (region.box[1] + region.box[3]) / 2
    left, top, right, bottom = container.box
    return left <= x <= right and top <= y <= bottom
