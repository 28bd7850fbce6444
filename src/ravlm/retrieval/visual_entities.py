"""Recognize the entity that an image shows: the one whose mean image is nearest.

The metric is fitted to the base. Images of one entity differ in light, crop and pose; how they
differ is learned from the base's own images (others of the same entity, and changed copies). Those
directions count less (linear discriminant analysis, Fisher 1936; shrinkage, Friedman 1989)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DIMENSIONS = 256
SHRINKAGE = 0.5
"""Shrinkage of the within-entity scatter towards a sphere, in units of its mean variance."""
_MEAN_PRIOR = 4.0
"""The mean of this many images is trusted by half."""
CANDIDATES = 64
"""Stored images that are compared: the nearest ones by the encoder's own cosine."""
_SHARPNESS = 15.0
"""An entity's share is proportional to exp(sharpness x cosine)."""
FEATURES = ("cosine", "margin", "share")


@dataclass(frozen=True)
class Metric:
    """A linear map after which the cosine tells entities apart.

    It shrinks some directions and keeps all others.
    """

    mean: np.ndarray
    """(dim,), subtracted first"""
    directions: np.ndarray
    """(dim, d), orthonormal"""
    factors: np.ndarray
    """(d,), what remains of each direction, 0 to 1"""

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Map vectors (n, dim) of the encoder to unit vectors (n, dim) of the metric."""
        centered = vectors - self.mean
        coordinates = centered @ self.directions  # (n, d)
        mapped = centered + (coordinates * (self.factors - 1)) @ self.directions.T
        return mapped / np.maximum(np.linalg.norm(mapped, axis=-1, keepdims=True), 1e-9)


@dataclass(frozen=True)
class Gallery:
    """Images of a base with the entity that each shows, and changed copies of some of them."""

    vectors: np.ndarray
    """(n, dim)"""
    entities: np.ndarray
    """(n,) of str"""
    copies: np.ndarray
    """(c, dim)"""
    originals: np.ndarray
    """(c,), the index of the image that each copy was made from"""

    def without(self, mask: np.ndarray) -> Gallery:
        """Return the gallery without the images of a mask (n,) and without their copies."""
        remaining = ~mask
        new_indices = np.cumsum(remaining) - 1
        copies = remaining[self.originals]
        return Gallery(
            vectors=self.vectors[remaining],
            entities=self.entities[remaining],
            copies=self.copies[copies],
            originals=new_indices[self.originals[copies]],
        )


def principal_axes(vectors: np.ndarray) -> np.ndarray:
    """Return the axes (dim, d) of largest variance of vectors (n, dim); d is at most DIMENSIONS."""
    centered = vectors - vectors.mean(axis=0)
    values, axes = np.linalg.eigh(centered.T @ centered)  # ascending
    rank = int((values > values[-1] * 1e-7).sum())
    num_axes = max(1, min(DIMENSIONS, len(vectors) - 1, rank))
    return np.ascontiguousarray(axes[:, ::-1][:, :num_axes])


def fit_metric(gallery: Gallery, axes: np.ndarray) -> Metric:
    """Fit the metric of a gallery within the principal axes (dim, d)."""
    count = len(gallery.vectors)
    mean = gallery.vectors.sum(axis=0) / (count + _MEAN_PRIOR)
    points = (gallery.vectors - mean) @ axes  # (n, d)
    copies = (gallery.copies - mean) @ axes  # (c, d)
    differences = [(copies - points[gallery.originals]) / np.sqrt(2)]
    for entity, size in zip(*np.unique(gallery.entities, return_counts=True), strict=True):
        if size > 1:
            members = points[gallery.entities == entity]
            differences.append((members - members.mean(axis=0)) * np.sqrt(size / (size - 1)))
    rows = np.concatenate(differences)
    if not np.any(rows):
        return Metric(mean, axes[:, :0], np.zeros(0))

    variances, directions = np.linalg.eigh(rows.T @ rows / len(rows))
    variances = np.maximum(variances, 0)
    # Few samples: closer to a sphere.
    floor = SHRINKAGE * variances.mean() * (1 + len(variances) / len(rows))
    return Metric(mean, axes @ directions, np.sqrt(floor / (floor + variances)))


@dataclass(frozen=True)
class EntityRanking:
    """The entities that an image may show, likeliest first."""

    entities: tuple[str, ...]
    shares: tuple[float, ...]
    """Probability of each entity, if the image shows one of them; they sum to 1."""
    cosines: tuple[float, ...]
    """Cosine of each entity, in the metric."""
    nearest: tuple[int, ...]
    """Index of the nearest image of each entity among the candidates."""
    features: np.ndarray
    """(3,), see `FEATURES`: the best entity's cosine, its margin over the runner-up, its share."""


def rank_entities(
    query: np.ndarray, candidates: np.ndarray, entities: Sequence[str]
) -> EntityRanking:
    """Compare a query with the mean of each entity's images, in the metric.

    `query` is (d,), `candidates` (n >= 1, d), and `entities` has one name for each candidate.
    """
    names = list(dict.fromkeys(map(str, entities)))
    members = np.array(names)[:, None] == np.asarray(entities)[None, :]  # (names, n)
    means = members @ candidates  # (names, d)
    cosines = means @ query / np.maximum(np.linalg.norm(means, axis=1), 1e-9)
    nearest = np.where(members, (candidates @ query)[None, :], -np.inf).argmax(axis=1)

    order = np.argsort(-cosines, kind="stable")
    shares = np.exp(_SHARPNESS * (cosines[order] - cosines[order[0]]))
    shares /= shares.sum()
    # Unrelated entities have a cosine of 0 on average.
    runner_up = cosines[order[1]] if len(order) > 1 else 0.0
    features = np.array([cosines[order[0]], cosines[order[0]] - runner_up, shares[0]])
    return EntityRanking(
        entities=tuple(names[i] for i in order),
        shares=tuple(shares.tolist()),
        cosines=tuple(cosines[order].tolist()),
        nearest=tuple(nearest[order].tolist()),
        features=features,
    )
