"""Telling entities apart by their images' vectors."""

from __future__ import annotations

import numpy as np
import pytest

from ravlm.retrieval.visual_entities import (
    Gallery,
    Metric,
    fit_metric,
    principal_axes,
    rank_entities,
)

NO_COPIES = np.zeros((0, 4), np.float32)


def gallery(
    vectors: list[list[float]], entities: list[str], copies: np.ndarray = NO_COPIES
) -> Gallery:
    rows = np.array(vectors, np.float32)
    return Gallery(rows, np.array(entities), copies, np.arange(len(copies)))


def test_a_direction_in_which_one_entity_varies_counts_less() -> None:
    """Axis 2 is light and dark: within each entity it varies most. A query like "a" but for the
    light was taken for "b" by the plain cosine."""
    light = np.random.default_rng(0).normal(0, 2, 60)
    rows = [
        [[1, 0, x, 0], [0, 1, x, 0], [-1, -1, x, 0]][i % 3] for i, x in enumerate(light.tolist())
    ]
    images = gallery(rows, ["a", "b", "c"] * 20)
    metric = fit_metric(images, principal_axes(images.vectors))
    query, means = np.array([[1.0, 0.1, 1.5, 0.0]]), np.array([[1.0, 0, -1, 0], [0, 1, 1, 0]])
    plain = means @ query[0] / np.linalg.norm(means, axis=1)
    assert plain[1] > plain[0]
    mapped = metric(means) @ metric(query)[0]
    assert mapped[0] > mapped[1]


def test_what_is_foreign_to_the_base_stays_foreign() -> None:
    """A metric that kept only the base's own directions made strangers look like whatever they
    resembled a little: in a base of six, three in four of them were answered."""
    images = gallery([[1, 0, 0, 0], [-1, 0.1, 0, 0], [0, 1, 0, 0]], ["a", "b", "c"])
    metric = fit_metric(images, principal_axes(images.vectors))
    stranger = metric(np.array([[0.2, 0.0, 0.0, 1.0]]))[0]
    assert float((metric(images.vectors) @ stranger).max()) < 0.5


def test_the_metric_without_any_variation_is_the_plain_cosine() -> None:
    images = gallery([[1, 0, 0, 0], [0, 1, 0, 0]], ["a", "b"])
    metric = fit_metric(images, principal_axes(images.vectors))
    centred = images.vectors - metric.mean
    np.testing.assert_allclose(
        metric(images.vectors), centred / np.linalg.norm(centred, axis=1, keepdims=True), atol=1e-6
    )


def test_directions_are_shrunk_by_their_factors() -> None:
    metric = Metric(np.zeros(2), np.array([[1.0], [0.0]]), np.array([0.5]))
    np.testing.assert_allclose(
        metric(np.array([[2.0, 1.0], [0.0, 3.0]])), [[0.5**0.5, 0.5**0.5], [0.0, 1.0]]
    )


def test_the_mean_image_of_an_entity_decides() -> None:
    """One odd image of "b" lies nearest, but on the whole "a" is nearer."""
    rows = np.array([[1.0, 0.0], [0.9, 0.1], [0.95, 0.31], [-1.0, 0.2]])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    ranking = rank_entities(rows[2] * 0.97 + rows[0] * 0.03, rows, ["a", "a", "b", "b"])
    assert ranking.entities == ("a", "b")
    assert ranking.nearest == (1, 2)
    assert sum(ranking.shares) == pytest.approx(1)
    assert ranking.features[0] == pytest.approx(ranking.cosines[0])
    assert ranking.features[1] == pytest.approx(ranking.cosines[0] - ranking.cosines[1])


def test_a_single_entity_has_a_margin_over_strangers() -> None:
    ranking = rank_entities(np.array([1.0, 0.0]), np.array([[0.6, 0.8]]), ["a"])
    np.testing.assert_allclose(ranking.features, [0.6, 0.6, 1.0])


def test_leaving_images_out_leaves_their_copies_out() -> None:
    images = Gallery(
        np.eye(3), np.array(["a", "b", "c"]), np.eye(3)[[2, 0, 1]], np.array([2, 0, 1])
    )
    remaining = images.without(np.array([True, False, False]))
    assert remaining.entities.tolist() == ["b", "c"]
    assert remaining.originals.tolist() == [1, 0]
    np.testing.assert_array_equal(remaining.copies, remaining.vectors[remaining.originals])
