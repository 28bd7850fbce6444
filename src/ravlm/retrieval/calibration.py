"""What a base is like, for telling its entities apart: the metric and the judge, fitted once and
kept beside the base.

Made from the base's own pictures, stored in its derived folder, and made anew when the base has
changed by a tenth. Knows no question."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageEnhance

from ravlm.data.facts import entity_key
from ravlm.data.images import load_image
from ravlm.errors import BrokenData, NotFound
from ravlm.files import atomic_write
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry, Part
from ravlm.retrieval.abstention import OodClassifier, calibrate, read_prior
from ravlm.retrieval.visual_entities import Gallery, Metric

FILE = "recognition.safetensors"
VERSION = "3"
"""Raised whenever the fitting changes."""
_PICTURES, _COPIES, _COPIES_EACH = 2000, 160, 4
_TEXTS, _ENOUGH, _LEAST_SPREAD = 300, 12, 0.02
_GROWTH = 0.1


@dataclass(frozen=True)
class BaseCalibration:
    """How to compare pictures with those of one base, and when to believe the result."""

    metric: Metric | None
    """None where the base has fewer than two pictures."""
    judge: OodClassifier
    change: int
    """The base's change that it was made at."""
    pictures: int
    chance: tuple[float, float]
    """Mean and spread of the cosines between pictures and texts that have nothing to do with each
    other."""
    texts: int


def fit_or_load(kb: KnowledgeBase) -> BaseCalibration:
    """The acquaintance with a base: the stored one where it still fits, else a new one, which is
    stored."""
    path = kb.derived_folder / FILE
    fingerprint, change = f"{VERSION} {kb.encoder.fingerprint}", kb.change
    stored = _read(path, fingerprint)
    if stored is not None and stored.change == change:
        return stored
    parts = kb.info().parts
    pictures = parts.get("image", 0)
    if stored is not None and abs(pictures - stored.pictures) < _GROWTH * stored.pictures:
        return stored
    sample = kb.sample(_PICTURES, "image")
    gallery = _gallery(kb, sample)
    metric, judge = calibrate(gallery, read_prior())
    made = BaseCalibration(
        metric, judge, change, pictures, _chance(kb, sample), parts.get("text", 0)
    )
    _write(path, made, fingerprint)
    return made


def changed_copy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A picture as another camera might have taken it: a part of it, lighter or darker, with
    noise."""
    width, height = image.size
    side = np.sqrt(rng.uniform(0.65, 1.0))
    w, h = max(1, int(width * side)), max(1, int(height * side))
    x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    part = ImageEnhance.Brightness(image.crop((x, y, x + w, y + h))).enhance(rng.uniform(0.5, 1.2))
    pixels = np.asarray(part, np.float32) + rng.normal(0, rng.uniform(0, 8), (h, w, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


Sample: TypeAlias = "list[tuple[Entry, Part, np.ndarray]]"


def _gallery(kb: KnowledgeBase, sample: Sample, seed: int = 0) -> Gallery:
    """A sample of the base's pictures with their entities, and changed copies of some of them."""
    vectors = np.array([vector for _, _, vector in sample], np.float32).reshape(
        len(sample), kb.encoder.dim
    )
    entities = np.array([entity_key(entry) for entry, _, _ in sample])
    copies, copied = _copies(kb, [entry for entry, _, _ in sample], seed)
    return Gallery(vectors, entities, copies, copied)


def _chance(kb: KnowledgeBase, pictures: Sample) -> tuple[float, float]:
    """Mean and spread of the cosines of pictures and texts of different entries; drawn pictures
    where there are few."""
    texts = kb.sample(_TEXTS, "text")
    if not texts:
        return 0.0, 1.0
    if len(pictures) >= _ENOUGH:
        shown = np.array([vector for _, _, vector in pictures[:_TEXTS]])
        owners = np.array([entry.id for entry, _, _ in pictures[:_TEXTS]])
    else:
        rng = np.random.default_rng(0)
        patches = [rng.integers(0, 256, (5, 5, 3)).astype(np.uint8) for _ in range(_ENOUGH)]
        drawn = [
            Image.fromarray(patch).resize((224, 224), Image.Resampling.BICUBIC) for patch in patches
        ]
        shown = kb.encoder.encode_images(drawn)
        owners = np.full(len(shown), "")
    cosines = shown @ np.array([vector for _, _, vector in texts]).T
    strange = cosines[owners[:, None] != np.array([entry.id for entry, _, _ in texts])[None, :]]
    return (
        (float(strange.mean()), max(float(strange.std()), _LEAST_SPREAD))
        if strange.size
        else (0.0, 1.0)
    )


def _copies(
    kb: KnowledgeBase, entries: Sequence[Entry], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors (c, dim) of changed copies, and of which entry's picture each is; pictures that are
    gone are left out."""
    rng = np.random.default_rng(seed)
    images: list[Image.Image] = []
    copied: list[int] = []
    each = max(1, min(_COPIES_EACH, _COPIES // max(len(entries), 1)))
    for place in rng.permutation(len(entries))[:_COPIES].tolist():
        source = entries[place].image
        if source is None:
            continue
        try:
            image = load_image(source, edge=kb.encoder.image_size)
        except (NotFound, BrokenData):
            continue
        image.thumbnail((2 * kb.encoder.image_size,) * 2)
        images.extend(changed_copy(image, rng) for _ in range(each))
        copied.extend([place] * each)
    return kb.encoder.encode_images(images), np.array(copied, np.int64)


def _read(path: Path, fingerprint: str) -> BaseCalibration | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            if about.get("fingerprint") != fingerprint:
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError):
        return None
    metric = None
    if "mean" in arrays:
        metric = Metric(arrays["mean"], arrays["directions"], arrays["factors"])
    judge = OodClassifier(arrays["weights"], about["bias"], about["least"], arrays["absent"])
    return BaseCalibration(
        metric, judge, about["change"], about["pictures"], tuple(about["chance"]), about["texts"]
    )


def _write(path: Path, made: BaseCalibration, fingerprint: str) -> None:
    """Store it; a base that can't be written to does without."""
    from safetensors.numpy import save_file

    judge = made.judge
    arrays = {"weights": judge.weights, "absent": judge.absent}
    if made.metric is not None:
        arrays |= {
            "mean": made.metric.mean,
            "directions": made.metric.directions,
            "factors": made.metric.factors,
        }
    about = {
        "fingerprint": fingerprint, "change": made.change, "pictures": made.pictures,
        "bias": judge.bias, "least": judge.least, "chance": made.chance, "texts": made.texts,
    }  # fmt: skip
    try:
        with atomic_write(path) as aside:
            save_file(
                {name: np.ascontiguousarray(array) for name, array in arrays.items()},
                aside,
                {"about": json.dumps(about)},
            )
    except OSError:
        return
