"""Images in arrays: NumPy, and everything that converts to it, such as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from ravlm.errors import InvalidInput

CHANNELS = (1, 3, 4)


def is_array(source: object) -> bool:
    """Return whether `source` is an array or a tensor and not a PIL image."""
    return hasattr(source, "__array__") and not isinstance(source, Image.Image)


def image_from_array(source: Any) -> Image.Image:
    """Return an array of pixels as an image.

    The shape is (height, width), (height, width, channels) or (channels, height, width), with 1, 3
    or 4 channels: gray, RGB, RGBA. Integers are 0..255, 16-bit ones 0..65535, floats 0..1 or
    0..255. Raises InvalidInput for other shapes or values.
    """
    pixels = np.asarray(source.detach().cpu() if hasattr(source, "detach") else source)
    shape = pixels.shape
    if pixels.ndim == 3 and shape[-1] not in CHANNELS and shape[0] in CHANNELS:
        pixels = np.moveaxis(pixels, 0, -1)
    is_image = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in CHANNELS)
    if not is_image or not pixels.size:
        advice = " Pass the images of a batch as a list." if len(shape) == 4 else ""
        raise InvalidInput(
            f"The image is an array of shape {shape}; allowed: (height, width), or that with 1, 3 "
            f"or 4 channels.{advice}"
        )
    pixels = _to_bytes(pixels)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Return the values as 0..255."""
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "uif":
        raise InvalidInput(f"The image is an array of {pixels.dtype}; give numbers.")
    values = pixels.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if pixels.dtype.kind == "f" and high <= 1:
        white = 1
    else:
        white = 65535 if pixels.dtype == np.uint16 else 255
    if not (low >= 0 and high <= white):
        raise InvalidInput(
            f"The image is an array with values from {low:g} to {high:g}; allowed: 0 to 1 or "
            "0 to 255. Undo a normalization first."
        )
    return np.rint(values * (255 / white)).astype(np.uint8)
