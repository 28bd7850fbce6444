"""The recipe of the starter encoder that ships: `python -m recipes.starter_encoder --data DATA
--out FOLDER`.

DATA is a folder with flickr8k, grocery_store and country_flags (metadata.jsonl and pictures each).
The aligned block is trained on the photos and captions of flickr8k's train split; the raw block's
axes see the other sets' pictures too; nothing looks at a dev split but the figures that are
printed."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ravlm.data.readers import read_entries, read_pairs
from ravlm.encoders.starter import efficientnet
from ravlm.encoders.starter.backbones import TextBackbone
from ravlm.encoders.starter.encoder import StarterConfig, StarterEncoder, unit
from ravlm.files import STARTER
from ravlm.records import Pair
from ravlm.training.contrastive import ClassWords, ContrastiveConfig, ContrastiveStep
from ravlm.training.features import PairFeatures, image_features, pair_features, trunk_features
from ravlm.training.trainer import fit_once
from recipes.unfreeze_last_layers import OpenedConfig, OpenedStep

PHRASINGS = ("a photo of a {}", "a {}", "{} in the picture", "a close up of a {}", "there is a {}")
MANY_PICTURES = ("grocery_store", "country_flags")


def class_names() -> list[str]:
    """The first name of each of the classifier's classes."""
    return [
        line.split(",")[0].strip()
        for line in (STARTER / "classes.txt").read_text(encoding="utf-8").splitlines()
    ]


def class_words(network: efficientnet.EfficientNetLite2) -> ClassWords:
    """The classifier's rows beside their names in each phrasing."""
    backbone, names = TextBackbone(), class_names()
    phrased = np.stack(
        [backbone.pooled([phrasing.format(name) for name in names]) for phrasing in PHRASINGS]
    )
    return ClassWords(network.classifier.weight.numpy(), phrased)


def layout(
    features: PairFeatures,
    others: np.ndarray,
    words: ClassWords,
    bias: np.ndarray,
    config: StarterConfig,
) -> dict[str, np.ndarray]:
    """The arrays of the raw and word blocks: principal axes, class names, the classifier.

    `others` (n, 1280): pooled features of pictures unlike the photos, so that the axes serve more
    than photos."""

    def roots(pooled: np.ndarray) -> np.ndarray:
        return unit(np.sqrt(pooled))

    photos, more = roots(features.images[0]), roots(others)
    mean = np.concatenate([photos, more]).mean(0)
    image_axes = _axes(np.concatenate([photos - mean, 2 * (more - mean)]), config.raw_image_dim)
    texts, names = unit(features.texts[::7]), unit(words.names[0])
    text_axes = _axes(np.concatenate([texts, names]), config.raw_text_dim)
    centre = np.concatenate([texts, names]).mean(0)
    word_axes = _axes(np.concatenate([texts - centre, 2 * (names - centre)]), config.words_dim)
    return {
        "image.raw_mean": mean,
        "image.raw": image_axes,
        "text.raw": text_axes,
        "words.projection": word_axes,
        "words.mean": centre @ word_axes,
        "words.classes": unit((names - centre) @ word_axes),
        "classifier.weight": words.rows.T,
        "classifier.bias": bias,
    }


def _axes(rows: np.ndarray, dim: int) -> np.ndarray:
    """The first `dim` right singular vectors of `rows`, as columns."""
    return np.linalg.svd(rows, full_matrices=False)[2][:dim].T


@dataclass(frozen=True)
class Recipe:
    """All choices of the starter: layout, and how the heads and then the opened members are
    trained."""

    layout: StarterConfig = field(default_factory=lambda: StarterConfig(members=2, opened=True))
    heads: ContrastiveConfig = field(default_factory=lambda: ContrastiveConfig(aligned_dim=256))
    members: OpenedConfig = field(default_factory=OpenedConfig)
    views: int = 4
    seed: int = 0


def train_starter(
    data: Path, out: Path, work: Path, recipe: Recipe, kept: Path | None = None
) -> StarterEncoder:
    """The whole recipe. `work` keeps progress, `kept` (by default `work`) features, which are the
    same for every seed; a killed run goes on where it was."""
    kept = kept or work
    shape, size = recipe.layout, recipe.layout.image_size
    pairs = list(read_pairs(data / "flickr8k" / "metadata.jsonl"))
    train = [pair for pair in pairs if pair.metadata["split"] == "train"]
    dev = [pair for pair in pairs if pair.metadata["split"] == "dev"]
    features = pair_features(train, size, recipe.heads.views, kept / "features-train")
    held_out = pair_features(dev, size, 1, kept / "features-dev")
    network = efficientnet.load_network(efficientnet.weights_file())
    words = class_words(network)
    arrays: dict[str, np.ndarray] = {}
    for member in range(shape.members):
        config = replace(recipe.heads, seed=recipe.seed + member)
        step = ContrastiveStep(features, config, words, held_out)
        fit_once(step, config.loop(len(train)), work / f"heads-{member}")
        if not shape.opened:
            arrays |= step.heads.image.arrays(f"image.{member}") | step.heads.text.arrays(
                f"text.{member}"
            )
            continue
        trunk = trunk_features(train, size, recipe.views, kept / "trunk-train")
        unseen = trunk_features(dev, size, 1, kept / "trunk-dev")
        opened = replace(recipe.members, seed=recipe.seed + member)
        stage = OpenedStep(trunk, step.heads, opened, words, unseen)
        fit_once(stage, opened.loop(len(train)), work / f"member-{member}")
        arrays |= stage.member.arrays(member)
    others = [
        Pair(entry.image, ())
        for name in MANY_PICTURES
        for entry in read_entries(data / name / "metadata.jsonl")
        if entry.image is not None and entry.metadata.get("split") == "train"
    ]
    pooled = image_features(others, size, 0)
    arrays |= layout(features, pooled, words, network.classifier.bias.numpy(), shape)
    encoder = StarterEncoder(shape, arrays)
    encoder.save(out)
    return encoder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/starter"))
    parser.add_argument("--members", type=int, default=Recipe().layout.members)
    parser.add_argument(
        "--dim", type=int, default=Recipe().heads.aligned_dim, help="of each member's vector"
    )
    parser.add_argument("--pooled", action="store_true", help="heads alone, no opened stages")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    aligned_dim = given.members * given.dim
    shape = replace(
        Recipe().layout, members=given.members, opened=not given.pooled, aligned_dim=aligned_dim
    )
    recipe = replace(
        Recipe(),
        layout=shape,
        heads=replace(Recipe().heads, aligned_dim=given.dim),
        seed=given.seed,
    )
    print(train_starter(given.data, given.out, given.work, recipe).fingerprint)


if __name__ == "__main__":
    main()
