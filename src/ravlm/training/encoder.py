"""`train_encoder`: contrastive training of an encoder on image-text pairs."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ravlm import runtime
from ravlm.checkpoint import CONFIG, move_checkpoint_into, save_checkpoint_into
from ravlm.encoders.auto import load_encoder
from ravlm.encoders.base import Encoder
from ravlm.encoders.starter.encoder import StarterEncoder
from ravlm.encoders.torch_encoder import TorchEncoder
from ravlm.errors import InvalidInput
from ravlm.records import Pair
from ravlm.training.contrastive import ContrastiveStep, EncoderTrainingConfig
from ravlm.training.features import pair_features
from ravlm.training.torch_towers import TowerStep
from ravlm.training.trainer import fit, silent


def train_encoder(
    encoder: Encoder,
    pairs: Iterable[Pair],
    folder: str | Path,
    config: EncoderTrainingConfig = EncoderTrainingConfig(),  # noqa: B008 frozen
    report: Callable[[str], None] = silent,
) -> Encoder:
    """Train `encoder` on `pairs` and return the trained one; `encoder` itself is not changed.

        encoder = ravlm.DualEncoder.load("starter")
        ravlm.train_encoder(encoder, ravlm.read_pairs("captions.jsonl"), "runs/mine")

    `folder` becomes the checkpoint of the trained encoder and keeps log.jsonl and cached features;
    a run that was killed resumes there. `report` is called with each line of the log. Raises
    InvalidInput for data that cannot be trained on, or if `folder` contains a trained encoder."""
    folder = Path(folder)
    if (folder / CONFIG).exists():
        raise InvalidInput(
            f'"{folder}" already contains a trained encoder. Choose another folder, or delete it.'
        )
    train, held_out = split_pairs(pairs, config.held_out)
    if not train:
        raise InvalidInput("There are no pairs to train on. Each needs an image and a text.")
    if isinstance(encoder, StarterEncoder):
        return _train_heads(encoder, train, held_out, folder, config, report)
    if isinstance(encoder, TorchEncoder):
        return _train_towers(copy.deepcopy(encoder), train, held_out, folder, config, report)
    raise InvalidInput(
        f'The encoder "{encoder.name}" cannot be trained. Start from "starter", from a CLIP-like '
        "model or from two backbones."
    )


def _train_heads(
    encoder: StarterEncoder,
    train: list[Pair],
    held_out: list[Pair],
    folder: Path,
    config: EncoderTrainingConfig,
    report: Callable[[str], None],
) -> Encoder:
    loop = config.loop(len(train))
    size = encoder.image_size
    held_out_features = None
    with runtime.main_process_first():
        features = pair_features(train, size, config.views, folder / "features" / "train")
        if held_out:
            held_out_features = pair_features(held_out, size, 1, folder / "features" / "held-out")
    config = replace(config, class_words=0)
    step = ContrastiveStep(features, config, held_out=held_out_features)
    fit(step, loop, folder, report)

    layout = replace(
        encoder.config,
        members=1,
        has_trained_stages=False,
        aligned_dim=config.aligned_dim,
        hidden_dim=config.hidden_dim,
    )
    heads = step.heads.image.arrays("image.0") | step.heads.text.arrays("text.0")
    trained = encoder.with_heads(layout, heads, str(folder.resolve()))
    if runtime.process_index() == 0:
        save_checkpoint_into(folder, *trained.checkpoint())
    return trained


def _train_towers(
    encoder: TorchEncoder,
    train: list[Pair],
    held_out: list[Pair],
    folder: Path,
    config: EncoderTrainingConfig,
    report: Callable[[str], None],
) -> Encoder:
    loop = config.loop(len(train))
    fit(TowerStep(encoder, train, config, held_out), loop, folder, report)
    if runtime.process_index() > 0:
        return encoder
    checkpoint = folder / "whole"
    encoder.save(checkpoint)
    move_checkpoint_into(checkpoint, folder)
    return load_encoder(folder)


def split_pairs(pairs: Iterable[Pair], held_out: float) -> tuple[list[Pair], list[Pair]]:
    """Split off about the fraction `held_out` of the pairs. The split depends only on the id of a
    pair, or else on its image."""
    train_pairs: list[Pair] = []
    held_out_pairs: list[Pair] = []
    for pair in pairs:
        digest = hashlib.sha256((pair.id or str(pair.image)).encode()).digest()
        is_held_out = int.from_bytes(digest[:4]) < held_out * 2**32
        (held_out_pairs if is_held_out else train_pairs).append(pair)
    return train_pairs, held_out_pairs
