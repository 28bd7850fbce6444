"""Evidence for training that is found as it will be found for pictures nobody has seen:
cross-fitting.

An encoder that was trained on a picture and its captions finds far better captions for it, also
among those of other pictures, than it finds for a new one; a generator trained on such evidence
trusts it too much. So the pairs are cut into folds, heads are trained on all folds but one, and
they find captions of those folds for the pictures of that one. (Cross-fitting: Chernozhukov et al.
2018, arXiv:1608.00060.) Knows no generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ravlm.errors import InvalidInput
from ravlm.records import Pair
from ravlm.training.caption_dataset import NEAR_DUPLICATE, EvidenceTexts, marks
from ravlm.training.contrastive import ContrastiveConfig, ContrastiveStep
from ravlm.training.features import PairFeatures
from ravlm.training.trainer import fit_once

HEADS = ContrastiveConfig(batch=1000, epochs=30, aligned_dim=256)
"""How the heads of a fold are trained, unless there are too few pairs."""


def cross_fitted(
    pairs: Sequence[Pair],
    features: PairFeatures,
    vectors: np.ndarray,
    most: int,
    folds: int,
    folder: Path,
    config: ContrastiveConfig = HEADS,
    report: Callable[[str], None] = lambda line: None,
) -> EvidenceTexts:
    """For each pair the `most` captions of other pairs that heads which never saw its picture find
    for it, one a pair, nearest first.

    `features`: the pairs' pooled features, which the heads are trained on. `vectors` (pairs, dim):
    unit vectors of the pictures, by which copies are told. `folder` keeps the heads. Raises
    InvalidInput for fewer than two folds, or pairs that are too few for them."""
    if not 2 <= folds <= len(pairs) // 2:
        raise InvalidInput(
            f"folds is {folds}; 2 to {len(pairs) // 2} are possible with {len(pairs)} pairs."
        )
    fold_of = np.random.default_rng(config.seed).permutation(len(pairs)) % folds
    near, scores = (
        np.full((len(pairs), most), -1, np.int64),
        np.full((len(pairs), most), -np.inf, np.float32),
    )
    sharing: dict[object, list[int]] = {}
    for number, pair in enumerate(pairs):
        for mark in marks(pair):
            sharing.setdefault(mark, []).append(number)
    for fold in range(folds):
        rest, own = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        seen, others = _some(features, rest), vectors[rest]
        step = ContrastiveStep(seen, replace(config, batch=min(config.batch, len(rest))))
        fit_once(step, step.config.loop(len(rest)), folder / f"fold-{fold}", report)
        with torch.no_grad():
            pictures = step.heads.image(
                torch.from_numpy(np.asarray(features.images[0][own]))
            ).numpy()
            texts = step.heads.text(torch.from_numpy(seen.texts)).numpy()
        for picture, row in enumerate(own):
            cosines = texts @ pictures[picture]
            best = np.maximum.reduceat(cosines, seen.offsets[:-1])
            best[others @ vectors[row] >= NEAR_DUPLICATE] = -np.inf
            best[
                np.isin(rest, [other for mark in marks(pairs[int(row)]) for other in sharing[mark]])
            ] = -np.inf
            for column, place in enumerate(np.argsort(-best, kind="stable")[:most]):
                if best[place] == -np.inf:
                    break
                first, last = seen.offsets[place], seen.offsets[place + 1]
                text = int(cosines[first:last].argmax())
                near[row, column] = features.offsets[rest[place]] + text
                scores[row, column] = best[place]
    texts_of = np.arange(features.offsets[-1] + 1)  # each text stands for itself
    return EvidenceTexts(near, scores, texts_of, [text for pair in pairs for text in pair.texts])


def _some(features: PairFeatures, rows: np.ndarray) -> PairFeatures:
    """The features of some of the pairs."""
    counts = np.diff(features.offsets)[rows]
    texts = np.concatenate(
        [np.arange(features.offsets[row], features.offsets[row + 1]) for row in rows]
    )
    return PairFeatures(features.images[:, rows], features.texts[texts], np.cumsum([0, *counts]))
