"""Cross-fitted evidence: found by heads that never saw the picture, and never a picture's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ravlm.errors import InvalidInput
from ravlm.records import Pair
from ravlm.training.contrastive import EncoderTrainingConfig
from ravlm.training.cross_fitting import cross_fit_evidence
from ravlm.training.features import PairFeatures

KINDS, EACH = 6, 8
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
    """Pictures of six kinds, two captions each that tell the kind; picture 1 is a copy of picture
    0."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(np.arange(KINDS), EACH)
    axes, words = rng.normal(size=(KINDS, 20)), rng.normal(size=(KINDS, 12))
    images = (axes[kinds] + 0.3 * rng.normal(size=(len(kinds), 20))).astype(np.float32)
    images[1] = images[0]
    texts = (words[np.repeat(kinds, 2)] + 0.3 * rng.normal(size=(2 * len(kinds), 12))).astype(
        np.float32
    )
    made = [
        Pair(
            f"{i}.png",
            (f"kind {kind}", f"again {kind}"),
            f"p{i}",
            {"group": i if i in (2, 3) else i // 2 * 2},
        )
        for i, kind in enumerate(kinds)
    ]
    vectors = images / np.linalg.norm(images, axis=1, keepdims=True)
    return made, PairFeatures(images[None], texts, np.arange(0, 2 * len(kinds) + 1, 2)), vectors


def test_what_is_found_is_of_the_kind_and_never_a_pictures_own(tmp_path: Path) -> None:
    made, features, vectors = pairs()
    found = cross_fit_evidence(made, features, vectors, 5, 3, tmp_path, CONFIG)
    assert found.entries.shape == (48, 5)
    assert (found.entries >= 0).all()
    owner = features.owner[found.entries]
    right = [
        [made[o].texts[0] == pair.texts[0] for o in row]
        for pair, row in zip(made, owner.tolist(), strict=True)
    ]
    assert np.mean(right) > 0.7  # by chance 0.15
    assert all(len(set(row)) == 5 for row in owner.tolist())  # one caption a pair
    assert (np.diff(found.scores, axis=1) <= 0).all()
    groups = np.array([pair.metadata["group"] for pair in made])
    assert (groups[owner] != groups[:, None]).all()
    assert 1 not in owner[0]  # a copy
    assert found.texts[found.entries[0, 0]] in ("kind 0", "again 0")


def test_the_folds_are_heeded(tmp_path: Path) -> None:
    """No caption comes from the picture's own fold: the heads that look were not trained on
    that."""
    made, features, vectors = pairs()
    found = cross_fit_evidence(made, features, vectors, 47, 2, tmp_path, CONFIG)
    fold_of = np.random.default_rng(CONFIG.seed).permutation(48) % 2
    for row, near in enumerate(found.entries):
        there = near[near >= 0]
        assert len(there) >= 22  # the other fold, but for a copy or a group
        assert (fold_of[features.owner[there]] != fold_of[row]).all()
        assert np.isneginf(found.scores[row, len(there) :]).all()
    with pytest.raises(InvalidInput, match="folds is 1; with 48 pairs it must be between 2 and 24"):
        cross_fit_evidence(made, features, vectors, 5, 1, tmp_path, CONFIG)
