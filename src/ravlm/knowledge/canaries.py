"""Canaries: fixed texts and drawn pictures whose vectors prove which encoder a base was built with.

The pictures are computed, not read, so they are the same wherever ravlm runs. Knows no store.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from ravlm.encoders.base import Encoder
from ravlm.records import Modality

LEAST = 0.999
"""The cosine that an encoder's vector of a canary must have with the stored one."""
TEXTS = (
    "A lighthouse on a rocky coast at dusk.",
    "Two children build a castle of sand.",
    "一只灰色的鸽子站在石桥上。",
    "Order no. 4711: 3 apples, 12 eggs",
)


def pictures() -> list[Image.Image]:
    """Three drawn pictures of 96 x 96 pixels: slopes of colour, rings, and a board of squares."""
    y, x = np.mgrid[0:96, 0:96] / 95.0
    slopes = np.stack([x, y, 1 - (x + y) / 2], axis=-1)
    rings = np.cos(12 * np.hypot(x - 0.4, y - 0.6))[..., None] * np.array([0.5, 0.3, -0.4]) + 0.5
    board = np.where(((x * 6).astype(int) + (y * 6).astype(int)) % 2, 0.9, 0.15)[
        ..., None
    ] * np.array([1.0, 0.8, 0.3])
    return [
        Image.fromarray((np.clip(p, 0, 1) * 255).astype(np.uint8)) for p in (slopes, rings, board)
    ]


def encode(encoder: Encoder) -> dict[Modality, np.ndarray]:
    """The canaries' vectors, float32 (n, dim) for each modality."""
    return {"image": encoder.encode_images(pictures()), "text": encoder.encode_texts(TEXTS)}


def worst_cosine(encoder: Encoder, stored: dict[Modality, np.ndarray]) -> float:
    """The least cosine of the encoder's vectors of the canaries with the stored ones; -1 where
    shapes differ."""
    cosines = [1.0]
    for modality, now in encode(encoder).items():
        if now.shape != stored[modality].shape:
            return -1.0
        cosines += (now * stored[modality]).sum(axis=1).tolist()
    return min(cosines)
