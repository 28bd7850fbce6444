"""Full towers: gradient of the whole batch, training from images on disk, resuming, loading."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ravlm.encoders.auto import DualEncoder
from ravlm.encoders.losses import softmax_contrastive
from ravlm.encoders.vision_text_dual import VisionTextDualEncoder
from ravlm.errors import InvalidInput
from ravlm.records import Pair
from ravlm.training.contrastive import EncoderTrainingConfig
from ravlm.training.encoder import train_encoder
from ravlm.training.torch_towers import TowerStep
from ravlm.training.trainer import fit
from tests.helpers import encoder_checkpoints
from tests.helpers.fakes import FakeEncoder

CONFIG = EncoderTrainingConfig(
    epochs=40,
    batch_size=12,
    chunk_size=5,
    learning_rate=0.005,
    held_out=0.0,
    dropout=0.0,
    weight_decay=0.0,
)


@pytest.fixture
def encoder(tmp_path: Path) -> VisionTextDualEncoder:
    image, text = (
        encoder_checkpoints.IMAGE["vit"](tmp_path / "vit"),
        encoder_checkpoints.TEXT["bert"](tmp_path / "bert"),
    )
    return VisionTextDualEncoder.from_backbones(image, text, dim=16)


def test_chunks_give_the_gradient_of_the_whole_batch(
    encoder: VisionTextDualEncoder, shape_pairs: list[Pair]
) -> None:
    results = []
    for chunk in (5, 12):
        step = TowerStep(encoder, shape_pairs, replace(CONFIG, chunk_size=chunk))
        step.dtype = torch.float32  # bf16 rounds differently in other batches
        step.model.zero_grad()
        loss = step.backward(0, torch.Generator().manual_seed(0))["loss"]
        results.append(
            (
                loss,
                encoder.model.image_head.weight.grad.clone(),
                encoder.model.text_head.weight.grad.clone(),
            )
        )
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-5)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-5)
    assert torch.allclose(results[0][2], results[1][2], atol=1e-5)


def test_the_loss_is_that_of_the_vectors(
    encoder: VisionTextDualEncoder, shape_pairs: list[Pair]
) -> None:
    """Captions are encoded by length; the loss was wrong when they were not put back in order."""
    single = [replace(pair, texts=(pair.text * (i % 3 + 1),)) for i, pair in enumerate(shape_pairs)]
    step = TowerStep(encoder, single, CONFIG)
    loss = step.backward(0, torch.Generator().manual_seed(0))["loss"]
    images = torch.from_numpy(encoder.encode_images([p.image for p in single]))
    texts = torch.from_numpy(encoder.encode_texts([p.text for p in single]))
    assert loss == pytest.approx(
        softmax_contrastive(images, texts, torch.tensor(20.0)).item(), rel=0.02
    )


def test_the_trained_encoder_can_be_loaded(
    encoder: VisionTextDualEncoder, shape_pairs: list[Pair], tmp_path: Path
) -> None:
    before = encoder.encode_texts(["a red disc", "a box"])
    encoder.model.freeze(image=False, text=False)
    trained = train_encoder(encoder, shape_pairs, tmp_path / "mine", CONFIG)
    assert np.array_equal(encoder.encode_texts(["a red disc", "a box"]), before), (
        "the original encoder must not change"
    )
    scores = (
        trained.encode_texts([p.text for p in shape_pairs])
        @ trained.encode_images([p.image for p in shape_pairs]).T
    )
    assert np.mean(scores.argmax(1) == np.arange(12)) >= 0.4  # by chance 0.08
    assert (
        DualEncoder.load(tmp_path / "mine").fingerprint
        == trained.fingerprint
        != encoder.fingerprint
    )
    assert (tmp_path / "mine" / "log.jsonl").is_file()


def test_a_killed_training_of_towers_resumes_to_the_same_weights(
    encoder: VisionTextDualEncoder, shape_pairs: list[Pair], tmp_path: Path
) -> None:
    loop = replace(CONFIG.loop(12), steps=6, save_every=2)
    start = {name: p.clone() for name, p in encoder.model.state_dict().items()}

    class Killed(TowerStep):
        def backward(self, index: int, generator: torch.Generator) -> dict[str, float]:
            if index == 5:
                raise KeyboardInterrupt
            return super().backward(index, generator)

    fit(TowerStep(encoder, shape_pairs, CONFIG), loop, tmp_path / "whole")
    uninterrupted = encoder.model.image_head.weight.detach().clone()
    encoder.model.load_state_dict(start)
    with pytest.raises(KeyboardInterrupt):
        fit(Killed(encoder, shape_pairs, CONFIG), loop, tmp_path / "cut")
    encoder.model.load_state_dict(start)
    fit(TowerStep(encoder, shape_pairs, CONFIG), loop, tmp_path / "cut")
    assert torch.equal(encoder.model.image_head.weight, uninterrupted)


def test_an_encoder_without_towers_is_refused(shape_pairs: list[Pair], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be trained"):
        train_encoder(FakeEncoder(), shape_pairs, tmp_path / "mine", CONFIG)


def test_the_command_trains_two_backbones(
    shape_pairs: list[Pair], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ravlm.cli import main

    rows = [{"id": p.id, "image": str(p.image), "texts": list(p.texts)} for p in shape_pairs]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    image, text = (
        encoder_checkpoints.IMAGE["vit"](tmp_path / "vit"),
        encoder_checkpoints.TEXT["bert"](tmp_path / "bert"),
    )
    backbones = [
        "--image-backbone",
        str(image),
        "--text-backbone",
        str(text),
        "--dim",
        "8",
        "--freeze",
        "image",
    ]
    command = [
        "train",
        "encoder",
        "--pairs",
        str(tmp_path / "pairs.jsonl"),
        "--out",
        str(tmp_path / "mine"),
    ]
    assert main([*command, *backbones, "--batch-size", "4", "--epochs", "1", "--json"]) == 0
    output = json.loads(capsys.readouterr().out)
    assert DualEncoder.load(tmp_path / "mine").fingerprint == output["fingerprint"]
    assert main([*command, "--text-backbone", str(text)]) == 2
    assert "go together" in capsys.readouterr().err
