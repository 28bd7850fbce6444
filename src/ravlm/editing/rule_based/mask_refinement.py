"""Refine a coarse probability map to the edges of the image with the guided filter.

Guided filter (He, Sun and Tang 2010): within each small window the map becomes a linear function of
the colors. It is computed on a downscaled copy and its coefficients are upscaled (He and Sun 2015),
so large photos take seconds.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ravlm.editing.resize import downscale, resize_map
from ravlm.editing.rule_based.oklab import to_oklab

WORKING_SIDE = 384
"""Longer side in pixels of the copy on which regions are found."""
FILTER_RADIUS = 1 / 24
"""Radius of the filter window, as a share of the longer side."""
FILTER_EPSILON = 1e-4
"""Variance of the colors below which there is no edge."""
_RIM = 0.5
"""Range of map values, around 0.5, over which the rim of a mask is soft."""
_STRIP_ROWS = 256
"""Rows processed at a time."""


def box_filter(values: np.ndarray, radius: int) -> np.ndarray:
    """Return the mean over squares of 2 * radius + 1 pixels: (h, w, channels).

    Pixels beyond the border are left out of the mean.
    """
    for axis in (0, 1):
        n = values.shape[axis]
        low = np.clip(np.arange(n) - radius, 0, n)
        high = np.clip(np.arange(n) + radius + 1, 0, n)
        sums = np.cumsum(values, axis=axis, dtype=np.float64)
        sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis=axis)
        shape = [1] * values.ndim
        shape[axis] = n
        values = (sums.take(high, axis) - sums.take(low, axis)) / (high - low).reshape(shape)
    return values


def guided_filter(
    colors: np.ndarray, values: np.ndarray, radius: int, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return slope (h, w, 3) and offset (h, w) of the guided filter of a map by colors.

    `colors` (h, w, 3) guide `values` (h, w). `epsilon`: the variance of the colors below which
    there is no edge.
    """
    guide = colors.astype(np.float64)
    mean = box_filter(guide, radius)  # (h, w, 3)
    level = box_filter(values[..., None].astype(np.float64), radius)  # (h, w, 1)
    products = (guide[..., :, None] * guide[..., None, :]).reshape(*guide.shape[:2], 9)
    second_moment = box_filter(products, radius).reshape(*guide.shape, 3)  # (h, w, 3, 3)
    variance = second_moment - mean[..., :, None] * mean[..., None, :] + epsilon * np.eye(3)
    covariance = box_filter(guide * values[..., None], radius) - mean * level  # (h, w, 3)
    slope = np.linalg.solve(variance, covariance[..., None])[..., 0]
    offset = level[..., 0] - (slope * mean).sum(axis=-1)
    return box_filter(slope, radius), box_filter(offset[..., None], radius)[..., 0]


def refine_mask(probability: np.ndarray, lab: np.ndarray) -> np.ndarray:
    """Refine a map (h, w), 0 to 1, to the edges of an OKLab image (h, w, 3). Return 0 to 1."""
    slope, offset = _fit_guide(probability, lab)
    return np.clip((slope * lab).sum(axis=-1) + offset, 0, 1).astype(np.float32)


def upscale_mask(probability: np.ndarray, image: Image.Image) -> np.ndarray:
    """Return a map (h, w), 0 to 1, as a mask at the size of `image`: uint8 (height, width).

    The mask follows the edges of the image and has a soft rim.
    """
    small = downscale(image, WORKING_SIDE)
    probability = resize_map(probability, small.size)
    slope, offset = _fit_guide(probability, to_oklab(np.asarray(small)))
    mask = np.empty((image.height, image.width), np.uint8)
    for top in range(0, image.height, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, image.height)
        lab = to_oklab(np.asarray(image.crop((0, top, image.width, bottom))))  # (rows, width, 3)
        strip = (
            0,
            top * small.height / image.height,
            small.width,
            bottom * small.height / image.height,
        )
        slopes = (_resize_strip(slope[..., c], strip, lab.shape) for c in range(3))
        weighted = sum(plane * lab[..., c] for c, plane in enumerate(slopes))
        values = weighted + _resize_strip(offset, strip, lab.shape)
        rim = np.clip((values - 0.5) / _RIM + 0.5, 0, 1)
        mask[top:bottom] = np.rint(rim * rim * (3 - 2 * rim) * 255)  # smoothstep
    return mask


def _fit_guide(probability: np.ndarray, lab: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    radius = max(1, round(FILTER_RADIUS * max(probability.shape)))
    return guided_filter(lab, probability, radius, FILTER_EPSILON)


def _resize_strip(
    values: np.ndarray, box: tuple[float, float, float, float], shape: tuple[int, ...]
) -> np.ndarray:
    """Resize the part `box` of a map to (height, width) of `shape`."""
    plane = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(plane.resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box))
