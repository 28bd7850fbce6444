"""Recognize images that are scanned pages by what scanners write into their header."""

from __future__ import annotations

from ravlm.data.images import open_image
from ravlm.errors import RavlmError

_PAPER = ((210.0, 297.0), (148.0, 210.0), (297.0, 420.0), (215.9, 279.4), (215.9, 355.6))
"""Sides of A4, A5, A3, Letter and Legal in millimeters."""
_TOLERANCE = 0.03
_DPI = (100.0, 1300.0)
"""Resolutions of scanners; cameras and editors write 72 and 96."""
_MIN_SIDE = 500
_MILLIMETERS_PER_INCH = 25.4


def is_scanned_page(data: bytes) -> bool:
    """Return whether an encoded image has the size of a sheet of paper at its resolution, or is
    black and white. The pixels are not decoded.
    """
    try:
        with open_image(data) as image:
            size, mode, dpi = image.size, image.mode, image.info.get("dpi")
    except RavlmError:
        return False
    if min(size) < _MIN_SIDE:
        return False
    if mode == "1":
        return True
    try:
        horizontal, vertical = (float(value) for value in dpi or ())
    except (TypeError, ValueError, ArithmeticError):  # damaged, or none
        return False
    if not (_DPI[0] <= horizontal <= _DPI[1] and _DPI[0] <= vertical <= _DPI[1]):
        return False
    inches = sorted((size[0] / horizontal, size[1] / vertical))
    sides = [inch * _MILLIMETERS_PER_INCH for inch in inches]
    return any(
        all(abs(side / edge - 1) <= _TOLERANCE for side, edge in zip(sides, paper, strict=True))
        for paper in _PAPER
    )
