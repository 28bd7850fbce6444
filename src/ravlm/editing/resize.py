"""Resize images and maps of values."""

from __future__ import annotations

import numpy as np
from PIL import Image


def downscale(image: Image.Image, max_side: int) -> Image.Image:
    """Return `image` with a longer side of `max_side` pixels, or itself if it is smaller."""
    scale = max_side / max(image.size)
    if scale >= 1:
        return image
    width = max(1, round(image.width * scale))
    height = max(1, round(image.height * scale))
    return image.resize((width, height), reducing_gap=2.0)


def resize_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return values (h, w) or (h, w, channels) at another (width, height): bilinear, float32."""
    if values.ndim == 3:
        channels = [resize_map(values[..., c], size) for c in range(values.shape[2])]
        return np.stack(channels, axis=-1)
    plane = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(plane.resize(size, Image.Resampling.BILINEAR))
