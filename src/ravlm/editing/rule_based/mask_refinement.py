"""Where a region ends: a coarse map of where something is, drawn to the picture's own edges.

The guided filter (He, Sun and Tang 2010): within each small window the map becomes a linear
function of the colours. It is computed on a reduced copy, and its coefficients are enlarged (He and
Sun 2015): so large photos take seconds. Knows no words and no networks."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ravlm.editing.rule_based.oklab import to_oklab

WORKING = 384
"""Longer side in pixels of the copy that regions are found on."""
RADIUS, SMOOTH = 1 / 24, 1e-4
"""The guided filter's window, as a share of the longer side, and the variance of colours that is no
edge."""
_RIM = 0.5
"""How much of the way from out to in is the soft rim."""
_ROWS = 256
"""Rows that are worked on at once."""


def resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values (h, w) or (h, w, channels) at another (width, height), bilinear; float32."""
    if values.ndim == 3:
        return np.stack([resized(values[..., c], size) for c in range(values.shape[2])], axis=-1)
    plane = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(plane.resize(size, Image.Resampling.BILINEAR))


def reduced(image: Image.Image, longest: int = WORKING) -> Image.Image:
    """`image` with a longer side of `longest` pixels, or as it is where it is smaller."""
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    return image.resize(
        (max(1, round(image.width * scale)), max(1, round(image.height * scale))), reducing_gap=2.0
    )


def box(values: np.ndarray, radius: int) -> np.ndarray:
    """The mean over a square of 2 x radius + 1 pixels, what lies outside left out: (h, w,
    channels)."""
    for axis in (0, 1):
        n = values.shape[axis]
        shape = [1] * values.ndim
        shape[axis] = n
        low, high = np.clip(np.arange(n) - radius, 0, n), np.clip(np.arange(n) + radius + 1, 0, n)
        sums = np.cumsum(values, axis=axis, dtype=np.float64)
        sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis=axis)
        values = (sums.take(high, axis) - sums.take(low, axis)) / (high - low).reshape(shape)
    return values


def guide(
    colours: np.ndarray, values: np.ndarray, radius: int, smooth: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (h, w, 3) and (h, w) of the guided filter of `values` (h, w) by `colours` (h, w,
    3).

    `smooth`: the variance of the colours below which an edge is none.
    """
    c = colours.astype(np.float64)
    mean, level = box(c, radius), box(values[..., None].astype(np.float64), radius)
    pairs = box((c[..., :, None] * c[..., None, :]).reshape(*c.shape[:2], 9), radius).reshape(
        *c.shape, 3
    )
    spread = pairs - mean[..., :, None] * mean[..., None, :] + smooth * np.eye(3)
    shared = box(c * values[..., None], radius) - mean * level
    slope = np.linalg.solve(spread, shared[..., None])[..., 0]
    offset = level[..., 0] - (slope * mean).sum(axis=-1)
    return box(slope, radius), box(offset[..., None], radius)[..., 0]


def drawn(share: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """`share` (h, w), 0 to 1, drawn to the edges of the picture `lab` (h, w, 3): 0 to 1 again."""
    slope, offset = _by_guide(share, lab)
    return np.clip((slope * lab).sum(axis=-1) + offset, 0, 1).astype(np.float32)


def enlarged(share: np.ndarray, image: Image.Image) -> np.ndarray:
    """`share` (h, w), 0 to 1, at the size of `image`, with its edges and a soft rim: uint8 (height,
    width)."""
    small = reduced(image)
    share = resized(share, small.size)
    slope, offset = _by_guide(share, to_oklab(np.asarray(small)))
    mask = np.empty((image.height, image.width), np.uint8)
    for top in range(0, image.height, _ROWS):
        bottom = min(top + _ROWS, image.height)
        lab = to_oklab(np.asarray(image.crop((0, top, image.width, bottom))))
        part = (
            0,
            top * small.height / image.height,
            small.width,
            bottom * small.height / image.height,
        )
        soft = sum(_part(slope[..., c], part, lab.shape) * lab[..., c] for c in range(3)) + _part(
            offset, part, lab.shape
        )
        rim = np.clip((soft - 0.5) / _RIM + 0.5, 0, 1)
        mask[top:bottom] = np.rint(rim * rim * (3 - 2 * rim) * 255)
    return mask


def _by_guide(share: np.ndarray, lab: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return guide(lab, share, max(1, round(RADIUS * max(share.shape))), SMOOTH)


def _part(
    values: np.ndarray, box: tuple[float, float, float, float], shape: tuple[int, ...]
) -> np.ndarray:
    plane = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(plane.resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box))
