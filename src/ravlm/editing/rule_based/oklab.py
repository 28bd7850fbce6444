"""Pixels in a perceptual space and back: OKLab (Ottosson 2020), in which equal steps look equal.

L runs from 0 (black) to 1 (white); a is green to red, b blue to yellow, both about -0.4 to 0.4.
Knows no regions."""

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
_FROM_LAB, _FROM_CONES = np.linalg.inv(_TO_LAB), np.linalg.inv(_TO_CONES)
_STEPS = 4095
"""Steps of the table that takes light back to sRGB: finer than a pixel's 255."""


def to_oklab(pixels: np.ndarray) -> np.ndarray:
    """sRGB pixels, uint8 (..., 3), to OKLab, float32 (..., 3)."""
    levels = np.arange(256, dtype=np.float32) / 255
    table = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4).astype(
        np.float32
    )
    return np.cbrt(table[pixels] @ _TO_CONES.T) @ _TO_LAB.T


def from_oklab(lab: np.ndarray) -> np.ndarray:
    """OKLab (..., 3) to sRGB pixels, uint8 (..., 3). What no screen shows loses chroma until it can
    be shown, and keeps its lightness and hue."""
    light = _light(lab)
    outside = np.maximum(light - 1, -light).max(axis=-1) > 1e-3
    if outside.any():
        light[outside] = _light(_shown(lab[outside]))
    levels = np.arange(_STEPS + 1, dtype=np.float32) / _STEPS
    table = np.where(levels <= 0.0031308, 12.92 * levels, 1.055 * levels ** (1 / 2.4) - 0.055) * 255
    return np.rint(table).astype(np.uint8)[np.rint(np.clip(light, 0, 1) * _STEPS).astype(np.int32)]


def _light(lab: np.ndarray) -> np.ndarray:
    cones = lab @ _FROM_LAB.T
    return np.asarray(
        (cones * cones * cones) @ _FROM_CONES.T, np.float32
    )  # numpy's ** 3 is ten times as slow


def _shown(lab: np.ndarray) -> np.ndarray:
    """Colours (n, 3) with the most chroma, up to their own, that sRGB has at their lightness and
    hue."""
    low, high = np.zeros(len(lab), np.float32), np.ones(len(lab), np.float32)
    lightness = np.clip(lab[:, :1], 0, 1)
    for _ in range(8):
        middle = (low + high) / 2
        light = _light(np.concatenate([lightness, lab[:, 1:] * middle[:, None]], axis=1))
        fits = np.maximum(light - 1, -light).max(axis=-1) <= 1e-3
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return np.concatenate([lightness, lab[:, 1:] * low[:, None]], axis=1)
