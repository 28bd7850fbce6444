"""Two dimensions that correct hubness: some photos are near every caption, and some texts near
every photo.

The hubness of a vector is its mean cosine with the ten nearest vectors of a bank: captions for an
image, photos for a text. Half of it is subtracted from the cosine of an image and a text:

    image = [..., hubness, -1/2]
    text  = [..., -1/2, hubness]

The cosine of two images, or of two texts, grows by nearly the same for all. Sources: Radovanović
et al. 2010 (hubs), Conneau et al. 2018 (arXiv:1710.04087; CSLS, where the bank is the other side of
the base).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

DIM = 2
NUM_NEIGHBORS = 10
_WEIGHT = 0.5
_ROWS_AT_ONCE = 4096


def bank_cosines(vectors: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """Return the mean cosine of each unit vector (n, d) with its nearest ones of a bank (m, d)."""
    means = np.zeros(len(vectors), np.float32)
    for first in range(0, len(vectors), _ROWS_AT_ONCE):
        cosines = vectors[first : first + _ROWS_AT_ONCE] @ bank.T
        nearest = np.partition(cosines, -NUM_NEIGHBORS, axis=1)[:, -NUM_NEIGHBORS:]
        means[first : first + _ROWS_AT_ONCE] = nearest.mean(1)
    return means


def hubness_block(
    side: Literal["image", "text"], vectors: np.ndarray, bank: np.ndarray, mean: float
) -> np.ndarray:
    """Return the block (n, 2) of aligned vectors (n, d) of images or of texts.

    `bank` (m, d): captions for images, photos for texts. `mean` is subtracted from the hubness, so
    that it is about 0 for photos and captions like those of the bank.
    """
    hubness = bank_cosines(vectors, bank) - mean
    weight = np.full(len(vectors), -_WEIGHT, np.float32)
    columns = (hubness, weight) if side == "image" else (weight, hubness)
    return np.stack(columns, axis=1)
