"""What is done to the pixels of a region, in OKLab: shading and texture stay, and what lies outside
is not touched.

An operation takes colours (n, 3) and the height of each in its region (n,), 0 at its top to 1 at
its bottom, and gives colours. Knows no words and does not find regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageFilter

from ravlm.editing.rule_based.mask_refinement import box
from ravlm.editing.rule_based.oklab import from_oklab, to_oklab

Operation: TypeAlias = Callable[[np.ndarray, np.ndarray], np.ndarray]
_SIDE = 52
"""Colours a side of the table that an operation is looked up in: steps of 5."""
_GREY = 0.03
"""Chroma below which a colour is none."""
_VIVID = {"": 0.8, "deep": 0.72, "light": 0.55}
"""Chroma of a thing in a photo against that of the colour that names it, by shade."""
LEVELS = 6
"""Heights at which a palette is taken."""


@dataclass(frozen=True)
class Palette:
    """The colours of a region by height: mean and spread at `LEVELS` heights from its top to its
    bottom."""

    mean: np.ndarray
    """(levels, 3)"""
    spread: np.ndarray
    """(3,): standard deviation about the mean at each height."""


def palette(lab: np.ndarray, mask: np.ndarray) -> Palette:
    """The palette of the region `mask` (h, w), boolean and not empty, of a picture (h, w, 3) in
    OKLab."""
    height = heights(mask)
    edges = np.linspace(0, 1, LEVELS)
    near = np.maximum(0, 1 - np.abs(height[:, None] - edges) * (LEVELS - 1)) + 1e-6
    colours = lab[mask]
    mean = near.T @ colours / near.sum(axis=0)[:, None]
    return Palette(mean, (colours - _at(mean, height)).std(axis=0))


def heights(mask: np.ndarray) -> np.ndarray:
    """Each pixel's height in the region `mask`, from 0 at its top to 1 at its bottom: (n,)."""
    rows = np.nonzero(mask)[0]
    return (rows - rows.min()) / max(1, rows.max() - rows.min())


def _at(levels: np.ndarray, height: np.ndarray) -> np.ndarray:
    places = np.linspace(0, 1, len(levels))
    return np.stack([np.interp(height, places, levels[:, c]) for c in range(3)], axis=-1)


def recolour(rgb: tuple[int, int, int], shade: str, median: np.ndarray) -> Operation:
    """Give the region a colour. `median`: lightness and chroma of the region, (2,); `shade`:
    "deep", "light" or ""."""
    target = to_oklab(np.array(rgb, np.uint8))
    lightness, own_chroma = float(target[0]), float(np.hypot(target[1], target[2]))
    if shade:
        lightness = lightness * 0.62 if shade == "deep" else 1 - (1 - lightness) * 0.45
    direction, chroma = target[1:] / max(own_chroma, 1e-6), own_chroma * _VIVID[shade]
    share = 0.5 if chroma > _GREY and not shade else 0.85
    wanted = median[0] + share * (lightness - median[0])

    def operation(lab: np.ndarray, height: np.ndarray) -> np.ndarray:
        own = np.hypot(lab[:, 1], lab[:, 2])
        if chroma > _GREY:
            coloured = (
                direction * (chroma * np.clip((own + 0.04) / (median[1] + 0.04), 0.4, 1.5))[:, None]
            )
        else:
            coloured = lab[:, 1:] * 0.12
        return np.concatenate([_lit(lab[:, :1], median[0], wanted), coloured], axis=1)

    return operation


def _lit(lightness: np.ndarray, median: float, wanted: float) -> np.ndarray:
    """Lightness moved so that `median` becomes `wanted`, black and white staying where they are."""
    if wanted > median:
        return 1 - (1 - lightness) * (1 - wanted) / max(1 - median, 1e-3)
    return lightness * wanted / max(median, 1e-3)


def lighten(amount: float) -> Operation:
    """Brighter for an amount above 0, darker below."""
    return lambda lab, height: _with(lab, np.clip(lab[:, :1], 0, 1) ** (1.4**-amount), lab[:, 1:])


def warm(amount: float) -> Operation:
    """Warmer for an amount above 0, colder below; dark places less."""
    shift = np.array([0.012, 0.04], np.float32) * amount
    return lambda lab, height: _with(
        lab, lab[:, :1], lab[:, 1:] + shift * np.clip(lab[:, :1] / 0.4, 0, 1)
    )


def saturate(factor: float) -> Operation:
    """All chroma times `factor`; 0 is black and white."""
    return lambda lab, height: _with(lab, lab[:, :1], lab[:, 1:] * factor)


def like(own: Palette, other: Palette) -> Operation:
    """The palette of another region, height by height; each pixel keeps how it differs from its
    neighbours."""
    stretch = np.clip(other.spread / np.maximum(own.spread, 1e-3), 0.6, 1.5)

    def operation(lab: np.ndarray, height: np.ndarray) -> np.ndarray:
        return np.asarray(
            _at(other.mean, height) + (lab - _at(own.mean, height)) * stretch, np.float32
        )

    return operation


def _with(lab: np.ndarray, lightness: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    return np.concatenate([lightness, chroma], axis=1).astype(np.float32)


def changed(
    image: Image.Image, mask: np.ndarray, operation: Operation, levels: int = 1
) -> Image.Image:
    """`image` with `operation` carried out where `mask`, uint8 (h, w), is not 0, and to that
    degree.

    What becomes of a colour is looked up in a table that is computed once, or, where an operation
    differs with the height, once for each of `levels` heights. Pixels where the mask is 0 stay
    exactly as they are."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return image
    top, bottom = int(rows[0]), int(rows[-1])
    result = image.copy()
    cuts = np.linspace(top, bottom + 1, max(2, levels)).round().astype(int)
    tables = [_table(operation, level / max(1, levels - 1)) for level in range(levels)]
    for level, (start, end) in enumerate(pairwise(cuts)):
        band = image.crop((0, start, image.width, end))
        after = band.filter(tables[level])
        if levels > 1:
            below = band.filter(tables[level + 1])
            share = np.linspace(0, 255, end - start).round().astype(np.uint8)
            after = Image.composite(
                below, after, Image.fromarray(np.repeat(share[:, None], image.width, axis=1))
            )
        result.paste(after, (0, start), Image.fromarray(mask[start:end]))
    return result


def _table(operation: Operation, height: float) -> ImageFilter.Color3DLUT:
    """What becomes of `_SIDE` x `_SIDE` x `_SIDE` colours at a height; those between them are
    interpolated."""
    steps = np.arange(_SIDE) * (255 // (_SIDE - 1))
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    colours = np.stack([red, green, blue], axis=-1).reshape(-1, 3).astype(np.uint8)
    after = from_oklab(operation(to_oklab(colours), np.full(len(colours), height)))
    return ImageFilter.Color3DLUT(_SIDE, after.astype(np.float32).ravel() / 255)


def blurred(image: Image.Image, mask: np.ndarray, strength: float) -> Image.Image:
    """`image` blurred where `mask`, uint8 (h, w), is not 0, by what lies inside it: nothing bleeds
    in."""
    radius = max(image.size) / 60 * strength
    factor = max(1, int(radius // 4))  # a blurred picture is as good at a part of its size
    size = (max(1, image.width // factor), max(1, image.height // factor))
    small = np.asarray(image.resize(size, reducing_gap=2.0), np.float32)
    degree = np.asarray(Image.fromarray(mask).resize(size), np.float32)[..., None] / 255
    planes = np.concatenate([small * degree, degree], axis=-1)
    for _ in range(3):  # three boxes are a Gaussian, nearly
        planes = box(planes, max(1, round(radius / factor)))
    soft = np.clip(np.rint(planes[..., :3] / np.maximum(planes[..., 3:], 1e-3)), 0, 255).astype(
        np.uint8
    )
    full = Image.fromarray(soft).resize(image.size, Image.Resampling.BICUBIC)
    return Image.composite(full, image, Image.fromarray(mask))


def sharpened(image: Image.Image, mask: np.ndarray, strength: float) -> Image.Image:
    """`image` sharpened where `mask`, uint8 (h, w), is not 0."""
    radius = max(1.0, max(image.size) / 800)
    sharp = image.filter(ImageFilter.UnsharpMask(radius, round(120 * strength), 2))
    return Image.composite(sharp, image, Image.fromarray(mask))
