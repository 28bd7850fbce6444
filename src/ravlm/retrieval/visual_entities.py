"""Which of a base's entities a picture shows: the one whose mean picture is nearest, in a metric
fitted to the base.

Two pictures of one entity differ in light, crop and pose; how they differ is learnt from the base's
own pictures (others of the same entity, and changed copies), and those directions count less
(linear discriminant analysis: Fisher 1936; shrinkage: Friedman 1989). Knows vectors and entity
keys; no picture, no store and no question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DIMENSIONS = 256
SHRINKAGE = 0.5
"""How far the within-entity scatter is drawn towards a sphere, in units of its mean variance."""
_FEW = 4.0
"""The mean of so many pictures is half trusted."""
CANDIDATES = 64
"""Stored pictures that are looked at: those nearest by the encoder's own cosine."""
_SHARPNESS = 15.0
"""An entity's share is proportional to exp(sharpness x cosine)."""


@dataclass(frozen=True)
class Metric:
    """A linear map after which the cosine tells entities apart: some directions shrunk, all others
    kept."""

    mean: np.ndarray
    """(dim,), taken off first"""
    directions: np.ndarray
    """(dim, d), orthonormal"""
    factors: np.ndarray
    """(d,), 0 to 1: what is left of each direction"""

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (n, dim) of the encoder to unit vectors (n, dim) of the metric."""
        centred = vectors - self.mean
        mapped = centred + (centred @ self.directions * (self.factors - 1)) @ self.directions.T
        return mapped / np.maximum(np.linalg.norm(mapped, axis=-1, keepdims=True), 1e-9)


@dataclass(frozen=True)
class Gallery:
    """Pictures of a base with the entity each shows, and changed copies of some of them."""

    vectors: np.ndarray
    """(n, dim)"""
    entities: np.ndarray
    """(n,) of str"""
    copies: np.ndarray
    """(c, dim)"""
    copied: np.ndarray
    """(c,) which picture each copy was made of"""

    def without(self, out: np.ndarray) -> Gallery:
        """The gallery less the pictures of a mask (n,), and less their copies."""
        stay = ~out
        new_place = np.cumsum(stay) - 1
        kept = stay[self.copied]
        return Gallery(
            self.vectors[stay], self.entities[stay], self.copies[kept], new_place[self.copied[kept]]
        )


def principal_axes(vectors: np.ndarray) -> np.ndarray:
    """The axes (dim, d) along which vectors (n, dim) spread most; d = DIMENSIONS or fewer."""
    centred = vectors - vectors.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    wanted = min(DIMENSIONS, len(vectors) - 1, int((values > values[-1] * 1e-7).sum()))
    return np.ascontiguousarray(axes[:, ::-1][:, : max(wanted, 1)])


def fit_metric(gallery: Gallery, axes: np.ndarray) -> Metric:
    """The metric of a gallery, within the principal axes (dim, d)."""
    count = len(gallery.vectors)
    mean = gallery.vectors.sum(axis=0) / (count + _FEW)
    points = (gallery.vectors - mean) @ axes
    differences = [((gallery.copies - mean) @ axes - points[gallery.copied]) / np.sqrt(2)]
    for entity, pictures in zip(*np.unique(gallery.entities, return_counts=True), strict=True):
        if pictures > 1:
            own = points[gallery.entities == entity]
            differences.append((own - own.mean(axis=0)) * np.sqrt(pictures / (pictures - 1)))
    rows = np.concatenate(differences)
    if not np.any(rows):
        return Metric(mean, axes[:, :0], np.zeros(0))
    variances, directions = np.linalg.eigh(rows.T @ rows / len(rows))
    variances = np.maximum(variances, 0)
    floor = (
        SHRINKAGE * variances.mean() * (1 + len(variances) / len(rows))
    )  # few samples: closer to a sphere
    return Metric(mean, axes @ directions, np.sqrt(floor / (floor + variances)))


@dataclass(frozen=True)
class Recognised:
    """The entities that a picture may show."""

    entities: tuple[str, ...]
    """Likeliest first."""
    shares: tuple[float, ...]
    """How likely each is, if it is one of them; they sum to 1."""
    cosines: tuple[float, ...]
    """Each one's, in the metric."""
    nearest: tuple[int, ...]
    """The nearest picture of each, by its place among the candidates."""
    features: np.ndarray
    """What abstention judges by: the best entity's cosine, its margin over the next one, its
    share."""


FEATURES = ("cosine", "margin", "share")


def recognise(query: np.ndarray, candidates: np.ndarray, entities: Sequence[str]) -> Recognised:
    """Compare a query (d,) with the mean of each entity's pictures among the candidates (n >= 1,
    d), in the metric."""
    names = list(dict.fromkeys(map(str, entities)))
    members = np.array(names)[:, None] == np.asarray(entities)[None, :]  # (names, n)
    means = members @ candidates
    cosines = means @ query / np.maximum(np.linalg.norm(means, axis=1), 1e-9)
    single = np.where(members, (candidates @ query)[None, :], -np.inf).argmax(axis=1)
    order = np.argsort(-cosines, kind="stable")
    shares = np.exp(_SHARPNESS * (cosines[order] - cosines[order[0]]))
    shares /= shares.sum()
    other = cosines[order[1]] if len(order) > 1 else 0.0  # strangers have a cosine of 0 on average
    features = np.array([cosines[order[0]], cosines[order[0]] - other, shares[0]])
    return Recognised(
        entities=tuple(names[i] for i in order),
        shares=tuple(shares.tolist()),
        cosines=tuple(cosines[order].tolist()),
        nearest=tuple(single[order].tolist()),
        features=features,
    )
