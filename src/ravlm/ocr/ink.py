"""Measure the print on the crop of a line: where it stands, and how thick its strokes are.

Boxes of detectors are padded, and their heights differ by a third for lines of one size. From the
print and its letters follow the size of the font and the base line.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

import numpy as np

from ravlm.data.line_joins import CJK

_VERTICAL_RATIO = 1.5
"""Height of a box in its width from which its text is turned by 90 degrees."""
_ASCENT, _DESCENT = 0.93, 0.23
"""Height of a line of text above and below its base line, in the size of the font."""
_CAPITAL, _SMALL, _FULL_WIDTH = 0.73, 0.53, 0.84
"""Height of capitals and ascenders, of small letters without them, and of Chinese characters."""
_RISES = {"t": 0.65, **dict.fromkeys("bdfhijkl", _CAPITAL)}
_BLUR = 1.5
"""Pixels by which blurred print is higher, above and below together."""
_MARK = 0.2
"""Height of an accent."""
_DROPS = {**dict.fromkeys("gjpqy()[]{}|", 0.21), **dict.fromkeys(",;Q$/@_", 0.13)}
"""Depth below the base line."""
_FULL_WIDTH_DROP = 0.07
_LETTER = re.compile(r"[^\W_]")
_NOISE = 0.005
"""Ink of a row or column of pixels that is noise, in that of the fullest one; one pixel always."""


class Ink(NamedTuple):
    """Edges of the print, in shares of the crop, and the mean width of its strokes in pixels."""

    left: float
    top: float
    right: float
    bottom: float
    stroke_width: float


def measure_ink(crop: np.ndarray) -> Ink | None:
    """Return the ink on the crop of a line (h, w, 3), dark on light or light on dark; None if it
    has none.

    A stroke has two edges: its width is twice the ink divided by the length of its edges.
    """
    ink = _ink_mask(crop)
    if not ink.any():
        return None
    left, right = _extent(ink.sum(axis=0, dtype=int))
    top, bottom = _extent(ink.sum(axis=1, dtype=int))
    edges = ink[1:] != ink[:-1], ink[:, 1:] != ink[:, :-1]
    num_edges = sum(int(np.count_nonzero(array)) for array in edges)
    return Ink(left, top, right, bottom, 2 * float(ink.sum()) / max(num_edges, 1))


def is_vertical(corners: np.ndarray) -> bool:
    """Return whether the text in a box (4, 2), clockwise from the top left, is turned by 90
    degrees."""
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    return bool(np.linalg.norm(down) >= _VERTICAL_RATIO * np.linalg.norm(across))


def ink_runs(crop: np.ndarray) -> np.ndarray:
    """Return first column and end (m, 2), in pixels, of each piece of print on the crop of a line
    (h, w, 3), from left to right."""
    return _runs(_ink_mask(crop).sum(axis=0, dtype=int))


def _ink_mask(crop: np.ndarray) -> np.ndarray:
    """Return 1 where the crop of a line (h, w, 3) has ink, and 0 elsewhere (h, w)."""
    import cv2

    gray = cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY)
    _, ink = cv2.threshold(gray, 0, 1, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    return 1 - ink if 2 * int(ink.sum()) > ink.size else ink


def _runs(profile: np.ndarray) -> np.ndarray:
    """Return first place and end (m, 2) of each run of a profile (n,) that has ink."""
    highest = int(profile.max())
    is_ink = profile > min(max(_NOISE * highest, 1), highest - 1)
    borders = np.flatnonzero(np.diff(np.concatenate([[False], is_ink, [False]]).astype(int)))
    return borders.reshape(-1, 2)


def _extent(profile: np.ndarray) -> tuple[float, float]:
    """Return the first and the last place with ink of a profile (n,), as shares of its length.

    What stands at an edge, apart from most of the ink, belongs to a neighboring line.
    """
    runs = _runs(profile)
    amounts = [int(profile[first:end].sum()) for first, end in runs]
    main = int(np.argmax(amounts))
    first, last = 0, len(runs) - 1
    if runs[0, 0] == 0 and main > 0:
        first = 1
    if runs[-1, 1] == len(profile) and main < last:
        last -= 1
    return float(runs[first, 0]) / len(profile), float(runs[last, 1]) / len(profile)


def text_corners(corners: np.ndarray, ink: Ink, text: str, is_turned: bool) -> np.ndarray | None:
    """Return the corners (4, 2) of the line of text in a padded box: as high as its font makes it.

    `corners` are clockwise from the top left of the crop; `is_turned` says that it is upside down.
    None if the text has no letters or digits.
    """
    letters = [character for character in text if _LETTER.match(character)]
    if not letters:
        return None
    rise = max(map(_rise, letters))
    drop = max(_drop(character) for character in text)
    top_left, top_right, bottom_right, bottom_left = corners
    blur = _BLUR / float(np.linalg.norm(bottom_left - top_left))
    blur = min(blur, (ink.bottom - ink.top) / 2)
    size = (ink.bottom - ink.top - blur) / (rise + drop)  # of the font, in heights of the crop
    above, below = (_ASCENT - rise) * size, (_DESCENT - drop) * size
    if is_turned:
        above, below = below, above
    top, bottom = ink.top + blur / 2 - above, ink.bottom - blur / 2 + below
    return np.stack(
        [
            (1 - y) * ((1 - x) * top_left + x * top_right)
            + y * ((1 - x) * bottom_left + x * bottom_right)
            for x, y in (
                (ink.left, top),
                (ink.right, top),
                (ink.right, bottom),
                (ink.left, bottom),
            )
        ]
    )


def _rise(character: str) -> float:
    """Return the height of a letter or digit above the base line, in the size of the font."""
    if CJK.match(character):
        return _FULL_WIDTH
    parts = unicodedata.normalize("NFD", character)
    base = parts[0]
    is_tall = base.isupper() or not base.isalpha()
    rise = _CAPITAL if is_tall else _RISES.get(base, _SMALL)
    return rise + (_MARK if len(parts) > 1 else 0.0)


def _drop(character: str) -> float:
    """Return the depth of a character below the base line, in the size of the font."""
    if CJK.match(character):
        return _FULL_WIDTH_DROP
    return _DROPS.get(character, 0.0)
