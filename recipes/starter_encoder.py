"""Train the starter encoder: `python -m recipes.starter_encoder --data DATA --out FOLDER`.

DATA is a folder with flickr8k, grocery_store and country_flags (metadata.jsonl and images each).
The aligned block is trained on the photos and captions of flickr8k's train split; the axes of the
raw block also use the images of the other sets. Nothing uses a dev split except the printed
figures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ravlm.data.readers import read_entries, read_pairs
from ravlm.encoders.starter import efficientnet_torch
from ravlm.encoders.starter.backbones import TextBackbone
from ravlm.encoders.starter.config import StarterConfig
from ravlm.encoders.starter.encoder import StarterEncoder, unit
from ravlm.files import STARTER
from ravlm.records import Pair
from ravlm.training.contrastive import (
    ClassWords,
    ContrastiveHeads,
    ContrastiveStep,
    EncoderTrainingConfig,
)
from ravlm.training.features import PairFeatures, image_features, pair_features, trunk_features
from ravlm.training.trainer import fit_once
from recipes.unfreeze_last_layers import UnfreezeConfig, UnfreezeStep

PHRASINGS = ("a photo of a {}", "a {}", "{} in the picture", "a close up of a {}", "there is a {}")
OTHER_IMAGE_SETS = ("grocery_store", "country_flags")
"""Images unlike the photos, so that the axes of the raw block serve more than photos."""


@dataclass(frozen=True)
class StarterEncoderRecipe:
    """Layout of the vector, and how the heads and then the members are trained."""

    layout: StarterConfig = field(
        default_factory=lambda: StarterConfig(members=2, has_trained_stages=True)
    )
    heads: EncoderTrainingConfig = field(
        default_factory=lambda: EncoderTrainingConfig(epochs=40, aligned_dim=256)
    )
    members: UnfreezeConfig = field(default_factory=UnfreezeConfig)
    views: int = 4
    image_size_in_use: int = 320
    """Training crops show things larger than whole photos do, which are therefore read at a larger
    size (Touvron et al. 2019, arXiv:1906.06423)."""
    seed: int = 0


def train_starter(
    data: Path,
    out: Path,
    work: Path,
    recipe: StarterEncoderRecipe,
    cache: Path | None = None,
) -> StarterEncoder:
    """Run the whole recipe and save the encoder to `out`.

    `work` keeps progress: a killed run resumes there. `cache` (by default `work`) keeps features,
    which are the same for every seed.
    """
    cache = cache or work
    layout, size = recipe.layout, recipe.layout.image_size
    train, dev = read_flickr8k(data)
    features = pair_features(train, size, recipe.heads.views, cache / "features-train")
    dev_features = pair_features(dev, size, 1, cache / "features-dev")
    network = efficientnet_torch.load_network()
    words = class_words(network)
    arrays: dict[str, np.ndarray] = {}
    for member in range(layout.members):
        config = replace(recipe.heads, seed=recipe.seed + member)
        step = ContrastiveStep(features, config, words, dev_features)
        fit_once(step, config.loop(len(train)), work / f"heads-{member}")
        if layout.has_trained_stages:
            stages = _train_member(train, dev, step.heads, words, member, recipe, work, cache)
            arrays |= stages.member.arrays(member)
        else:
            arrays |= step.heads.image.arrays(f"image.{member}")
            arrays |= step.heads.text.arrays(f"text.{member}")
    other_features = image_features(_other_images(data), size, 0)
    bias = network.classifier.bias.numpy()
    arrays |= fixed_blocks(features, other_features, words, bias, layout)
    encoder = StarterEncoder(replace(layout, image_size=recipe.image_size_in_use), arrays)
    encoder.save(out)
    return encoder


def read_flickr8k(data: Path) -> tuple[list[Pair], list[Pair]]:
    """Return the pairs of the train split and of the dev split."""
    pairs = list(read_pairs(data / "flickr8k" / "metadata.jsonl"))
    train = [pair for pair in pairs if pair.metadata["split"] == "train"]
    dev = [pair for pair in pairs if pair.metadata["split"] == "dev"]
    return train, dev


def _train_member(
    train: Sequence[Pair],
    dev: Sequence[Pair],
    heads: ContrastiveHeads,
    words: ClassWords,
    member: int,
    recipe: StarterEncoderRecipe,
    work: Path,
    cache: Path,
) -> UnfreezeStep:
    """Train the last stages of both backbones together with the heads of a member."""
    size = recipe.layout.image_size
    trunk = trunk_features(train, size, recipe.views, cache / "trunk-train")
    dev_trunk = trunk_features(dev, size, 1, cache / "trunk-dev")
    config = replace(recipe.members, seed=recipe.seed + member)
    step = UnfreezeStep(trunk, heads, config, words, dev_trunk)
    fit_once(step, config.loop(len(train)), work / f"member-{member}")
    return step


def _other_images(data: Path) -> list[Pair]:
    """Return the train images of the other sets, as pairs without texts."""
    return [
        Pair(entry.image, ())
        for name in OTHER_IMAGE_SETS
        for entry in read_entries(data / name / "metadata.jsonl")
        if entry.image is not None and entry.metadata.get("split") == "train"
    ]


def class_names() -> list[str]:
    """Return the first name of each class of the image classifier."""
    lines = (STARTER / "classes.txt").read_text(encoding="utf-8").splitlines()
    return [line.split(",")[0].strip() for line in lines]


def class_words(network: efficientnet_torch.EfficientNetLite2) -> ClassWords:
    """Return the classifier's rows with the features of their names in each phrasing."""
    backbone, names = TextBackbone(), class_names()
    features = [
        backbone.pooled([phrasing.format(name) for name in names]) for phrasing in PHRASINGS
    ]
    return ClassWords(network.classifier.weight.numpy(), np.stack(features))


def fixed_blocks(
    features: PairFeatures,
    other_images: np.ndarray,
    words: ClassWords,
    bias: np.ndarray,
    config: StarterConfig,
) -> dict[str, np.ndarray]:
    """Return the arrays of the raw and word blocks: principal axes, class names, the classifier.

    `other_images` (n, 1280) are pooled features; they count twice in the image axes.
    """
    photos = unit(np.sqrt(features.images[0]))
    extra = unit(np.sqrt(other_images))
    image_mean = np.concatenate([photos, extra]).mean(0)
    image_rows = np.concatenate([photos - image_mean, 2 * (extra - image_mean)])

    texts = unit(features.texts[::7])
    names = unit(words.names[0])
    text_rows = np.concatenate([texts, names])
    text_mean = text_rows.mean(0)
    word_rows = np.concatenate([texts - text_mean, 2 * (names - text_mean)])
    word_axes = principal_axes(word_rows, config.words_dim)
    return {
        "image.raw_mean": image_mean,
        "image.raw": principal_axes(image_rows, config.raw_image_dim),
        "text.raw": principal_axes(text_rows, config.raw_text_dim),
        "words.projection": word_axes,
        "words.mean": text_mean @ word_axes,
        "words.classes": unit((names - text_mean) @ word_axes),
        "classifier.weight": words.rows.T,
        "classifier.bias": bias,
    }


def principal_axes(rows: np.ndarray, dim: int) -> np.ndarray:
    """Return the first `dim` right singular vectors of `rows`, as columns."""
    return np.linalg.svd(rows, full_matrices=False)[2][:dim].T


def main() -> None:
    """Parse the options and train."""
    defaults = StarterEncoderRecipe()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/starter"))
    parser.add_argument("--members", type=int, default=defaults.layout.members)
    parser.add_argument(
        "--dim", type=int, default=defaults.heads.aligned_dim, help="length of a member's vector"
    )
    parser.add_argument("--pooled", action="store_true", help="train heads only, no last stages")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    layout = replace(
        defaults.layout,
        members=options.members,
        has_trained_stages=not options.pooled,
        aligned_dim=options.members * options.dim,
    )
    heads = replace(defaults.heads, aligned_dim=options.dim)
    recipe = replace(defaults, layout=layout, heads=heads, seed=options.seed)
    encoder = train_starter(options.data, options.out, options.work, recipe)
    print(encoder.fingerprint)


if __name__ == "__main__":
    main()
