"""`train_encoder`: contrastive training of an encoder on pairs, by whatever way suits it.

Knows which encoders can be trained; how a step looks is `contrastive.py`'s business.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from ravlm import runtime
from ravlm.checkpoint import CONFIG, finish_checkpoint, move_into
from ravlm.encoders.base import DualEncoder
from ravlm.encoders.starter.encoder import StarterEncoder
from ravlm.encoders.torch_encoder import TowerEncoder
from ravlm.errors import InvalidInput
from ravlm.records import Pair
from ravlm.training.contrastive import ContrastiveConfig, ContrastiveStep
from ravlm.training.features import pair_features
from ravlm.training.torch_towers import TowerStep
from ravlm.training.trainer import fit


def train_encoder(
    encoder: DualEncoder,
    pairs: Iterable[Pair],
    config: ContrastiveConfig = ContrastiveConfig(),  # noqa: B008 frozen
    folder: str | Path = "runs/encoder",
    report: Callable[[str], None] = lambda line: None,
) -> DualEncoder:
    """Train `encoder` on `pairs` and return the trained one; `encoder` itself is left as it is.

    `folder` becomes the trained encoder's checkpoint and keeps log.jsonl and cached features; a run
    that was killed goes on there. `report` gets a line of figures now and then. Raises InvalidInput
    for data that can't be trained on."""
    folder = Path(folder)
    if (folder / CONFIG).exists():
        raise InvalidInput(
            f'"{folder}" is a trained encoder already; choose another folder, or remove it.'
        )
    train, held_out = split(pairs, config.held_out)
    if not train:
        raise InvalidInput("There is no pair to train on: each needs a picture and a text.")
    if isinstance(encoder, StarterEncoder):
        return _train_heads(encoder, train, held_out, config, folder, report)
    if isinstance(encoder, TowerEncoder):
        return _train_towers(copy.deepcopy(encoder), train, held_out, config, folder, report)
    raise InvalidInput(
        f'The encoder "{encoder.name}" can\'t be trained; begin from "starter" or from two backbones.'
    )


def _train_heads(
    encoder: StarterEncoder,
    train: list[Pair],
    held_out: list[Pair],
    config: ContrastiveConfig,
    folder: Path,
    report: Callable[[str], None],
) -> DualEncoder:
    loop, size = config.loop(len(train)), encoder.image_size
    with runtime.in_turn():
        features = pair_features(train, size, config.views, folder / "features" / "train")
        unseen = (
            pair_features(held_out, size, 1, folder / "features" / "held-out") if held_out else None
        )
    step = ContrastiveStep(features, replace(config, class_words=0), held_out=unseen)
    fit(step, loop, folder, report)
    layout = replace(encoder.config, members=1, opened=False)
    layout = replace(layout, aligned_dim=config.aligned_dim, hidden_dim=config.hidden_dim)
    heads = step.heads.image.arrays("image.0") | step.heads.text.arrays("text.0")
    trained = encoder.with_heads(layout, heads, str(folder.resolve()))
    if runtime.rank()[0] == 0:
        finish_checkpoint(folder, *trained.checkpoint())
    return trained


def _train_towers(
    encoder: TowerEncoder,
    train: list[Pair],
    held_out: list[Pair],
    config: ContrastiveConfig,
    folder: Path,
    report: Callable[[str], None],
) -> DualEncoder:
    loop = config.loop(len(train))
    fit(TowerStep(encoder, train, config, held_out), loop, folder, report)
    if runtime.rank()[0] > 0:
        return encoder
    encoder.save(folder / "whole")
    move_into(folder / "whole", folder)
    return DualEncoder.load(folder)


def split(pairs: Iterable[Pair], share: float) -> tuple[list[Pair], list[Pair]]:
    """Pairs to train on, and about `share` of them held out: which ones depends on each picture's
    name alone."""
    train: list[Pair] = []
    held_out: list[Pair] = []
    for pair in pairs:
        key = hashlib.sha256((pair.id or str(pair.image)).encode()).digest()
        (held_out if int.from_bytes(key[:4]) < share * 2**32 else train).append(pair)
    return train, held_out
