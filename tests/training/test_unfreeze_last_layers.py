"""Trained last stages: they start as the backbones', train in chunks, and run in the starter's
graphs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.starter.backbones import ImageBackbone, TextBackbone
from ravlm.encoders.starter.encoder import StarterEncoder
from ravlm.records import Pair
from ravlm.training.contrastive import ClassWords, ContrastiveStep, EncoderTrainingConfig
from ravlm.training.features import PairFeatures, TrunkFeatures, pair_features, trunk_features
from ravlm.training.trainer import fit
from recipes.unfreeze_last_layers import UnfreezeConfig, UnfreezeStep

HEADS = EncoderTrainingConfig(aligned_dim=16, hidden_dim=32, batch_size=4, views=1, class_words=0)
CONFIG = UnfreezeConfig(
    epochs=2, batch_size=4, chunk_size=2, class_words=3, dropout=0.0, ema_decay=0.0
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    folder = tmp_path_factory.mktemp("noise")
    random = np.random.default_rng(0)
    results = []
    for i in range(5):
        path = folder / f"{i}.png"
        Image.fromarray(random.integers(0, 255, (80, 64, 3), dtype=np.uint8)).resize(
            (260, 260)
        ).save(path)
        results.append(
            Pair(path, (f"picture number {i} of noise", "some noise " * (i + 1)), id=str(i))
        )
    return results


@pytest.fixture(scope="module")
def features(
    pairs: list[Pair], tmp_path_factory: pytest.TempPathFactory
) -> tuple[PairFeatures, TrunkFeatures]:
    folder = tmp_path_factory.mktemp("features")
    return pair_features(pairs, 260, 1, folder / "pairs"), trunk_features(
        pairs, 260, 2, folder / "trunk"
    )


@pytest.fixture(scope="module")
def words() -> ClassWords:
    random = np.random.default_rng(1)
    return ClassWords(
        random.random((10, 1280), np.float32), random.random((2, 10, 384), np.float32)
    )


def step_of(
    features: tuple[PairFeatures, TrunkFeatures], words: ClassWords, config: UnfreezeConfig
) -> UnfreezeStep:
    heads = ContrastiveStep(features[0], HEADS).heads
    step = UnfreezeStep(features[1], heads, config, words, held_out=features[1])
    step.dtype = torch.float32
    return step


def test_untrained_stages_give_the_backbones_features(
    features: tuple[PairFeatures, TrunkFeatures], words: ClassWords
) -> None:
    """From half-precision trunks, for every image and text; texts of different lengths in one
    batch."""
    pooled, trunk = features
    member = step_of(features, words, CONFIG).member.eval()
    with torch.no_grad():
        images = member.image_stage(torch.from_numpy(np.array(trunk.grids[0])).float()).numpy()
        states, mask = trunk.token_states(np.arange(10))
        texts = member.text_stage(torch.from_numpy(states).float(), torch.from_numpy(mask)).numpy()
    assert np.abs(images - pooled.images[0]).max() < 5e-3
    assert np.abs(texts - pooled.texts).max() < 2e-3


def test_chunks_do_not_change_the_gradient(
    features: tuple[PairFeatures, TrunkFeatures], words: ClassWords
) -> None:
    results = []
    for chunk in (2, 4):
        step = step_of(features, words, replace(CONFIG, chunk_size=chunk))
        step.model.train()
        loss = step.backward(0, torch.Generator().manual_seed(3))
        results.append(
            (loss["loss"], [p.grad.clone() for p in step.model.parameters() if p.grad is not None])
        )
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert torch.allclose(a, b, atol=1e-4, rtol=1e-3)


def test_a_trained_member_runs_in_the_starters_graphs(
    features: tuple[PairFeatures, TrunkFeatures],
    words: ClassWords,
    pairs: list[Pair],
    tmp_path: Path,
) -> None:
    step = step_of(features, words, CONFIG)
    fit(step, CONFIG.loop(5), tmp_path / "run")
    base = DualEncoder.load("starter")
    assert isinstance(base, StarterEncoder)
    sizes = {"image_size": 260, "aligned_dim": 16, "hidden_dim": 32}  # of the features
    layout = replace(base.config, members=1, has_trained_stages=True, **sizes)
    encoder = base.with_heads(layout, step.member.arrays(0), "mine")
    vectors = encoder.encode_images([p.image for p in pairs])[:, :16]
    with torch.no_grad():
        expected = step._encode_images(features[1], np.zeros(5, np.int64), np.arange(5)).numpy()
    cosines = (vectors * expected).sum(1) / np.linalg.norm(vectors, axis=1)
    assert cosines.min() > 0.999
    texts = [t for p in pairs for t in p.texts]
    vectors = encoder.encode_texts(texts)[:, :16]
    with torch.no_grad():
        expected = step._encode_texts(features[1], np.arange(10)).numpy()
    assert ((vectors * expected).sum(1) / np.linalg.norm(vectors, axis=1)).min() > 0.999
    assert set(step.evaluate()) >= {"t2i R@1", "i2t R@10"}


def test_features_are_computed_once(
    pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pair_features(pairs, 260, 1, tmp_path)

    def never(*args: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(ImageBackbone, "session", property(never))
    monkeypatch.setattr(TextBackbone, "session", property(never))
    again = pair_features(pairs, 260, 1, tmp_path)
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.owner, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
