"""Decide when to say "not in the knowledge base" about an image, calibrated for each base.

No labels are needed. Leaving each entity out of the base in turn shows how absent entities look;
changed copies of stored images, and other images of the same entity, show how present ones look.
Both are measured on images that the metric was not fitted to. A small base relies on a prior that
was measured on other data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ravlm.files import STARTER
from ravlm.retrieval.visual_entities import (
    CANDIDATES,
    Gallery,
    Metric,
    fit_metric,
    principal_axes,
    rank_entities,
)

PRIOR = STARTER / "abstention.json"
THRESHOLD_FALSE_REFUSALS = 0.05
"""Share of present entities below the default threshold. It is half of the one in ten that is
promised, because new images differ more from the stored ones than those do from each other."""
_SAME_IMAGE = 0.9995
"""Cosine above which two images are the same one."""
_FOLDS = 10
_PRIOR_WEIGHT = 30.0
"""The prior counts as this many images of each kind."""
_RIDGE = 0.0003
_BIAS_RIDGE = 1e-6
_NEWTON_STEPS = 25
_FEATURE_SCALE = np.array([0.1, 0.1, 0.3])
"""Approximate standard deviations of the features, so that one ridge fits all."""
_TEXT_MATCH = (1.9, -0.58, -3.03)
"""Weights of the z-score and of the logarithm of the number of texts, and the bias; fitted by
`benchmarks/abstention.py`."""
TEXT_THRESHOLD = 0.3
"""Wrongly refuses one in ten of the images whose text is in the base."""


@dataclass(frozen=True)
class ScoreSamples:
    """Features of images whose entity is in the base, and of images whose entity is not."""

    present: np.ndarray
    """(n, 3)"""
    absent: np.ndarray
    """(m, 3)"""


@dataclass(frozen=True)
class OodClassifier:
    """Logistic model of whether the entity of an image is in the base (in distribution)."""

    weights: np.ndarray
    """(3,), for features divided by their scale."""
    bias: float
    default_threshold: float
    """Probability below which to abstain: `THRESHOLD_FALSE_REFUSALS` of present ones are below."""
    absent_probabilities: np.ndarray
    """(m,), the sorted probabilities of entities that are not in the base."""

    def probability(self, features: np.ndarray) -> float:
        """Return the probability that the entity is in the base, if half of all entities were."""
        return float(_sigmoid(features / _FEATURE_SCALE @ self.weights + self.bias))

    def threshold(self, max_false_answers: float | None) -> float:
        """Return the probability below which to abstain.

        It is the default threshold, or a higher one if otherwise more than `max_false_answers` of
        the absent entities would be answered.
        """
        if max_false_answers is None:
            return self.default_threshold
        index = int(np.ceil(len(self.absent_probabilities) * (1 - max_false_answers))) - 1
        if index < 0:  # also where there are no absent ones
            highest_refused = 0.0
        else:
            highest_refused = float(self.absent_probabilities[index])
        return max(self.default_threshold, float(np.nextafter(highest_refused, 1.0)))


class ImageCalibration(NamedTuple):
    """The metric of a base's images (None with fewer than two) and its classifier."""

    metric: Metric | None
    classifier: OodClassifier


def read_prior(path: Path = PRIOR) -> ScoreSamples:
    """Read the samples that were measured on the training data of the starter."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return ScoreSamples(np.array(rows["present"]), np.array(rows["absent"]))


def calibrate(gallery: Gallery, prior: ScoreSamples, seed: int = 0) -> ImageCalibration:
    """Fit the metric and the classifier of a base."""
    if len(gallery.vectors) < 2:
        nothing = ScoreSamples(np.zeros((0, 3)), np.zeros((0, 3)))
        return ImageCalibration(None, fit_classifier(nothing, prior))
    axes = principal_axes(np.concatenate([gallery.vectors, gallery.copies]))
    samples = measure(gallery, axes, seed)
    return ImageCalibration(fit_metric(gallery, axes), fit_classifier(samples, prior))


def measure(gallery: Gallery, axes: np.ndarray, seed: int = 0) -> ScoreSamples:
    """Measure the features of the images of a gallery by cross-validation.

    Each image is compared in a metric that was fitted without it; for the absent ones, without all
    images of its entity.
    """
    rng = np.random.default_rng(seed)
    names = np.unique(gallery.entities)
    folds = min(_FOLDS, len(names))
    fold_of = dict(zip(rng.permutation(names).tolist(), np.arange(len(names)) % folds, strict=True))
    entity_folds = np.array([fold_of[entity] for entity in gallery.entities.tolist()])
    image_folds = rng.integers(0, folds, len(gallery.entities))
    present: list[np.ndarray] = []
    absent: list[np.ndarray] = []
    for fold in range(folds):
        if folds > 1:
            absent += _fold_features(gallery, entity_folds == fold, axes, only_other_entities=True)
        present += _fold_features(gallery, image_folds == fold, axes, only_other_entities=False)
    return ScoreSamples(np.array(present).reshape(-1, 3), np.array(absent).reshape(-1, 3))


class _Probes(NamedTuple):
    """The images of a fold and their copies, compared with the gallery."""

    rows: np.ndarray
    """(p,), rows of the gallery; of a copy, that of its original"""
    vectors: np.ndarray
    """(p, dim), of the encoder"""
    mapped: np.ndarray
    """(p, dim), in the metric of the rest"""
    is_copy: np.ndarray
    """(p,)"""


def _fold_features(
    gallery: Gallery, fold: np.ndarray, axes: np.ndarray, only_other_entities: bool
) -> list[np.ndarray]:
    """Return features (3,) of the images of a fold (a mask) and of their copies.

    They are measured in the metric of the rest.
    """
    if fold.all() or not fold.any():
        return []
    metric = fit_metric(gallery.without(fold), axes)
    mapped = metric(gallery.vectors)
    copies = metric(gallery.copies) if len(gallery.copies) else gallery.copies
    codes = np.unique(gallery.entities, return_inverse=True)[1]
    rows = np.flatnonzero(fold)
    copy_rows = np.flatnonzero(fold[gallery.originals])
    probes = _Probes(
        rows=np.concatenate([rows, gallery.originals[copy_rows]]),
        vectors=np.concatenate([gallery.vectors[rows], gallery.copies[copy_rows]]),
        mapped=np.concatenate([mapped[rows], copies[copy_rows]]),
        is_copy=np.arange(len(rows) + len(copy_rows)) >= len(rows),
    )
    cosines = probes.vectors @ gallery.vectors.T  # (p, n)
    is_twin = cosines[: len(rows)] > _SAME_IMAGE  # (rows, n)
    features = []
    for number, mapped_probe in enumerate(probes.mapped):
        row = probes.rows[number]
        mask = _comparable(codes, row, probes.is_copy[number], only_other_entities)
        # The same image under another id is neither an absent entity nor a rival.
        mask &= ~is_twin[np.searchsorted(rows, row)] | (codes == codes[row])
        if mask.any():
            nearest = np.argsort(-np.where(mask, cosines[number], -np.inf))
            nearest = nearest[: min(CANDIDATES, int(mask.sum()))]
            entities = gallery.entities[nearest].tolist()
            ranking = rank_entities(mapped_probe, mapped[nearest], entities)
            features.append(ranking.features)
    return features


def _comparable(
    codes: np.ndarray, row: int, is_copy: bool, only_other_entities: bool
) -> np.ndarray:
    """Return the mask of the images that a probe is compared with.

    `codes` (n,) are the entities of the images; `row` is that of the probe or of its original.
    """
    same_entity = codes == codes[row]
    if only_other_entities:
        return ~same_entity
    if same_entity.sum() > 1:
        mask = np.ones(len(codes), bool)
        mask[row] = False
        return mask
    if is_copy:
        return np.ones(len(codes), bool)
    return np.zeros(len(codes), bool)  # its only image: finding itself tests nothing


def fit_classifier(samples: ScoreSamples, prior: ScoreSamples) -> OodClassifier:
    """Fit a logistic regression by Newton's method.

    Present and absent samples weigh one half each, and the prior is among them.
    """
    present, present_weights = _with_prior(samples.present, prior.present)
    absent, absent_weights = _with_prior(samples.absent, prior.absent)
    features = np.concatenate([present, absent])
    x = np.column_stack([features, np.ones(len(features))])  # (n, 4), with the bias
    y = np.concatenate([np.ones(len(present)), np.zeros(len(absent))])
    w = np.concatenate([present_weights, absent_weights])

    ridge = np.diag([_RIDGE / len(_FEATURE_SCALE)] * len(_FEATURE_SCALE) + [_BIAS_RIDGE])
    beta = np.zeros(x.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = _sigmoid(x @ beta)
        gradient = x.T @ (w * (p - y)) + ridge @ beta
        hessian = (x * (w * p * (1 - p))[:, None]).T @ x + ridge
        beta -= np.linalg.solve(hessian, gradient)

    probabilities = _sigmoid(x @ beta)
    is_present = y == 1
    threshold = _weighted_quantile(
        probabilities[is_present], w[is_present], THRESHOLD_FALSE_REFUSALS
    )
    return OodClassifier(
        weights=beta[:-1],
        bias=float(beta[-1]),
        default_threshold=threshold,
        absent_probabilities=np.sort(probabilities[~is_present]),
    )


def _with_prior(samples: np.ndarray, prior: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scaled features (n, 3) of samples and prior, and weights (n,) that sum to 1/2."""
    features = np.concatenate([samples.reshape(-1, 3), prior]) / _FEATURE_SCALE
    weights = np.concatenate(
        [np.ones(len(samples)), np.full(len(prior), _PRIOR_WEIGHT / len(prior))]
    )
    return features, weights / weights.sum() / 2


def text_match_probability(z_score: float, num_texts: int) -> float:
    """Return the probability that the best of `num_texts` texts is about an image.

    `z_score` is its cosine in standard deviations above that of unrelated images and texts.
    """
    weight, size_weight, bias = _TEXT_MATCH
    logit = weight * z_score + size_weight * np.log(max(num_texts, 1)) + bias
    return float(_sigmoid(np.array(logit)))


def _weighted_quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Return the value below which this share of the weight is."""
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order]) / weights.sum()
    index = min(int(np.searchsorted(cumulative, share)), len(values) - 1)
    return float(values[order][index])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
