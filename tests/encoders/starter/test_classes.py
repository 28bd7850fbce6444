"""The classes of the image network as words."""

from __future__ import annotations

import numpy as np
import pytest

from ravlm.encoders.starter.classes import ImageClasses

CLASSES = ImageClasses()


def features_of(*numbers: int) -> np.ndarray:
    """Return pooled features (1280,) for which these classes are likely, to equal parts."""
    weight, bias = CLASSES.classifier
    target = np.full(1000, -6.0)
    target[list(numbers)] = 6.0
    return np.linalg.lstsq(weight.T, target - bias, rcond=None)[0].astype(np.float32)


def test_names() -> None:
    assert len(CLASSES.names) == 1000
    assert CLASSES.names[285] == "Egyptian cat"
    assert "tabby cat" in CLASSES.synonyms[281]


def test_probabilities_are_those_of_the_classifier() -> None:
    features = np.stack([features_of(285), features_of(954)])
    probabilities = CLASSES.probabilities(features)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    assert [best[0][0] for best in CLASSES.most_likely(features, k=2)] == ["Egyptian cat", "banana"]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [((285, 281), {"cat"}), ((831,), {"studio couch", "couch", "sofa", "furniture"})],
)
def test_the_word_that_most_classes_share_wins(numbers: tuple[int, ...], words: set[str]) -> None:
    """Of two kinds of cats, each with a probability of one half, the answer is "cat"."""
    word, probability = CLASSES.everyday_word(features_of(*numbers))
    assert word in words
    assert probability > 0.9
