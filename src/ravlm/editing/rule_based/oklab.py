"""OKLab (Ottosson 2020): a perceptual color space in which equal distances look equal.

L runs from 0 (black) to 1 (white); a is green to red and b blue to yellow, both from about -0.4 to
0.4.
"""

from __future__ import annotations

import numpy as np

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ],
    np.float32,
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ],
    np.float32,
)
_FROM_LAB = np.linalg.inv(_TO_LAB)
_FROM_CONES = np.linalg.inv(_TO_CONES)
_GAMMA_STEPS = 4095
"""Steps of the table from linear light to sRGB: finer than the 255 of a pixel."""
_GAMUT_TOLERANCE = 1e-3
_GAMUT_ROUNDS = 8
"""Bisection steps when chroma is reduced to fit into sRGB."""


def to_oklab(pixels: np.ndarray) -> np.ndarray:
    """Convert sRGB pixels, uint8 (..., 3), to OKLab, float32 (..., 3)."""
    levels = np.arange(256, dtype=np.float32) / 255
    dark = levels / 12.92
    bright = ((levels + 0.055) / 1.055) ** 2.4
    linear = np.where(levels <= 0.04045, dark, bright).astype(np.float32)  # (256,)
    return np.cbrt(linear[pixels] @ _TO_CONES.T) @ _TO_LAB.T


def from_oklab(lab: np.ndarray) -> np.ndarray:
    """Convert OKLab (..., 3) to sRGB pixels, uint8 (..., 3).

    A color outside sRGB loses chroma until it fits, and keeps its lightness and hue.
    """
    linear = _to_linear_rgb(lab)
    outside = np.maximum(linear - 1, -linear).max(axis=-1) > _GAMUT_TOLERANCE
    if outside.any():
        linear[outside] = _to_linear_rgb(_reduce_chroma(lab[outside]))
    levels = np.arange(_GAMMA_STEPS + 1, dtype=np.float32) / _GAMMA_STEPS
    dark = 12.92 * levels
    bright = 1.055 * levels ** (1 / 2.4) - 0.055
    table = np.rint(np.where(levels <= 0.0031308, dark, bright) * 255).astype(np.uint8)
    return table[np.rint(np.clip(linear, 0, 1) * _GAMMA_STEPS).astype(np.int32)]


def _to_linear_rgb(lab: np.ndarray) -> np.ndarray:
    cones = lab @ _FROM_LAB.T
    cubed = cones * cones * cones  # numpy's ** 3 is ten times as slow
    return np.asarray(cubed @ _FROM_CONES.T, np.float32)


def _reduce_chroma(lab: np.ndarray) -> np.ndarray:
    """Scale the chroma of colors (n, 3) down to what sRGB has at their lightness and hue."""
    low = np.zeros(len(lab), np.float32)
    high = np.ones(len(lab), np.float32)
    lightness = np.clip(lab[:, :1], 0, 1)
    for _ in range(_GAMUT_ROUNDS):
        middle = (low + high) / 2
        linear = _to_linear_rgb(np.concatenate([lightness, lab[:, 1:] * middle[:, None]], axis=1))
        fits = np.maximum(linear - 1, -linear).max(axis=-1) <= _GAMUT_TOLERANCE
        low = np.where(fits, middle, low)
        high = np.where(fits, high, middle)
    return np.concatenate([lightness, lab[:, 1:] * low[:, None]], axis=1)
