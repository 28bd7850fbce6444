"""Cut lines that a detector read across neighboring cells of a table.

A line is cut at a wide gap behind which other lines of the page begin: a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ravlm.ocr.ink import ink_runs, is_vertical
from ravlm.ocr.lines import deskew

_MIN_GAP = 0.5
"""Gap that may be one between cells, in the height of the padded box of the line."""
_ALIGNMENT = 0.4
"""Largest distance of the edges of a column, in the same."""
_MIN_LINES = 2
"""Other lines that begin at a column."""


def split_cells(
    crops: Sequence[np.ndarray], corners: np.ndarray, width: int, height: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the crops of the lines of an image of `width` x `height` pixels, and their corners
    (n, 4, 2), where lines that stand in several columns are in pieces."""
    runs = [
        np.zeros((0, 2), int) if is_vertical(quad) else ink_runs(crop)
        for crop, quad in zip(crops, corners, strict=True)
    ]
    upright = deskew(corners, 0, width, height)
    starts = np.array(
        [
            _at(quad, of_line[0, 0] / crop.shape[1]) if len(of_line) else np.nan
            for crop, quad, of_line in zip(crops, upright, runs, strict=True)
        ]
    )
    pieces: list[tuple[np.ndarray, np.ndarray]] = []
    for number, (crop, quad, of_line) in enumerate(zip(crops, corners, runs, strict=True)):
        cuts = []
        for (_, end), (first, _) in pairwise(of_line):
            if first - end <= _MIN_GAP * len(crop):
                continue
            distances = np.abs(starts - _at(upright[number], first / crop.shape[1]))
            if np.sum(distances <= _ALIGNMENT * len(crop)) >= _MIN_LINES:
                cuts.append(int(end + first) // 2)
        pieces += _pieces(crop, quad, cuts)
    return [crop for crop, _ in pieces], np.stack([quad for _, quad in pieces])


def _at(corners: np.ndarray, share: float) -> float:
    """Return the x of the place at a share of the length of an upright line."""
    left, right = corners[[0, 3], 0].mean(), corners[[1, 2], 0].mean()
    return float(left + share * (right - left))


def _pieces(
    crop: np.ndarray, corners: np.ndarray, cuts: Sequence[int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut a crop and its corners (4, 2) at columns of pixels."""
    top_left, top_right, bottom_right, bottom_left = corners
    pieces = []
    for left, right in pairwise([0, *cuts, crop.shape[1]]):
        start, end = left / crop.shape[1], right / crop.shape[1]
        top, bottom = top_right - top_left, bottom_right - bottom_left
        upper = (top_left + start * top, top_left + end * top)
        lower = (bottom_left + end * bottom, bottom_left + start * bottom)
        pieces.append((np.ascontiguousarray(crop[:, left:right]), np.stack([*upper, *lower])))
    return pieces
