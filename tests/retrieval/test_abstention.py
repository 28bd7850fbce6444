"""Calibration without labels, on made-up vectors."""

from __future__ import annotations

import numpy as np
import pytest

from ravlm.retrieval.abstention import (
    OodClassifier,
    ScoreSamples,
    calibrate,
    fit_classifier,
    measure,
    read_prior,
)
from ravlm.retrieval.visual_entities import Gallery, rank_entities

DIM = 32


def synthetic_base(
    entities: int, images: int, deviation: float, seed: int = 0
) -> tuple[Gallery, np.ndarray]:
    """Pictures scattered around a direction for each entity, and those directions."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(entities, DIM))
    rows = (centers[:, None] + deviation * rng.normal(size=(entities, images, DIM))).reshape(
        -1, DIM
    )
    copies = rows + 0.5 * deviation * rng.normal(size=rows.shape)
    names = np.repeat([f"e{i}" for i in range(entities)], images)
    return Gallery(unit(rows), names, unit(copies), np.arange(len(rows))), centers


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def answer_rate(gallery: Gallery, queries: np.ndarray) -> float:
    metric, classifier = calibrate(gallery, read_prior())
    assert metric is not None
    mapped = metric(gallery.vectors)
    probabilities = [
        classifier.probability(rank_entities(q, mapped, gallery.entities).features)
        for q in metric(unit(queries))
    ]
    return float(np.mean(np.array(probabilities) >= classifier.default_threshold))


@pytest.mark.parametrize(("entities", "images"), [(40, 4), (40, 1), (6, 1), (2, 3)])
def test_the_present_are_answered_and_the_absent_are_not(entities: int, images: int) -> None:
    gallery, centers = synthetic_base(entities, images, deviation=0.35)
    rng = np.random.default_rng(1)
    near = np.repeat(centers, 5, axis=0) + 0.35 * rng.normal(size=(5 * entities, DIM))
    assert answer_rate(gallery, near) >= 0.85
    assert answer_rate(gallery, rng.normal(size=(200, DIM))) <= 0.1


def test_a_base_of_one_image_or_none_leans_on_the_prior() -> None:
    gallery, _ = synthetic_base(1, 1, deviation=0.3)
    metric, classifier = calibrate(gallery, read_prior())
    assert metric is None
    assert (
        classifier.probability(np.array([0.95, 0.95, 1.0]))
        > classifier.default_threshold
        > classifier.probability(np.array([0.1, 0.02, 0.3]))
    )
    empty = Gallery(np.zeros((0, DIM)), np.zeros(0, str), np.zeros((0, DIM)), np.zeros(0, np.int64))
    assert calibrate(empty, read_prior())[0] is None


def test_five_in_a_hundred_present_ones_lie_below_the_threshold() -> None:
    rng = np.random.default_rng(0)
    present = np.column_stack(
        [rng.normal(0.7, 0.1, 2000), rng.normal(0.4, 0.1, 2000), np.full(2000, 0.9)]
    )
    absent = np.column_stack(
        [rng.normal(0.4, 0.1, 2000), rng.normal(0.1, 0.05, 2000), np.full(2000, 0.5)]
    )
    classifier = fit_classifier(ScoreSamples(present, absent), read_prior())
    refused = np.mean(
        [classifier.probability(row) < classifier.default_threshold for row in present]
    )
    assert 0.03 <= refused <= 0.07


def test_a_stricter_wish_moves_the_threshold_up_and_never_down() -> None:
    classifier = OodClassifier(np.zeros(3), 0.0, 0.4, np.array([0.1, 0.2, 0.3, 0.5, 0.9]))
    assert classifier.threshold(None) == classifier.threshold(1.0) == 0.4
    assert 0.5 < classifier.threshold(0.2) < 0.51
    assert classifier.threshold(0.0) > 0.9


def test_an_image_under_two_ids_is_no_absent_one_and_no_rival() -> None:
    """A base of five photos, one of them stored twice, declined its own photo of a cat."""
    base, _ = synthetic_base(5, 1, deviation=0.1)
    twice = np.append(np.arange(5), 0)
    names = np.append(base.entities, "again")
    doubled = Gallery(base.vectors[twice], names, base.copies, base.originals)
    samples = measure(doubled, np.eye(DIM))
    assert samples.absent[:, 0].max() < 0.9  # the cosine was 1
    assert samples.present[:, 1].min() > 0.1  # the margin was 0
