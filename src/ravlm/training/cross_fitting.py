"""Cross-fitting: retrieve evidence for training as for unseen images.

An encoder that was trained on an image and its captions retrieves far better captions for it, even
captions of other images, than for a new image; a generator trained on such evidence trusts it too
much. Therefore the pairs are divided into folds, heads are trained on all folds but one, and they
retrieve captions of those folds for the images of the remaining fold. (Cross-fitting: Chernozhukov
et al. 2018, arXiv:1608.00060.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ravlm.encoders.starter.config import StarterConfig
from ravlm.errors import InvalidInput
from ravlm.records import Pair
from ravlm.retrieval.leakage import NEAR_DUPLICATE, leakage_keys
from ravlm.training.contrastive import ContrastiveHeads, ContrastiveStep, EncoderTrainingConfig
from ravlm.training.evidence import EvidenceTexts, no_evidence
from ravlm.training.features import PairFeatures, pair_features
from ravlm.training.trainer import fit_once, silent

CROSS_FITTING = "crossfit"
"""Folder of the features and heads, within that of a training."""
FOLD_CONFIG = EncoderTrainingConfig(batch_size=1000, epochs=30, aligned_dim=256)
"""How the heads of a fold are trained, unless there are too few pairs."""


def cross_fit_evidence(
    pairs: Sequence[Pair],
    features: PairFeatures,
    vectors: np.ndarray,
    num_candidates: int,
    folds: int,
    folder: Path,
    config: EncoderTrainingConfig = FOLD_CONFIG,
    report: Callable[[str], None] = silent,
) -> EvidenceTexts:
    """Retrieve captions of other pairs for each pair, with heads that were not trained on its
    image.

    Returns at most one caption for each other pair, the nearest `num_candidates`. `features`:
    pooled features of the pairs, for training the heads. `vectors` (num_pairs, dim): unit vectors
    of the images, for detecting near-duplicates. The heads are cached in `folder`. Raises
    InvalidInput if there are fewer than two folds, or too few pairs for them."""
    max_folds = len(pairs) // 2
    if not 2 <= folds <= max_folds:
        raise InvalidInput(
            f"folds is {folds}; with {len(pairs)} pairs it must be between 2 and {max_folds}."
        )
    fold_of = np.random.default_rng(config.seed).permutation(len(pairs)) % folds
    related = _related_pairs(pairs)
    entries, scores = no_evidence(len(pairs), num_candidates)
    for fold in range(folds):
        train, rows = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        train_features = features.select(train)
        heads = _train_heads(train_features, config, folder / f"fold-{fold}", report)
        images, texts = _encode(heads, features.images[0][rows], train_features.texts)
        for row, image in zip(rows, images, strict=True):
            is_leak = vectors[train] @ vectors[row] >= NEAR_DUPLICATE
            is_leak |= np.isin(train, related[row])
            cosines = texts @ image
            best = _best_texts(cosines, train_features.offsets, is_leak, num_candidates)
            numbers = _original_numbers(best, train_features, train, features)
            entries[row, : len(numbers)] = numbers
            scores[row, : len(numbers)] = cosines[best]
    texts_of_pairs = [text for pair in pairs for text in pair.texts]
    text_offsets = np.arange(len(texts_of_pairs) + 1)  # each text is an entry of its own
    return EvidenceTexts(entries, scores, text_offsets, texts_of_pairs)


def cross_fit_pairs(
    pairs: Sequence[Pair],
    vectors: np.ndarray,
    num_candidates: int,
    folds: int,
    folder: Path,
    report: Callable[[str], None] = silent,
) -> EvidenceTexts:
    """Like `cross_fit_evidence`; the features of the pairs are cached in `folder`, too."""
    size = StarterConfig().image_size
    features = pair_features(pairs, size, FOLD_CONFIG.views, folder / "features")
    return cross_fit_evidence(
        pairs, features, vectors, num_candidates, folds, folder, FOLD_CONFIG, report
    )


def _related_pairs(pairs: Sequence[Pair]) -> list[list[int]]:
    """Return for each pair the numbers of the pairs with a common leakage key, itself included."""
    numbers_of: dict[tuple[str, str], list[int]] = {}
    for number, pair in enumerate(pairs):
        for key in leakage_keys(pair):
            numbers_of.setdefault(key, []).append(number)
    return [[number for key in leakage_keys(pair) for number in numbers_of[key]] for pair in pairs]


def _train_heads(
    features: PairFeatures,
    config: EncoderTrainingConfig,
    folder: Path,
    report: Callable[[str], None],
) -> ContrastiveHeads:
    num_pairs = len(features.offsets) - 1
    config = replace(config, batch_size=min(config.batch_size, num_pairs))
    step = ContrastiveStep(features, config)
    fit_once(step, config.loop(num_pairs), folder, report)
    return step.heads


@torch.no_grad()
def _encode(
    heads: ContrastiveHeads, images: np.ndarray, texts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    image_vectors = heads.image(torch.from_numpy(np.asarray(images))).numpy()
    text_vectors = heads.text(torch.from_numpy(texts)).numpy()
    return image_vectors, text_vectors


def _best_texts(
    cosines: np.ndarray, offsets: np.ndarray, is_leak: np.ndarray, k: int
) -> np.ndarray:
    """Return the numbers of the best texts of the k nearest pairs that do not leak, nearest
    first."""
    best = np.maximum.reduceat(cosines, offsets[:-1])  # (num_pairs,)
    best[is_leak] = -np.inf
    order = np.argsort(-best, kind="stable")[:k]
    order = order[best[order] > -np.inf]
    texts = [offsets[i] + int(cosines[offsets[i] : offsets[i + 1]].argmax()) for i in order]
    return np.array(texts, np.int64)


def _original_numbers(
    texts: np.ndarray, subset: PairFeatures, pair_numbers: np.ndarray, features: PairFeatures
) -> np.ndarray:
    """Convert text numbers within a subset of the pairs to text numbers within all pairs."""
    pairs = subset.owner[texts]
    return features.offsets[pair_numbers[pairs]] + texts - subset.offsets[pairs]
