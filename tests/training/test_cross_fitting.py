"""Cross-fitting: evidence comes from heads that were not trained on the image, and never leaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import InvalidInput
from ravlm.records import Pair
from ravlm.training.contrastive import EncoderTrainingConfig
from ravlm.training.cross_fitting import cross_fit_evidence
from ravlm.training.features import PairFeatures

KINDS, IMAGES_PER_KIND = 6, 8
CONFIG = EncoderTrainingConfig(
    epochs=40,
    batch_size=16,
    learning_rate=5e-3,
    aligned_dim=8,
    hidden_dim=32,
    class_words=0,
    views=1,
)


def pairs() -> tuple[list[Pair], PairFeatures, np.ndarray]:
    """Images of six kinds with two captions that name the kind; image 1 is a copy of image 0."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(KINDS), IMAGES_PER_KIND)
    axes, words = rng.normal(size=(KINDS, 20)), rng.normal(size=(KINDS, 12))
    images = (axes[kinds] + 0.3 * rng.normal(size=(len(kinds), 20))).astype(np.float32)
    images[1] = images[0]
    texts = (words[np.repeat(kinds, 2)] + 0.3 * rng.normal(size=(2 * len(kinds), 12))).astype(
        np.float32
    )
    sample_pairs = [
        Pair(
            f"{i}.png",
            (f"kind {kind}", f"again {kind}"),
            f"p{i}",
            {"group": i if i in (2, 3) else i // 2 * 2},
        )
        for i, kind in enumerate(kinds)
    ]
    vectors = images / np.linalg.norm(images, axis=1, keepdims=True)
    return (
        sample_pairs,
        PairFeatures(images[None], texts, np.arange(0, 2 * len(kinds) + 1, 2)),
        vectors,
    )


def test_evidence_is_of_the_same_kind_and_does_not_leak(tmp_path: Path) -> None:
    sample_pairs, features, vectors = pairs()
    evidence = cross_fit_evidence(sample_pairs, features, vectors, 5, 3, tmp_path, CONFIG)
    assert evidence.entries.shape == (48, 5)
    assert (evidence.entries >= 0).all()
    owner = features.owner[evidence.entries]
    right = [
        [sample_pairs[o].texts[0] == pair.texts[0] for o in row]
        for pair, row in zip(sample_pairs, owner.tolist(), strict=True)
    ]
    assert np.mean(right) > 0.7  # by chance 0.15
    assert all(len(set(row)) == 5 for row in owner.tolist())  # one caption a pair
    assert (np.diff(evidence.scores, axis=1) <= 0).all()
    groups = np.array([pair.metadata["group"] for pair in sample_pairs])
    assert (groups[owner] != groups[:, None]).all()
    assert 1 not in owner[0]  # a near-duplicate
    assert evidence.texts[evidence.entries[0, 0]] in ("kind 0", "again 0")


def test_evidence_comes_from_the_other_folds(tmp_path: Path) -> None:
    """No caption comes from the image's own fold, which the heads were not trained on."""
    sample_pairs, features, vectors = pairs()
    evidence = cross_fit_evidence(sample_pairs, features, vectors, 47, 2, tmp_path, CONFIG)
    fold_of = np.random.default_rng(CONFIG.seed).permutation(48) % 2
    for row, near in enumerate(evidence.entries):
        entries = near[near >= 0]
        assert len(entries) >= 22  # the other fold, but for a copy or a group
        assert (fold_of[features.owner[entries]] != fold_of[row]).all()
        assert np.isneginf(evidence.scores[row, len(entries) :]).all()
    with pytest.raises(InvalidInput, match="folds is 1; with 48 pairs it must be between 2 and 24"):
        cross_fit_evidence(sample_pairs, features, vectors, 5, 1, tmp_path, CONFIG)
