"""Fine-tuning of the starter's heads on features of its frozen networks.

Few pairs teach little, so training can only help if it is known how far to go: the heads are mixed
with those before training (Wortsman et al. 2022, arXiv:2109.01903), and the share is chosen on
held-out pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ravlm.encoders.starter.encoder import StarterEncoder
from ravlm.records import Modality
from ravlm.training.contrastive import (
    TRAINED_HEADS_RATE,
    EncoderTrainingConfig,
    FeatureStep,
    ProjectionHead,
)
from ravlm.training.features import PairFeatures
from ravlm.training.held_out import MIN_HELD_OUT, HeldOutComparison, HeldOutRanks
from ravlm.training.tracking import Tracker, silent, untracked
from ravlm.training.trainer import fit_once

FOLDS = 3
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the trained heads in the mixture, from which one is chosen."""
Arrays = Mapping[str, np.ndarray]


class MemberHeads(nn.Module):
    """The heads of all members of one tower: features (n, 1 + stages, width) to unit vectors (n,
    aligned_dim)."""

    def __init__(self, weights: Arrays, tower: Modality, num_members: int, dropout: float) -> None:
        super().__init__()
        self.tower = tower
        self.members = nn.ModuleList(
            ProjectionHead.from_arrays(weights, f"{tower}.{member}", dropout)
            for member in range(num_members)
        )

    def forward(self, features: Tensor) -> Tensor:
        has_stages = features.shape[1] > 1
        parts = [
            head(features[:, member + 1 if has_stages else 0])
            for member, head in enumerate(self.members)
        ]
        return torch.cat(parts, dim=1) / math.sqrt(len(parts))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the weights under their names in the checkpoint."""
        arrays: dict[str, np.ndarray] = {}
        for member, head in enumerate(self.members):
            assert isinstance(head, ProjectionHead)
            arrays |= head.arrays(f"{self.tower}.{member}")
        return arrays


class StarterHeads(nn.Module):
    """The starter's heads, to be trained further, and scale and bias of the loss."""

    def __init__(self, encoder: StarterEncoder, config: EncoderTrainingConfig) -> None:
        super().__init__()
        weights, members = encoder.weights, encoder.config.members
        self.image = MemberHeads(weights, "image", members, config.dropout)
        self.text = MemberHeads(weights, "text", members, config.dropout)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / config.temperature)))
        self.bias = nn.Parameter(torch.tensor(-10.0), requires_grad=config.loss == "sigmoid")

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all weights under their names in the checkpoint."""
        return self.image.arrays() | self.text.arrays()


class TuningStep(FeatureStep):
    """Train the starter's heads further."""

    heads: StarterHeads

    def __init__(
        self, encoder: StarterEncoder, features: PairFeatures, config: EncoderTrainingConfig
    ) -> None:
        super().__init__(StarterHeads(encoder, config), features, config)
        self._start = encoder.fingerprint

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"encoder": self._start}


def tune_heads(
    encoder: StarterEncoder,
    features: PairFeatures,
    config: EncoderTrainingConfig,
    folder: Path,
    report: Callable[[str], None],
    tracker: Tracker,
) -> tuple[StarterEncoder, HeldOutComparison | None]:
    """Return the encoder with the better heads, and the comparison with the heads before training
    (None if nothing is held out).

    `features` of `stage_features`. Up to `MIN_HELD_OUT` / config.held_out pairs, every pair is held
    out once, by cross-validation, and the final heads are trained on all pairs. With more pairs, a
    fraction of them is held out.
    """
    tuning = _Tuning(encoder, features, config)
    folds = held_out_folds(features, config)
    everything = np.ones(features.images.shape[1], bool)
    if not folds:
        return tuning.mixed(tuning.train(everything, folder, report, tracker), 1.0), None
    if len(folds) == 1:
        heads = [tuning.train(~folds[0], folder, report, tracker)]
    else:
        heads = []
        for number, is_held_out in enumerate(folds):
            report(f"Cross-validation: training heads {number + 1} of {len(folds)}.")
            heads.append(tuning.train(~is_held_out, folder / f"fold-{number}"))
    before = fold_ranks(features, folds, [encoder] * len(folds))
    after = {
        share: fold_ranks(features, folds, (tuning.mixed(arrays, share) for arrays in heads))
        for share in SHARES
    }
    share = max(SHARES, key=lambda share: after[share].mean_reciprocal_rank)
    method = "never trained on"
    if len(folds) > 1:
        method = f"{len(folds)}-fold cross-validation, each among the {folds[0].sum()} of its fold"
    comparison = HeldOutComparison(before, after[share], method)
    if not comparison.is_better:
        return encoder, comparison
    if len(folds) > 1:
        heads = [tuning.train(everything, folder, report, tracker)]
    return tuning.mixed(heads[0], share), comparison


def held_out_folds(features: PairFeatures, config: EncoderTrainingConfig) -> list[np.ndarray]:
    """Return which images each fold holds out, (n,) bool: one fold, or several that hold out every
    image once. Equal images are in the same fold. Empty if nothing is to be held out."""
    if not config.held_out:
        return []
    images = np.unique(features.positives.images, return_inverse=True)[1]
    num_images = int(images.max()) + 1
    order = np.random.default_rng(config.seed).permutation(num_images)[images]
    num_held_out = round(config.held_out * num_images)
    if num_held_out >= MIN_HELD_OUT:
        return [order < num_held_out]
    num_folds = min(FOLDS, num_images // 2)
    return [order % num_folds == fold for fold in range(num_folds)]


class _Tuning:
    """Trains and mixes the heads of an encoder."""

    def __init__(
        self, encoder: StarterEncoder, features: PairFeatures, config: EncoderTrainingConfig
    ) -> None:
        self.encoder = encoder
        self.features = features
        rate = config.learning_rate or TRAINED_HEADS_RATE
        self.config = replace(config, learning_rate=rate)

    def train(
        self,
        is_trained_on: np.ndarray,
        folder: Path,
        report: Callable[[str], None] = silent,
        tracker: Tracker = untracked,
    ) -> dict[str, np.ndarray]:
        """Train the heads on some of the pairs, (n,) bool; return their weights."""
        rows = np.flatnonzero(is_trained_on)
        step = TuningStep(self.encoder, self.features.select(rows), self.config)
        fit_once(step, step.config.loop(len(rows)), folder, report, tracker)
        return step.heads.arrays()

    def mixed(self, heads: Arrays, share: float) -> StarterEncoder:
        """Return the encoder with a mixture of its heads and the trained ones."""
        before = self.encoder.weights
        mixture = {
            name: (1 - share) * before[name] + share * array for name, array in heads.items()
        }
        return self.encoder.with_heads(
            self.encoder.config, {**before, **mixture}, self.encoder.name
        )


def fold_ranks(
    features: PairFeatures, folds: Sequence[np.ndarray], encoders: Iterable[StarterEncoder]
) -> HeldOutRanks:
    """Rank the different images and texts of each fold among each other, by the encoder that was
    not trained on them. `folds` as `held_out_folds` returns them."""
    positives = features.positives
    text_ranks, image_ranks = [], []
    for is_held_out, encoder in zip(folds, encoders, strict=True):
        image_rows = _first_rows(positives.images, is_held_out)
        text_rows = _first_rows(positives.texts, is_held_out[features.owner])
        images = features.images[0][image_rows].astype(np.float32)
        texts = features.texts[text_rows].astype(np.float32)
        image_vectors = encoder.image_vectors(*np.moveaxis(images, 1, 0))
        text_vectors = encoder.text_vectors(*np.moveaxis(texts, 1, 0))
        relevant = positives.matrix(image_rows, text_rows).numpy().T
        ranks = HeldOutRanks.of_vectors(image_vectors, text_vectors, relevant)
        text_ranks.append(ranks.text)
        image_ranks.append(ranks.image)
    return HeldOutRanks(np.concatenate(text_ranks), np.concatenate(image_ranks))


def _first_rows(numbers: np.ndarray, is_held_out: np.ndarray) -> np.ndarray:
    """Return the first held-out row of each number."""
    rows = np.flatnonzero(is_held_out)
    return rows[np.unique(numbers[rows], return_index=True)[1]]
