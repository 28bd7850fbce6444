"""Equal captions and equal images are positives, in the losses and in the recall."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from ravlm.metrics.retrieval import cross_modal_recall
from ravlm.records import Pair
from ravlm.training.contrastive import (
    ContrastiveStep,
    EncoderTrainingConfig,
    contrastive_loss,
)
from ravlm.training.features import PairFeatures
from ravlm.training.held_out import HeldOutComparison, HeldOutRanks
from ravlm.training.positives import PositivePairs, image_keys


def test_a_text_of_two_images_describes_both() -> None:
    pairs = [
        Pair("a.png", ("a red apple", "fruit")),
        Pair("b.png", ("A red  apple",)),
        Pair("c.png", ("a pear", "fruit")),
        Pair("a.png", ("a bowl",)),  # the first image again
    ]
    positives = PositivePairs.of_pairs(pairs)
    # texts: a red apple, fruit, A red apple, a pear, fruit, a bowl
    expected = [
        [1, 1, 1, 0, 1, 1],
        [1, 0, 1, 0, 0, 0],
        [0, 1, 0, 1, 1, 0],
        [1, 1, 1, 0, 1, 1],
    ]
    assert positives.relevant_texts().T.astype(int).tolist() == expected
    rows, texts = np.array([3, 1, 1]), np.array([5, 0])
    assert positives.matrix(rows, texts).int().tolist() == [[1, 1], [0, 1], [0, 1]]


def test_a_random_relation_equals_its_definition() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        offsets = np.cumsum([0, *random.integers(1, 4, 12)])
        images, texts = random.integers(0, 8, 12), random.integers(0, 9, offsets[-1])
        owners = np.repeat(images, np.diff(offsets))
        related = set(zip(owners.tolist(), texts.tolist(), strict=True))
        rows, columns = random.integers(0, 12, 6), random.integers(0, offsets[-1], 7)
        expected = [[(images[r], texts[c]) in related for c in columns] for r in rows]
        actual = PositivePairs(images, texts, offsets).matrix(rows, columns)
        assert actual.tolist() == expected


def test_equal_images_have_equal_keys(tmp_path: Path) -> None:
    """A copy of a file under another name was a negative of its own image."""
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (8, 8), color).save(tmp_path / f"{name}.bmp")  # equal sizes
    shutil.copy(tmp_path / "a.bmp", tmp_path / "copy.bmp")
    paths = [tmp_path / f"{name}.bmp" for name in ("a", "b", "copy")]
    a, b, copy = image_keys(paths)
    assert a == copy != b
    assert image_keys(["gone.png", "gone.png", "else.png"])[0] == "gone.png"
    red, other = image_keys([Image.new("RGB", (4, 4), color) for color in ("red", "green")])
    assert red != other


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_the_loss_does_not_part_what_belongs_together(
    loss: Literal["softmax", "sigmoid"],
) -> None:
    """Two photos of one class, with the same two captions: the caption drawn for one was a negative
    of the other, and the sigmoid loss pushed away even the same caption."""
    random = np.random.default_rng(0)
    features = PairFeatures(
        images=random.random((1, 2, 1280), np.float32),
        texts=random.standard_normal((4, 384)).astype(np.float32),
        offsets=np.array([0, 2, 4]),
        text_numbers=np.array([0, 1, 0, 1]),
    )
    config = EncoderTrainingConfig(loss=loss, aligned_dim=8, hidden_dim=8)
    _, _, positives = ContrastiveStep(features, config)._batch(0, torch.Generator().manual_seed(0))
    assert positives.all()
    images = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    texts = torch.tensor([[0.8, 0.6], [0.8, -0.6]])
    scale, bias = torch.tensor(1.0), torch.tensor(0.0)
    contrastive_loss(loss, (images, texts), positives, scale, bias).backward()
    assert images.grad is not None
    if loss == "softmax":
        assert images.grad.abs().max() < 1e-6
    else:
        assert (images.grad @ texts.T < 0).all()  # towards both


def test_recall_counts_every_image_of_a_text() -> None:
    images = np.eye(3, dtype=np.float32)
    texts = np.array([[0.6, 0.8, 0], [0, 0, 1]], np.float32)
    owners = np.array([0, 2])
    assert cross_modal_recall(images, texts, owners, ks=(1,)).text_to_image == {1: 50.0}
    relevant = np.array([[True, True, False], [False, False, True]])
    recall = cross_modal_recall(images, texts, relevant, ks=(1,))
    assert recall.text_to_image == {1: 100.0}
    assert recall.image_to_text == {1: 100.0}


def test_a_comparison_tells_n_and_interval_and_warns() -> None:
    random = np.random.default_rng(0)
    before = HeldOutRanks(random.integers(0, 4, 120), random.integers(0, 4, 120))
    after = HeldOutRanks(before.text // 3, before.image // 3)
    comparison = HeldOutComparison(before, after, "never trained on")
    figures = comparison.figures()
    change = figures["t2i R@1"] - figures["before t2i R@1"]
    assert figures["t2i R@1 change low"] < change < figures["t2i R@1 change high"]
    assert figures["held-out pairs"] == 120
    assert comparison.is_better
    lines: list[str] = []
    comparison.report(lines.append)
    assert "less than 200" in lines[-1]
    worse = HeldOutComparison(after, before, "never trained on")
    assert not worse.is_better
    assert not HeldOutComparison(before, before, "never trained on").is_better
    worse.report(lines.append)
    assert "the one before training is" in lines[-1]
