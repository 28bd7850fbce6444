"""Tuning of the starter's heads: from the shipped ones, never to worse ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.starter.encoder import StarterEncoder
from ravlm.training.contrastive import EncoderTrainingConfig
from ravlm.training.features import PairFeatures
from ravlm.training.starter_tuning import StarterHeads, held_out_folds, tune_heads
from ravlm.training.tracking import silent, untracked

CONFIG = EncoderTrainingConfig(epochs=6, views=1, dropout=0.0)


@pytest.fixture(scope="module")
def starter() -> StarterEncoder:
    encoder = DualEncoder.load("starter")
    assert isinstance(encoder, StarterEncoder)
    return encoder


def features(n: int, is_related: bool, seed: int = 0) -> PairFeatures:
    """Images and texts of `n` pairs in ten classes, whose texts say the class, or are at random."""
    random = np.random.default_rng(seed)
    classes = np.arange(n) % 10
    centers = random.random((10, 3, 1280), np.float32)
    words = random.standard_normal((10, 3, 384)).astype(np.float32)
    images = centers[classes] + 0.3 * random.random((n, 3, 1280), np.float32)
    texts = words[classes] if is_related else words[random.permutation(classes)]
    noise = 0.1 * random.standard_normal((n, 3, 384)).astype(np.float32)
    return PairFeatures(images[None], texts + noise, np.arange(n + 1))


def test_training_begins_with_the_heads_of_the_encoder(starter: StarterEncoder) -> None:
    """Random heads took their place: 212 pairs took R@1 on unseen photos from 42 to 20."""
    data = features(8, is_related=True)
    heads = StarterHeads(starter, CONFIG).eval()
    with torch.no_grad():
        images = heads.image(torch.from_numpy(data.images[0])).numpy()
        texts = heads.text(torch.from_numpy(data.texts)).numpy()
    dim = starter.config.aligned_dim
    scale = np.sqrt(starter.config.aligned_share)
    plain = starter.without_sentences()  # nothing else is in the vector
    expected = plain.image_vectors(*np.moveaxis(data.images[0], 1, 0))[:, :dim]
    assert np.abs(scale * images - expected).max() < 1e-5
    expected = plain.text_vectors(*np.moveaxis(data.texts, 1, 0))[:, :dim]
    assert np.abs(scale * texts - expected).max() < 1e-5
    for name, array in heads.arrays().items():
        assert np.array_equal(array, starter.weights[name]), name


def test_what_can_be_learned_is_learned(starter: StarterEncoder, tmp_path: Path) -> None:
    data = features(40, is_related=True)
    trained, comparison = tune_heads(starter, data, CONFIG, tmp_path, silent, untracked)
    assert comparison is not None
    assert comparison.is_better
    assert comparison.num_pairs == 40
    assert comparison.figures()["i2t R@5"] > comparison.figures()["before i2t R@5"] + 5
    assert trained.fingerprint != starter.fingerprint


def test_the_start_is_kept_where_nothing_can_be_learned(
    starter: StarterEncoder, tmp_path: Path
) -> None:
    """Training on texts that do not belong to the images is worse on others; it reported 100."""
    data = features(40, is_related=False)
    trained, comparison = tune_heads(starter, data, CONFIG, tmp_path, silent, untracked)
    assert comparison is not None
    assert not comparison.is_better
    assert trained.fingerprint == starter.fingerprint


def test_every_image_is_held_out_once_and_equal_ones_together() -> None:
    data = PairFeatures(
        np.zeros((1, 12, 3, 4)),
        np.zeros((12, 3, 4)),
        np.arange(13),
        image_numbers=np.array([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]),
    )
    folds = held_out_folds(data, CONFIG)
    assert len(folds) == 3
    assert np.sum(folds, axis=0).tolist() == [1] * 12
    assert all(np.array_equal(fold[:6], fold[6:]) for fold in folds)
    assert held_out_folds(data, EncoderTrainingConfig(held_out=0.0)) == []
    many = PairFeatures(np.zeros((1, 5000, 1)), np.zeros((5000, 1)), np.arange(5001))
    (fold,) = held_out_folds(many, CONFIG)
    assert fold.sum() == 250
