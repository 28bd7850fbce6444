"""Pixel operations on a region, in OKLab: shading and texture stay, and nothing outside changes.

An operation takes colors (n, 3) and the relative height of each in its region (n,), 0 at the top to
1 at the bottom, and returns colors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageFilter

from ravlm.editing.rule_based.mask_refinement import box_filter
from ravlm.editing.rule_based.oklab import from_oklab, to_oklab

Operation: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
PALETTE_LEVELS = 6
"""Heights at which a palette is measured."""
_TABLE_SIDE = 52
"""Colors per side of the lookup table of an operation: steps of 5."""
_MIN_CHROMA = 0.03
"""Chroma below which a color counts as gray."""
_PHOTO_CHROMA = {"": 0.8, "deep": 0.72, "light": 0.55}
"""Chroma of a thing in a photo, relative to that of the color that names it, by shade."""


@dataclass(frozen=True)
class Palette:
    """The colors of a region by height."""

    mean: np.ndarray
    """(levels, 3): mean color at `PALETTE_LEVELS` heights from top to bottom."""
    std: np.ndarray
    """(3,): standard deviation about the mean at each height."""


def measure_palette(lab: np.ndarray, mask: np.ndarray) -> Palette:
    """Return the palette of the region `mask` (h, w), not empty, of an OKLab image (h, w, 3)."""
    height = relative_heights(mask)  # (n,)
    levels = np.linspace(0, 1, PALETTE_LEVELS)
    distance = np.abs(height[:, None] - levels)  # (n, levels)
    weights = np.maximum(0, 1 - distance * (PALETTE_LEVELS - 1)) + 1e-6
    colors = lab[mask]  # (n, 3)
    mean = weights.T @ colors / weights.sum(axis=0)[:, None]
    return Palette(mean, (colors - _interpolate(mean, height)).std(axis=0))


def relative_heights(mask: np.ndarray) -> np.ndarray:
    """Return the height of each pixel of `mask`, 0 at the top to 1 at the bottom: (n,)."""
    rows = np.nonzero(mask)[0]
    return (rows - rows.min()) / max(1, rows.max() - rows.min())


def _interpolate(levels: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return the colors (n, 3) at some heights (n,), between those of `levels` (levels, 3)."""
    positions = np.linspace(0, 1, len(levels))
    return np.stack([np.interp(height, positions, levels[:, c]) for c in range(3)], axis=-1)


def recolor(rgb: tuple[int, int, int], shade: str, median: np.ndarray) -> Operation:
    """Return an operation that gives a region a color.

    `median`: median lightness and chroma of the region, (2,). `shade`: "deep", "light" or "".
    """
    color = to_oklab(np.array(rgb, np.uint8))
    lightness = float(color[0])
    color_chroma = float(np.hypot(color[1], color[2]))
    if shade:
        lightness = lightness * 0.62 if shade == "deep" else 1 - (1 - lightness) * 0.45
    direction = color[1:] / max(color_chroma, 1e-6)
    chroma = color_chroma * _PHOTO_CHROMA[shade]
    share = 0.5 if chroma > _MIN_CHROMA and not shade else 0.85
    target_lightness = median[0] + share * (lightness - median[0])

    def operation(lab: np.ndarray, height: np.ndarray) -> np.ndarray:
        if chroma > _MIN_CHROMA:
            pixel_chroma = np.hypot(lab[:, 1], lab[:, 2])
            relative = np.clip((pixel_chroma + 0.04) / (median[1] + 0.04), 0.4, 1.5)
            ab = direction * (chroma * relative)[:, None]
        else:
            ab = lab[:, 1:] * 0.12
        moved = _shift_lightness(lab[:, :1], median[0], target_lightness)
        return np.concatenate([moved, ab], axis=1)

    return operation


def _shift_lightness(lightness: np.ndarray, median: float, target: float) -> np.ndarray:
    """Shift lightness so that `median` becomes `target`; black and white stay where they are."""
    if target > median:
        return 1 - (1 - lightness) * (1 - target) / max(1 - median, 1e-3)
    return lightness * target / max(median, 1e-3)


def lighten(amount: float) -> Operation:
    """Return an operation that makes colors brighter, or darker if `amount` is negative."""

    def operation(lab: np.ndarray, height: np.ndarray) -> np.ndarray:
        return _join(np.clip(lab[:, :1], 0, 1) ** (1.4**-amount), lab[:, 1:])

    return operation


def warm(amount: float) -> Operation:
    """Return an operation that makes colors warmer, or colder if `amount` is negative.

    Dark colors change less.
    """
    shift = np.array([0.012, 0.04], np.float32) * amount

    def operation(lab: np.ndarray, height: np.ndarray) -> np.ndarray:
        return _join(lab[:, :1], lab[:, 1:] + shift * np.clip(lab[:, :1] / 0.4, 0, 1))

    return operation


def saturate(factor: float) -> Operation:
    """Return an operation that multiplies all chroma by `factor`; 0 is black and white."""
    return lambda lab, height: _join(lab[:, :1], lab[:, 1:] * factor)


def match_palette(region: Palette, example: Palette) -> Operation:
    """Return an operation that transfers the palette of an example, height by height.

    Each pixel keeps its difference from its surroundings.
    """
    contrast = np.clip(example.std / np.maximum(region.std, 1e-3), 0.6, 1.5)

    def operation(lab: np.ndarray, height: np.ndarray) -> np.ndarray:
        detail = (lab - _interpolate(region.mean, height)) * contrast
        return np.asarray(_interpolate(example.mean, height) + detail, np.float32)

    return operation


def _join(lightness: np.ndarray, ab: np.ndarray) -> np.ndarray:
    return np.concatenate([lightness, ab], axis=1).astype(np.float32)


def apply_operation(
    image: Image.Image, mask: np.ndarray, operation: Operation, levels: int = 1
) -> Image.Image:
    """Return `image` with `operation` applied to the degree of `mask`, uint8 (h, w).

    Results are looked up in a table that is computed once, or once for each of `levels` heights if
    the operation depends on the height. Pixels where the mask is 0 stay exactly as they are.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return image
    top = int(rows[0])
    bottom = int(rows[-1])
    result = image.copy()
    bounds = np.linspace(top, bottom + 1, max(2, levels)).round().astype(int)
    tables = [_lookup_table(operation, level / max(1, levels - 1)) for level in range(levels)]
    for level, (start, end) in enumerate(pairwise(bounds)):
        band = image.crop((0, start, image.width, end))
        edited = band.filter(tables[level])
        if levels > 1:  # fade from the upper table to the lower one
            fade = np.linspace(0, 255, end - start).round().astype(np.uint8)
            fade_mask = Image.fromarray(np.repeat(fade[:, None], image.width, axis=1))
            edited = Image.composite(band.filter(tables[level + 1]), edited, fade_mask)
        result.paste(edited, (0, start), Image.fromarray(mask[start:end]))
    return result


def _lookup_table(operation: Operation, height: float) -> ImageFilter.Color3DLUT:
    """Return a table of `_TABLE_SIDE`^3 colors at a height; colors in between are interpolated."""
    steps = np.arange(_TABLE_SIDE) * (255 // (_TABLE_SIDE - 1))
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    colors = np.stack([red, green, blue], axis=-1).reshape(-1, 3).astype(np.uint8)
    edited = from_oklab(operation(to_oklab(colors), np.full(len(colors), height)))
    return ImageFilter.Color3DLUT(_TABLE_SIDE, edited.astype(np.float32).ravel() / 255)


def blur(image: Image.Image, mask: np.ndarray, strength: float) -> Image.Image:
    """Return `image` blurred where `mask`, uint8 (h, w), is not 0.

    Only pixels inside the mask are averaged, so nothing bleeds in.
    """
    radius = max(image.size) / 60 * strength
    factor = max(1, int(radius // 4))  # a blurred image loses nothing at a fraction of its size
    size = (max(1, image.width // factor), max(1, image.height // factor))
    small = np.asarray(image.resize(size, reducing_gap=2.0), np.float32)
    degree = np.asarray(Image.fromarray(mask).resize(size), np.float32)[..., None] / 255
    planes = np.concatenate([small * degree, degree], axis=-1)  # (h, w, 4)
    for _ in range(3):  # three box filters approximate a Gaussian
        planes = box_filter(planes, max(1, round(radius / factor)))
    mean = np.rint(planes[..., :3] / np.maximum(planes[..., 3:], 1e-3))
    blurred = Image.fromarray(np.clip(mean, 0, 255).astype(np.uint8))
    blurred = blurred.resize(image.size, Image.Resampling.BICUBIC)
    return Image.composite(blurred, image, Image.fromarray(mask))


def sharpen(image: Image.Image, mask: np.ndarray, strength: float) -> Image.Image:
    """Return `image` sharpened where `mask`, uint8 (h, w), is not 0."""
    radius = max(1.0, max(image.size) / 800)
    sharp = image.filter(ImageFilter.UnsharpMask(radius, round(120 * strength), 2))
    return Image.composite(sharp, image, Image.fromarray(mask))
