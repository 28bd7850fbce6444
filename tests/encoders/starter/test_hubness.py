"""Photos that are near every caption lose their lead."""

from __future__ import annotations

import numpy as np
import pytest

from ravlm.encoders.starter.encoder import unit
from ravlm.encoders.starter.hubness import bank_cosines, hubness_block


def random_units(n: int, seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32))


def test_bank_cosines_are_the_mean_of_the_ten_best() -> None:
    vectors, bank = random_units(5000, 0), random_units(50, 1)
    expected = np.sort(vectors @ bank.T, axis=1)[:, -10:].mean(1)
    assert np.allclose(bank_cosines(vectors, bank), expected, atol=1e-6)


def test_half_of_both_hubnesses_is_subtracted_from_a_cosine() -> None:
    images, texts = random_units(30, 2), random_units(40, 3)
    captions, photos = random_units(60, 4), random_units(60, 5)
    image_block = hubness_block("image", images, captions, 0.1)
    text_block = hubness_block("text", texts, photos, 0.2)
    corrections = image_block @ text_block.T
    of_images = bank_cosines(images, captions) - 0.1
    of_texts = bank_cosines(texts, photos) - 0.2
    expected = -(of_images[:, None] + of_texts[None, :]) / 2
    assert np.allclose(corrections, expected, atol=1e-6)


@pytest.mark.parametrize("side", ["image", "text"])
def test_two_of_one_kind_keep_their_order(side: str) -> None:
    """The cosine of all pairs grows by 1/4, give or take the product of two hubnesses."""
    vectors, bank = random_units(30, 6), random_units(60, 7)
    mean = float(bank_cosines(vectors, bank).mean())
    block = hubness_block(side, vectors, bank, mean)  # type: ignore[arg-type]
    assert np.abs(block @ block.T - 0.25).max() < 0.02


def test_a_photo_near_every_caption_is_no_longer_first() -> None:
    axes = np.eye(16, dtype=np.float32)
    captions = unit(axes[0] + 0.2 * random_units(200, 8))
    query = unit(axes[:1] + axes[1])
    photos = np.stack([axes[0], unit(axes[1] - 0.02 * axes[0])])
    assert (query @ photos.T).argmax() == 0
    corrections = np.array([[-0.5, 0.0]]) @ hubness_block("image", photos, captions, 0.0).T
    assert (query @ photos.T + corrections).argmax() == 1
