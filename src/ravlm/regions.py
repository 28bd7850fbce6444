"""Regions: what is written on an image or a page, and where. Boxes are shares of the image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from ravlm.errors import InvalidInput, did_you_mean

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the width and height of an image, 0 to 1."""
RegionKind: TypeAlias = Literal[
    "title", "paragraph", "list", "table", "figure", "caption", "formula", "header", "footer",
    "line", "word", "tile", "object",
]  # fmt: skip
IMAGE_KINDS: tuple[RegionKind, ...] = ("tile", "object")
"""Regions that are parts of an image with a vector of their own, not what is written on it."""
REGION_KINDS: tuple[RegionKind, ...] = get_args(RegionKind)
_KEYS = ("text", "box", "page", "kind", "confidence")
_DIGITS = 6
"""Decimal places of confidences and coordinates in JSON."""


@dataclass(frozen=True)
class Region:
    """A piece of an entry's image or of a page of its document: what is written there, and where.

    The regions of an entry are in reading order. Each word is in one region: a block (paragraph,
    table, figure ...) has its own text, or it has none and the lines that follow inside its box
    are its text; so do lines and their words.

    >>> Region("Total: 12.50", (0.1, 0.8, 0.4, 0.82), page=1).to_dict()
    {'text': 'Total: 12.50', 'box': [0.1, 0.8, 0.4, 0.82], 'page': 1, 'kind': 'line'}

    Raises InvalidInput for a box outside the image, a page below 1, an unknown kind, or a
    confidence outside 0 to 1.
    """

    text: str = ""
    box: Box | None = None
    """None if it is not known where the text stands."""
    page: int | None = None
    """Page of the document, from 1; None for a photo."""
    kind: RegionKind = "line"
    confidence: float = 1.0
    """Probability that the text was read right; 1 for text that a file contains as characters."""

    def __post_init__(self) -> None:
        if self.box is not None:
            object.__setattr__(self, "box", _checked_box(self.box))
        if self.page is not None and (type(self.page) is not int or self.page < 1):
            raise InvalidInput(f"The page of a region is {self.page!r}; pages count from 1.")
        if self.kind not in REGION_KINDS:
            raise InvalidInput(
                f'The kind of a region is "{self.kind}"; allowed: {", ".join(REGION_KINDS)}.'
                f"{did_you_mean(str(self.kind), REGION_KINDS)}"
            )
        if not 0 <= self.confidence <= 1:
            raise InvalidInput(f"The confidence of a region is {self.confidence}; give 0 to 1.")

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, without what is not known and without a confidence of 1."""
        values: dict[str, Any] = {"text": self.text, **location_to_dict(self.box, self.page)}
        values["kind"] = self.kind
        if self.confidence < 1:
            values["confidence"] = round(float(self.confidence), _DIGITS)
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Region:
        """Return the region of a JSON form. Raises InvalidInput if it is not one."""
        if not isinstance(values, Mapping) or values.keys() - set(_KEYS):
            raise InvalidInput(
                f"A region is {repr(values)[:100]}; give an object with {', '.join(_KEYS)}."
            )
        text = values.get("text", "")
        confidence = values.get("confidence", 1.0)
        if not isinstance(text, str) or not isinstance(confidence, int | float):
            raise InvalidInput(
                f"A region is {repr(values)[:100]}; its text is a string and its confidence a "
                "number."
            )
        box, page = values.get("box"), values.get("page")
        return Region(text, box, page, values.get("kind", "line"), confidence)


def relative_box(box: Iterable[float], width: float, height: float) -> Box:
    """Return a box in pixels or points as shares of the image; what is outside is cut off.

    >>> relative_box((50, 20, 110, 40), width=100, height=200)
    (0.5, 0.1, 1.0, 0.2)
    """
    left, top, right, bottom = box
    x0, x1 = (min(max(x / width, 0.0), 1.0) for x in sorted((left, right)))
    y0, y1 = (min(max(y / height, 0.0), 1.0) for y in sorted((top, bottom)))
    return x0, y0, x1, y1


def enclosing_box(boxes: Iterable[Box | None]) -> Box | None:
    """Return the smallest box around all `boxes` that are known; None if none is.

    >>> enclosing_box([(0.1, 0.5, 0.4, 0.6), None, (0.2, 0.6, 0.5, 0.7)])
    (0.1, 0.5, 0.5, 0.7)
    """
    known = [box for box in boxes if box is not None]
    if not known:
        return None
    left, top, right, bottom = zip(*known, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _checked_box(box: Iterable[float]) -> Box:
    try:
        left, top, right, bottom = (float(value) for value in box)
    except (TypeError, ValueError):
        raise InvalidInput(f"A box is {box!r}; give left, top, right, bottom.") from None
    if not (0 <= left <= right <= 1 and 0 <= top <= bottom <= 1):
        raise InvalidInput(
            f"A box is {(left, top, right, bottom)}; give left, top, right, bottom as shares of "
            "the image, 0 to 1 (`relative_box` converts pixels)."
        )
    return left, top, right, bottom


def location_to_dict(box: Box | None, page: int | None) -> dict[str, Any]:
    """Return the JSON form of a box and a page, without those that are None."""
    values: dict[str, Any] = {}
    if box is not None:
        values["box"] = [round(value, _DIGITS) for value in box]
    if page is not None:
        values["page"] = page
    return values
