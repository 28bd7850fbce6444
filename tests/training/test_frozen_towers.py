"""Frozen towers, batch norms, and the rates and scales that full towers begin with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.clip import ClipEncoder
from ravlm.encoders.vision_text_dual import (
    VisionTextDualConfig,
    VisionTextDualEncoder,
    VisionTextDualTowers,
)
from ravlm.errors import InvalidInput, NotFound
from ravlm.records import Pair
from ravlm.training.contrastive import EncoderTrainingConfig
from ravlm.training.encoder import train_encoder
from ravlm.training.torch_towers import TowerStep
from tests.helpers import encoder_checkpoints

CONFIG = EncoderTrainingConfig(epochs=2, batch_size=12, chunk_size=5, held_out=0.0)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_checkpoints.clip(tmp_path_factory.mktemp("frozen") / "clip")


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("backbones")
    return encoder_checkpoints.vit(folder / "vit"), encoder_checkpoints.bert(folder / "bert")


def load_clip(folder: Path) -> ClipEncoder:
    encoder = DualEncoder.load(folder)
    assert isinstance(encoder, ClipEncoder)
    return encoder


@pytest.mark.parametrize("tower", ["image", "text"])
def test_a_clip_with_a_frozen_tower_is_trained(
    clip_folder: Path, shape_pairs: list[Pair], tower: str
) -> None:
    """`--freeze` ended in "element 0 of tensors does not require grad": the second pass of gradient
    caching went through the frozen tower."""
    encoder = load_clip(clip_folder)
    encoder.model.freeze(image=tower == "image", text=tower == "text")
    counts = {"image": 0, "text": 0}
    for name in counts:
        pool = getattr(encoder.model, f"{name}_pooled")

        def count(*args: object, name: str = name, pool: object = pool, **kwargs: object) -> object:
            counts[name] += 1
            return pool(*args, **kwargs)  # type: ignore[operator]

        setattr(encoder.model, f"{name}_pooled", count)
    step = TowerStep(encoder, shape_pairs, CONFIG)
    step.model.train()
    step.backward(0, torch.Generator().manual_seed(0))
    other = "text" if tower == "image" else "image"
    assert counts == {tower: 3, other: 6}
    trained = {n for n, p in encoder.model.named_parameters() if p.grad is not None}
    assert any(n.startswith("network.text" if tower == "image" else "network.vis") for n in trained)
    assert not any(
        n.startswith("network.vis" if tower == "image" else "network.text") for n in trained
    )


def test_a_frozen_backbone_with_a_trained_head_runs_once(
    backbones: tuple[Path, Path], shape_pairs: list[Pair]
) -> None:
    """The gradient is that of the whole encoder, and the frozen part is computed once."""
    gradients = []
    for is_cached in (True, False):
        encoder = VisionTextDualEncoder.from_backbones(*backbones, dim=8)
        step = TowerStep(encoder, shape_pairs, CONFIG)
        step.dtype = torch.float32
        towers: Any = encoder.model
        if not is_cached:
            towers.is_frozen = lambda tower: False
        step.backward(0, torch.Generator().manual_seed(0))
        gradients.append(towers.image_head.weight.grad)
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)
    assert gradients[0].abs().max() > 1e-4


def test_two_frozen_towers_are_refused(
    clip_folder: Path, shape_pairs: list[Pair], tmp_path: Path
) -> None:
    encoder = load_clip(clip_folder)
    encoder.model.freeze()
    with pytest.raises(InvalidInput, match="nothing to train"):
        train_encoder(encoder, shape_pairs, tmp_path / "mine", CONFIG)


def test_batch_norms_stay_in_evaluation_mode() -> None:
    """Training moved their running means, which neither progress nor other processes had, and
    normalized each chunk by itself."""
    from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel

    torch.manual_seed(0)
    image = ResNetModel(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic")
    )
    text = BertModel(BertConfig(**encoder_checkpoints.WIDTH, vocab_size=20))
    towers = VisionTextDualTowers(image, text, VisionTextDualConfig(4, 8, 32))
    towers.freeze(image=False, text=False)
    towers.train()
    before = {name: buffer.clone() for name, buffer in towers.named_buffers()}
    pixels = torch.rand(6, 3, 32, 32)
    together = towers.image_features(pixels)
    apart = torch.cat([towers.image_features(part) for part in pixels.split(2)])
    assert torch.allclose(together, apart, atol=1e-5)
    for name, buffer in towers.named_buffers():
        assert torch.equal(buffer, before[name]), name
    assert any(module.training for module in image.modules())


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_the_scale_of_the_checkpoint_is_kept(
    name: str, shape_pairs: list[Pair], tmp_path: Path
) -> None:
    """Training began with a temperature of 0.05 and ignored the checkpoint's, and the
    checkpoint's own scale was saved untrained."""
    encoder = load_clip(encoder_checkpoints.DUAL[name](tmp_path / name))
    network: Any = encoder.model.network
    with torch.no_grad():
        network.logit_scale.fill_(3.3)
    step = TowerStep(encoder, shape_pairs, replace(CONFIG, loss="sigmoid"))
    assert step.towers_and_loss.log_scale is network.logit_scale
    if name == "siglip":
        assert step.towers_and_loss.bias is network.logit_bias
    step.backward(0, torch.Generator().manual_seed(0))
    assert network.logit_scale.grad is not None
    assert network.logit_scale.grad.abs().max() > 0


def test_learning_rates_follow_what_is_trained(
    clip_folder: Path, backbones: tuple[Path, Path], shape_pairs: list[Pair], tmp_path: Path
) -> None:
    def rates(step: TowerStep) -> dict[str, float]:
        rate = step.config.loop(12).learning_rate
        return {
            name: rate * step.learning_rate_factor(name)
            for name, p in step.model.named_parameters()
            if p.requires_grad
        }

    assert set(rates(TowerStep(load_clip(clip_folder), shape_pairs, CONFIG)).values()) == {1e-5}
    encoder = VisionTextDualEncoder.from_backbones(*backbones, dim=8)
    encoder.save(tmp_path / "saved")
    encoder.model.freeze(image=False)
    by_name = rates(TowerStep(encoder, shape_pairs, CONFIG))
    assert by_name["towers.image_head.weight"] == by_name["log_scale"] == 2e-3
    image_rates = {r for n, r in by_name.items() if n.startswith("towers.image.")}
    assert list(image_rates) == [pytest.approx(1e-5)]
    again = DualEncoder.load(tmp_path / "saved")
    assert isinstance(again, VisionTextDualEncoder)
    assert rates(TowerStep(again, shape_pairs, CONFIG))["towers.image_head.weight"] == 1e-3
    given = rates(TowerStep(encoder, shape_pairs, replace(CONFIG, learning_rate=3e-4)))
    assert set(given.values()) == {3e-4}


def test_the_same_command_draws_the_same_layers(backbones: tuple[Path, Path]) -> None:
    """The same command twice differed by 0.10 in the new layers."""
    first, second = (VisionTextDualEncoder.from_backbones(*backbones, dim=8) for _ in range(2))
    torch.rand(3)
    other = VisionTextDualEncoder.from_backbones(*backbones, dim=8, seed=1)
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    heads = [model.state_dict()["image_head.weight"] for model in (first.model, other.model)]
    assert not torch.equal(heads[0], heads[1])


def test_towers_that_became_worse_are_not_kept(
    clip_folder: Path, shape_pairs: list[Pair], tmp_path: Path
) -> None:
    """A rate that ruins the towers: the checkpoint before training is what is saved."""
    encoder = load_clip(clip_folder)
    lines: list[str] = []
    config = replace(CONFIG, epochs=3, learning_rate=10.0, held_out=0.3)
    shuffled = [
        Pair(pair.image, shape_pairs[i - 1].texts, id=pair.id) for i, pair in enumerate(shape_pairs)
    ]
    trained = train_encoder(encoder, shuffled, tmp_path / "mine", config, lines.append)
    assert trained.fingerprint == encoder.fingerprint
    assert any("the one before training is" in line for line in lines)
    assert any(line.startswith("Warning: ") for line in lines)


def test_long_texts_are_counted_and_told_once(
    clip_folder: Path, shape_pairs: list[Pair], tmp_path: Path
) -> None:
    """They were cut without a word."""
    pairs = [replace(shape_pairs[0], texts=("a red disc " * 20,)), *shape_pairs[1:]]
    lines: list[str] = []
    train_encoder(load_clip(clip_folder), pairs, tmp_path / "mine", CONFIG, lines.append)
    told = [line for line in lines if "longer than the text tower reads" in line]
    assert told == [
        "1 of 23 texts are longer than the text tower reads; only their beginnings count."
    ]


def test_a_vanished_image_is_named_and_the_run_goes_on(
    clip_folder: Path, shape_pairs: list[Pair], tmp_path: Path
) -> None:
    pairs = [replace(pair, image=tmp_path / Path(str(pair.image)).name) for pair in shape_pairs]
    for pair, original in zip(pairs, shape_pairs, strict=True):
        Path(str(pair.image)).write_bytes(Path(str(original.image)).read_bytes())
    config = replace(CONFIG, epochs=3)
    whole = train_encoder(load_clip(clip_folder), pairs, tmp_path / "whole", config)
    vanished = Path(str(pairs[7].image))
    content = vanished.read_bytes()
    vanished.unlink()
    with pytest.raises(NotFound, match=vanished.name):
        train_encoder(load_clip(clip_folder), pairs, tmp_path / "mine", config)
    assert not (tmp_path / "mine" / "config.json").exists()
    vanished.write_bytes(content)
    again = train_encoder(load_clip(clip_folder), pairs, tmp_path / "mine", config)
    texts = ["a red disc", "a blue box"]
    assert np.array_equal(again.encode_texts(texts), whole.encode_texts(texts))
