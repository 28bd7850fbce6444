"""When to say "not in the knowledge base" about a picture: calibrated for each base, without
labels.

What it looks like when the entity is absent is seen by leaving each entity out of the base in turn;
what it looks like when it is present, by changed copies of stored pictures and by other pictures of
the same entity. Both are measured on pictures that the metric was not fitted to. A small base leans
on what was seen on other data. Knows no store."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ravlm.files import STARTER
from ravlm.retrieval.visual_entities import (
    CANDIDATES,
    Gallery,
    Metric,
    fit_metric,
    principal_axes,
    recognise,
)

PRIOR = STARTER / "abstention.json"
REFUSED = 0.05
"""The share of present ones that is refused by default: half the promised tenth, for new pictures
differ more from the stored ones than those do from each other."""
_FOLDS = 10
_PRIOR_WEIGHT = 30.0
"""The prior counts as this many pictures of each kind."""
_RIDGE = 0.0003
_WORDED = (1.9, -0.58, -3.03)
"""Weights of likeness, of the logarithm of the number of texts, and bias: fitted by
`benchmarks/abstention.py`."""
LEAST_BY_WORDS = 0.3
"""Refuses one in ten of the pictures whose text is there."""
_SCALE = np.array([0.1, 0.1, 0.3])
"""Rough spreads of the features, so that one ridge fits all."""


@dataclass(frozen=True)
class ScoreSamples:
    """Features (n, 3) of pictures whose entity is in the base, and of pictures whose entity is
    not."""

    present: np.ndarray
    absent: np.ndarray


@dataclass(frozen=True)
class OodClassifier:
    """Tells how likely a picture's entity is in the base, from the features of its recognition."""

    weights: np.ndarray
    """(3,), over features divided by their scale."""
    bias: float
    least: float
    """The probability below which to abstain by default: `REFUSED` of the present ones lie
    below."""
    absent: np.ndarray
    """Sorted probabilities that absent ones got, (n,)."""

    def known(self, features: np.ndarray) -> float:
        """The probability, where half of all were present."""
        return float(_sigmoid(features / _SCALE @ self.weights + self.bias))

    def threshold(self, max_false_answers: float | None) -> float:
        """The least probability to answer at: the default, or higher, so that at most this share of
        the absent ones is answered."""
        if max_false_answers is None:
            return self.least
        place = int(np.ceil(len(self.absent) * (1 - max_false_answers))) - 1
        strict = float(self.absent[max(place, 0)]) if len(self.absent) and place >= 0 else 0.0
        return max(self.least, np.nextafter(strict, 1.0))


def read_prior(path: Path = PRIOR) -> ScoreSamples:
    """What was seen on the training data of the starter."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return ScoreSamples(np.array(rows["present"]), np.array(rows["absent"]))


def calibrate(
    gallery: Gallery, prior: ScoreSamples, seed: int = 0
) -> tuple[Metric | None, OodClassifier]:
    """The metric and the judge of a base; None for a metric where there are fewer than two
    pictures."""
    if len(gallery.vectors) < 2:
        return None, fit_judge(ScoreSamples(np.zeros((0, 3)), np.zeros((0, 3))), prior)
    axes = principal_axes(np.concatenate([gallery.vectors, gallery.copies]))
    laws = measure(gallery, axes, seed)
    return fit_metric(gallery, axes), fit_judge(laws, prior)


def measure(gallery: Gallery, axes: np.ndarray, seed: int = 0) -> ScoreSamples:
    """The laws of a gallery, each item measured in a metric that was fitted without it (absent:
    without its entity)."""
    rng = np.random.default_rng(seed)
    names = np.unique(gallery.entities)
    folds = min(_FOLDS, len(names))
    fold_of = dict(zip(rng.permutation(names).tolist(), np.arange(len(names)) % folds, strict=True))
    entity_fold = np.array([fold_of[entity] for entity in gallery.entities.tolist()])
    picture_fold = rng.integers(0, folds, len(gallery.entities))
    present, absent = [], []
    for fold in range(folds):
        if folds > 1:
            absent.extend(_measured(gallery, entity_fold == fold, axes, other_entities_only=True))
        present.extend(_measured(gallery, picture_fold == fold, axes, other_entities_only=False))
    return ScoreSamples(np.array(present).reshape(-1, 3), np.array(absent).reshape(-1, 3))


def _measured(
    gallery: Gallery, out: np.ndarray, axes: np.ndarray, other_entities_only: bool
) -> list[np.ndarray]:
    """Features of the pictures of a mask and of their copies, in the metric of the rest."""
    if out.all() or not out.any():
        return []
    metric = fit_metric(gallery.without(out), axes)
    mapped, copies = (
        metric(gallery.vectors),
        metric(gallery.copies) if len(gallery.copies) else gallery.copies,
    )
    counts = dict(zip(*np.unique(gallery.entities, return_counts=True), strict=True))
    queries = [
        (place, gallery.vectors[place], mapped[place], True) for place in np.flatnonzero(out)
    ]
    for at in np.flatnonzero(out[gallery.copied]):
        queries.append((gallery.copied[at], gallery.copies[at], copies[at], False))
    found = []
    for place, raw, query, stored in queries:
        entity = gallery.entities[place]
        if other_entities_only:
            rest = gallery.entities != entity
        elif counts[entity] > 1:
            rest = np.arange(len(mapped)) != place
        elif stored:
            continue  # its only picture is no test of finding it again
        else:
            rest = np.ones(len(mapped), bool)
        if rest.any():
            near = _nearest(gallery.vectors, raw, rest)
            found.append(recognise(query, mapped[near], gallery.entities[near]).features)
    return found


def _nearest(vectors: np.ndarray, query: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """The places of the candidates for a query among the `rest` (a mask)."""
    cosines = np.where(rest, vectors @ query, -np.inf)
    return np.argsort(-cosines)[: min(CANDIDATES, int(rest.sum()))]


def fit_judge(laws: ScoreSamples, prior: ScoreSamples) -> OodClassifier:
    """Logistic regression by Newton's method over both laws, each of weight one half, with the
    prior among them."""
    rows, weights, labels = [], [], []
    for own, before, label in (
        (laws.present, prior.present, 1.0),
        (laws.absent, prior.absent, 0.0),
    ):
        weight = np.concatenate(
            [np.ones(len(own)), np.full(len(before), _PRIOR_WEIGHT / len(before))]
        )
        rows.append(np.concatenate([own.reshape(-1, 3), before]) / _SCALE)
        weights.append(weight / weight.sum() / 2)
        labels.append(np.full(len(weight), label))
    x = np.column_stack([np.concatenate(rows), np.ones(sum(map(len, rows)))])
    w, y = np.concatenate(weights), np.concatenate(labels)
    ridge = np.diag([_RIDGE / len(_SCALE)] * len(_SCALE) + [1e-6])
    beta = np.zeros(x.shape[1])
    for _ in range(25):
        p = _sigmoid(x @ beta)
        gradient = x.T @ (w * (p - y)) + ridge @ beta
        hessian = (x * (w * p * (1 - p))[:, None]).T @ x + ridge
        beta -= np.linalg.solve(hessian, gradient)
    probabilities = _sigmoid(x @ beta)
    is_present = y == 1
    least = _quantile(probabilities[is_present], w[is_present], REFUSED)
    return OodClassifier(beta[:-1], float(beta[-1]), least, np.sort(probabilities[~is_present]))


def known_by_words(likeness: float, texts: int) -> float:
    """How likely the text most like a picture, of so many texts, is about it. `likeness`: its
    cosine in standard deviations of pictures and texts that have nothing to do with each other."""
    z, size, bias = _WORDED
    return float(_sigmoid(np.array(z * likeness + size * np.log(max(texts, 1)) + bias)))


def _quantile(values: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The value below which this share of the weight lies."""
    order = np.argsort(values)
    below = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][min(int(np.searchsorted(below, share)), len(values) - 1)])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -60, 60)))
