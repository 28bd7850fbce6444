"""Lines that a detector read across the cells of a table are cut."""

from __future__ import annotations

import numpy as np

from ravlm.ocr.cell_gaps import split_cells

SIZE = (600, 400)
LETTER = 8  # width in pixels, with a space of 2 to the next one


def line(words: list[tuple[int, int]], top: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the crop and the corners of a line of words, given by place and number of letters."""
    left, right = words[0][0] - 4, words[-1][0] + 10 * words[-1][1] + 4
    crop = np.full((30, right - left, 3), 255, np.uint8)
    for start, num_letters in words:
        for number in range(num_letters):
            x = start - left + 10 * number
            crop[5:25, x : x + LETTER] = 0
    return crop, np.array([(left, top), (right, top), (right, top + 30), (left, top + 30)], float)


def split(lines: list[tuple[np.ndarray, np.ndarray]]) -> list[list[float]]:
    """Return left and right edge of each piece."""
    crops, corners = split_cells(
        [crop for crop, _ in lines], np.stack([quad for _, quad in lines]), *SIZE
    )
    assert [crop.shape[1] for crop in crops] == [round(c[1, 0] - c[0, 0]) for c in corners]
    return [[float(quad[0, 0]), float(quad[1, 0])] for quad in corners]


def test_a_line_across_two_columns_is_cut() -> None:
    """ "object keys" was the head of a table of two columns, and a row had its cells in one."""
    joined = line([(20, 5), (100, 3), (140, 4)], 50)
    others = [line([(100, 6)], 100), line([(101, 4)], 150), line([(20, 4)], 200)]
    pieces = split([joined, *others])
    assert pieces[:2] == [[16, 84], [84, 184]]  # in the middle of the gap from 68 to 100
    assert len(pieces) == 5


def test_wide_gaps_in_prose_stay() -> None:
    prose = line([(20, 5), (100, 3), (140, 4)], 50)
    assert len(split([prose, line([(20, 6)], 100), line([(20, 4)], 150)])) == 3
    narrow = line([(20, 5), (78, 3)], 50)  # as wide as between words
    assert len(split([narrow, line([(78, 6)], 100), line([(78, 4)], 150)])) == 3


def test_turned_and_blank_lines_stay() -> None:
    crop, corners = line([(20, 5), (100, 3), (140, 4)], 50)
    upwards = crop, corners[:, ::-1].copy()
    blank = np.full((30, 100, 3), 255, np.uint8), corners
    others = [line([(100, 6)], 100), line([(100, 4)], 150)]
    crops, _ = split_cells(
        [crop for crop, _ in [upwards, blank, *others]],
        np.stack([quad for _, quad in [upwards, blank, *others]]),
        *SIZE,
    )
    assert len(crops) == 4
