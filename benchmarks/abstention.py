"""Measure the prior of abstention in small bases, and abstention itself.

    python -m benchmarks.abstention [--data FOLDER] [--write] [--limit IMAGES]

Small bases of 4 to 16 entities are sampled from train data: groceries (one to three photos each,
queried with another photo), flags and Flickr8k photos (one each, queried with changed copies). The
entity of a query is in the base or not. A sample of the features becomes the prior that comes with
the package (`--write`). The table shows, on newly sampled bases, how many of the present entities
are answered and how many of the absent ones."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.data import DATA, read_lines
from ravlm import DualEncoder
from ravlm.data.images import load_image
from ravlm.encoders.base import Encoder
from ravlm.retrieval.abstention import PRIOR, ScoreSamples, calibrate
from ravlm.retrieval.image_copies import changed_copy
from ravlm.retrieval.visual_entities import (
    EntityRanking,
    Gallery,
    Metric,
    fit_metric,
    principal_axes,
    rank_entities,
)

PRIOR_SIZE = 90
"""Rows of each kind that come with the package."""


@dataclass(frozen=True)
class Pool:
    """Images of a set, the entity of each, and three changed copies of each.

    The first two copies are for a base; the last is a query if an entity has no other image.
    """

    name: str
    vectors: np.ndarray
    entities: np.ndarray
    copies: np.ndarray
    """(3, n, dim)"""


def read_pools(data: Path, encoder: Encoder, limit: int | None = None) -> list[Pool]:
    """Return the pools of the three sets, of the first `limit` images each."""
    pools = []
    for name, has_entities, count in (
        ("grocery_store", True, None),
        ("country_flags", True, None),
        ("flickr8k", False, 200),
    ):
        rows = [r for r in read_lines(data / name / "metadata.jsonl") if r["split"] == "train"]
        rows = rows[:count][:limit]
        images = [row["image"] for row in rows]
        entities = [row["facts"]["entity"] for row in rows] if has_entities else images
        pools.append(read_pool(encoder, data / name, images, entities))
    return pools


def read_pool(
    encoder: Encoder, folder: Path, images: Sequence[str], entities: Sequence[str]
) -> Pool:
    rng = np.random.default_rng(0)
    loaded = [load_image(folder / image) for image in images]
    copies = [
        encoder.encode_images([changed_copy(image, rng) for image in loaded]) for _ in range(3)
    ]
    return Pool(folder.name, encoder.encode_images(loaded), np.array(entities), np.stack(copies))


class Trial(NamedTuple):
    """A small base and queries for it."""

    gallery: Gallery
    queries: np.ndarray
    """(q, dim)"""
    entities: np.ndarray
    """(q,), the entity of each query"""
    is_present: np.ndarray
    """(q,), whether that entity is in the base"""


def sample_trial(pool: Pool, rng: np.random.Generator) -> Trial:
    """Sample a small base, and queries for it."""
    count = int(rng.integers(4, 17))
    entities = rng.permutation(np.unique(pool.entities))
    present, absent = entities[:count], entities[count : 2 * count]
    stored: list[int] = []
    queries, query_entities = [], []
    for entity in present:
        rows = rng.permutation(np.flatnonzero(pool.entities == entity))
        take = min(int(rng.choice([1, 1, 1, 2, 3])), max(len(rows) - 1, 1))
        stored += rows[:take].tolist()
        queries.append(pool.vectors[rows[take]] if len(rows) > take else pool.copies[2, rows[0]])
        query_entities.append(entity)
    for entity in absent:
        row = int(rng.choice(np.flatnonzero(pool.entities == entity)))
        queries.append(pool.vectors[row] if rng.random() < 0.5 else pool.copies[2, row])
        query_entities.append(entity)
    gallery = Gallery(
        vectors=pool.vectors[stored],
        entities=pool.entities[stored],
        copies=np.concatenate([pool.copies[0, stored], pool.copies[1, stored]]),
        originals=np.tile(np.arange(len(stored)), 2),
    )
    return Trial(
        gallery, np.array(queries), np.array(query_entities), np.isin(query_entities, present)
    )


def rank(gallery: Gallery, metric: Metric, queries: np.ndarray) -> list[EntityRanking]:
    """Return the ranked entities of each query image."""
    mapped = metric(gallery.vectors)
    entities = gallery.entities.tolist()
    return [rank_entities(query, mapped, entities) for query in metric(queries)]


def measure_prior(pools: Sequence[Pool], bases: int = 60) -> ScoreSamples:
    """Return a sample of the features of present and of absent entities in small bases."""
    rng = np.random.default_rng(0)
    present: list[np.ndarray] = []
    absent: list[np.ndarray] = []
    for _ in range(bases):
        for pool in pools:
            trial = sample_trial(pool, rng)
            gallery = trial.gallery
            axes = principal_axes(np.concatenate([gallery.vectors, gallery.copies]))
            rankings = rank(gallery, fit_metric(gallery, axes), trial.queries)
            for ranking, is_present in zip(rankings, trial.is_present, strict=True):
                (present if is_present else absent).append(ranking.features)
    samples = [
        np.array(rows)[rng.permutation(len(rows))[:PRIOR_SIZE]].round(4)
        for rows in (present, absent)
    ]
    return ScoreSamples(*samples)


def measure(pool: Pool, prior: ScoreSamples, bases: int = 40) -> dict[str, float]:
    """Return over new bases the share of present entities that are answered, and rightly, and of
    absent ones that are answered."""
    rng = np.random.default_rng(1)
    rows: list[tuple[bool, bool, bool]] = []
    for _ in range(bases):
        trial = sample_trial(pool, rng)
        metric, classifier = calibrate(trial.gallery, prior)
        assert metric is not None
        rankings = rank(trial.gallery, metric, trial.queries)
        for ranking, entity, is_present in zip(
            rankings, trial.entities, trial.is_present, strict=True
        ):
            probability = classifier.probability(ranking.features)
            answered = probability >= classifier.default_threshold
            rows.append((is_present, answered, ranking.entities[0] == entity))
    present = [(answered, right) for is_present, answered, right in rows if is_present]
    absent = [answered for is_present, answered, _ in rows if not is_present]
    return {
        "present": len(present),
        "answered": float(np.mean([answered for answered, _ in present])),
        "rightly": float(np.mean([answered and right for answered, right in present])),
        "absent": len(absent),
        "falsely answered": float(np.mean(absent)),
    }


def main() -> None:
    """Parse the options, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument(
        "--write", action="store_true", help="replace the prior that comes with the package"
    )
    parser.add_argument("--limit", type=int, help="images of each set, for a short run")
    options = parser.parse_args()
    pools = read_pools(options.data, DualEncoder.load("starter"), options.limit)
    prior = measure_prior(pools)
    if options.write:
        rows = {"present": prior.present.tolist(), "absent": prior.absent.tolist()}
        PRIOR.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    for pool in pools:
        values = measure(pool, prior)
        cells = [f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()]
        print(f"{pool.name:16}", "  ".join(cells))


if __name__ == "__main__":
    main()
