"""Learns what abstention leans on in a small base, and measures it: python benchmarks/abstention.py
[--write]

Small bases of 4 to 16 things are drawn from train data: groceries (one to three photos each, asked
with another photo), flags and flickr8k photos (one each, asked with changed copies); what is asked
about is in the base or not. A sample of the features becomes the prior that comes with the package
(`--write`). The table then shows, on bases drawn anew, how many of the present are refused and how
many of the absent are answered."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from answers import DATA, read_lines
from ravlm import DualEncoder
from ravlm.data.images import load_image
from ravlm.retrieval.abstention import PRIOR, ScoreSamples, calibrate
from ravlm.retrieval.calibration import changed_copy
from ravlm.retrieval.visual_entities import Gallery, Metric, fit_metric, principal_axes, recognise

KEPT = 90
"""Rows of each kind that come with the package."""


@dataclass(frozen=True)
class Pool:
    """Pictures of a set, the thing each shows, and three changed copies of each: the first two for
    a base, the last to ask with where a thing has no other picture."""

    name: str
    vectors: np.ndarray
    things: np.ndarray
    copies: np.ndarray
    """(3, n, dim)"""


def pools(data: Path, encoder: DualEncoder) -> list[Pool]:
    grocery = [
        r for r in read_lines(data / "grocery_store" / "metadata.jsonl") if r["split"] == "train"
    ]
    flags = read_lines(data / "country_flags" / "metadata.jsonl")
    photos = [r for r in read_lines(data / "flickr8k" / "metadata.jsonl") if r["split"] == "train"][
        :200
    ]
    return [
        pool(
            encoder,
            data / "grocery_store",
            [r["image"] for r in grocery],
            [r["facts"]["entity"] for r in grocery],
        ),
        pool(
            encoder,
            data / "country_flags",
            [r["image"] for r in flags],
            [r["facts"]["entity"] for r in flags],
        ),
        pool(
            encoder, data / "flickr8k", [r["image"] for r in photos], [r["image"] for r in photos]
        ),
    ]


def pool(encoder: DualEncoder, folder: Path, images: Sequence[str], things: Sequence[str]) -> Pool:
    rng = np.random.default_rng(0)
    opened = [load_image(folder / image) for image in images]
    copies = [
        encoder.encode_images([changed_copy(image, rng) for image in opened]) for _ in range(3)
    ]
    return Pool(folder.name, encoder.encode_images(opened), np.array(things), np.stack(copies))


def draw(
    pool: Pool, rng: np.random.Generator
) -> tuple[Gallery, np.ndarray, np.ndarray, np.ndarray]:
    """A small base, pictures to ask with (q, dim), the thing each shows, and whether that is in the
    base."""
    count = int(rng.integers(4, 17))
    things = rng.permutation(np.unique(pool.things))
    inside, outside = things[:count], things[count : 2 * count]
    stored: list[int] = []
    asked, shown = [], []
    for thing in inside:
        own = rng.permutation(np.flatnonzero(pool.things == thing))
        take = min(int(rng.choice([1, 1, 1, 2, 3])), max(len(own) - 1, 1))
        stored += own[:take].tolist()
        asked.append(pool.vectors[own[take]] if len(own) > take else pool.copies[2, own[0]])
        shown.append(thing)
    for thing in outside:
        own = int(rng.choice(np.flatnonzero(pool.things == thing)))
        asked.append(pool.vectors[own] if rng.random() < 0.5 else pool.copies[2, own])
        shown.append(thing)
    copies = np.concatenate([pool.copies[0, stored], pool.copies[1, stored]])
    gallery = Gallery(
        pool.vectors[stored], pool.things[stored], copies, np.tile(np.arange(len(stored)), 2)
    )
    return gallery, np.array(asked), np.array(shown), np.isin(shown, inside)


def features(gallery: Gallery, metric: Metric, asked: np.ndarray) -> list[tuple[np.ndarray, str]]:
    """What the recognition of each picture gives: its features and the best entity."""
    mapped = metric(gallery.vectors)
    seen = [recognise(query, mapped, gallery.entities) for query in metric(asked)]
    return [(one.features, one.entities[0]) for one in seen]


def learn(pools: Sequence[Pool], bases: int = 60) -> ScoreSamples:
    """The features of present and of absent things in small bases, a sample."""
    rng = np.random.default_rng(0)
    present, absent = [], []
    for _ in range(bases):
        for some in pools:
            gallery, asked, _, inside = draw(some, rng)
            metric = fit_metric(
                gallery, principal_axes(np.concatenate([gallery.vectors, gallery.copies]))
            )
            for (row, _), known in zip(features(gallery, metric, asked), inside, strict=True):
                (present if known else absent).append(row)
    kept = [
        np.array(rows)[rng.permutation(len(rows))[:KEPT]].round(4) for rows in (present, absent)
    ]
    return ScoreSamples(kept[0], kept[1])


def measure(some: Pool, prior: ScoreSamples, bases: int = 40) -> dict[str, float]:
    """Over bases drawn anew: the share of present things answered and answered rightly, and of
    absent ones answered."""
    rng = np.random.default_rng(1)
    rows = []
    for _ in range(bases):
        gallery, asked, shown, inside = draw(some, rng)
        metric, judge = calibrate(gallery, prior)
        assert metric is not None
        for (row, entity), thing, known in zip(
            features(gallery, metric, asked), shown, inside, strict=True
        ):
            rows.append((known, judge.known(row) >= judge.least, entity == thing))
    known, answered, right = (np.array(column) for column in zip(*rows, strict=True))
    return {
        "present": int(known.sum()),
        "answered": float(answered[known].mean()),
        "rightly": float((answered & right)[known].mean()),
        "absent": int((~known).sum()),
        "falsely answered": float(answered[~known].mean()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument(
        "--write", action="store_true", help="replace the prior that comes with the package"
    )
    options = parser.parse_args()
    drawn = pools(options.data, DualEncoder.load("starter"))
    prior = learn(drawn)
    if options.write:
        rows = {"present": prior.present.tolist(), "absent": prior.absent.tolist()}
        PRIOR.write_text(json.dumps(rows) + "\n", encoding="utf-8")
    for some in drawn:
        print(f"{some.name:16}", "  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}"
                                            for k, v in measure(some, prior).items()))  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
