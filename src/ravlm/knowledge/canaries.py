"""Canaries: fixed texts and images whose vectors identify the encoder a base was built with.

The images are computed, not read, so they are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from ravlm.encoders.base import Encoder, check_finite
from ravlm.records import MODALITIES, Modality

MIN_COSINE = 0.999
"""Minimum cosine between a canary's vector and the stored one."""
TEXTS = (
    "A lighthouse on a rocky coast at dusk.",
    "Two children build a castle of sand.",
    "一只灰色的鸽子站在石桥上。",
    "Order no. 4711: 3 apples, 12 eggs",
)


def images() -> list[Image.Image]:
    """Return three images of 96 x 96 pixels: color gradients, rings and a checkerboard."""
    y, x = np.mgrid[0:96, 0:96] / 95.0
    gradients = np.stack([x, y, 1 - (x + y) / 2], axis=-1)  # (96, 96, 3)
    distance = np.hypot(x - 0.4, y - 0.6)
    rings = np.cos(12 * distance)[..., None] * np.array([0.5, 0.3, -0.4]) + 0.5
    squares = ((x * 6).astype(int) + (y * 6).astype(int)) % 2
    board = np.where(squares, 0.9, 0.15)[..., None] * np.array([1.0, 0.8, 0.3])
    return [
        Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
        for pixels in (gradients, rings, board)
    ]


def encode_canaries(
    encoder: Encoder, modalities: Sequence[Modality] = MODALITIES
) -> dict[Modality, np.ndarray]:
    """Return the vectors of the canaries, float32 (n, dim) per modality."""
    vectors: dict[Modality, np.ndarray] = {}
    if "image" in modalities:
        vectors["image"] = check_finite(encoder.encode_images(images()), encoder.name)
    if "text" in modalities:
        vectors["text"] = check_finite(encoder.encode_texts(TEXTS), encoder.name)
    return vectors


def min_canary_cosine(
    encoder: Encoder,
    stored: Mapping[Modality, np.ndarray],
    modalities: Sequence[Modality] = MODALITIES,
) -> float:
    """Return the smallest cosine between new and stored canary vectors; -1 if shapes differ.

    It is NaN if a stored vector is: test for `not cosine >= MIN_COSINE`.
    """
    cosines = [1.0]
    for modality, vectors in encode_canaries(encoder, modalities).items():
        if vectors.shape != stored[modality].shape:
            return -1.0
        cosines += (vectors * stored[modality]).sum(axis=1).tolist()
    return float(np.min(cosines))  # NaN if one is NaN; `min` would skip it
