"""Images as the starter's image backbone takes them: squashed to a square of pixels."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ravlm.data.images import load_image
from ravlm.records import ImageSource


def squash(image: Image.Image, size: int) -> Image.Image:
    """Resize to (size, size) regardless of the aspect ratio, as for the training photos."""
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BICUBIC)


def load_pixels(source: ImageSource, size: int) -> np.ndarray:
    """Load an image as uint8 pixels (size, size, 3)."""
    return np.asarray(squash(load_image(source, edge=size), size))
