"""Fine-tune the starter on small sets of foreign pictures: is it better on unseen ones?

    python -m benchmarks.encoder_tuning --data DATA --work FOLDER

DATA is a folder with grocery_store, leeds_butterflies and ikea_products (metadata.jsonl and images
each). Ten random subsets of 50 to 600 pairs; the encoder that `train_encoder` returns is compared
with the starter on up to 300 other pictures of the same set. The settings were chosen on other
subsets of grocery_store and leeds_butterflies.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np

from ravlm import DualEncoder, read_pairs
from ravlm.encoders.starter.encoder import StarterEncoder
from ravlm.records import Pair
from ravlm.training.contrastive import EncoderTrainingConfig
from ravlm.training.features import PairFeatures, stage_features
from ravlm.training.held_out import HeldOutComparison
from ravlm.training.starter_tuning import fold_ranks, tune_heads
from ravlm.training.tracking import silent, untracked

SUBSETS = (
    ("grocery_store", 50),
    ("leeds_butterflies", 50),
    ("ikea_products", 50),
    ("grocery_store", 100),
    ("ikea_products", 150),
    ("leeds_butterflies", 200),
    ("ikea_products", 300),
    ("grocery_store", 300),
    ("ikea_products", 550),
    ("grocery_store", 600),
)
NUM_UNSEEN = 300
MAX_PAIRS = 950


def class_captions(name: str, pair: Pair) -> tuple[str, ...]:
    """Return the texts of a picture: its class in a caption, and the description of the set."""
    facts = pair.metadata.get("facts", {})
    if name == "grocery_store":
        return f"a photo of {facts['entity']}, {facts['kind']}".lower(), *pair.texts
    if name == "leeds_butterflies":
        return f"a {facts['common_name']} butterfly", *pair.texts
    return pair.texts


def load_features(encoder: StarterEncoder, data: Path, name: str, work: Path) -> PairFeatures:
    """Return the features of a random part of a set, computed once."""
    pairs = list(read_pairs(data / name / "metadata.jsonl"))
    order = np.random.default_rng(0).permutation(len(pairs))[:MAX_PAIRS]
    chosen = [
        Pair(pairs[row].image, class_captions(name, pairs[row]), id=pairs[row].id) for row in order
    ]
    return stage_features(encoder, chosen, EncoderTrainingConfig.views, work / name)


def compare_subset(
    encoder: StarterEncoder, features: PairFeatures, size: int, seed: int, work: Path
) -> tuple[HeldOutComparison, HeldOutComparison]:
    """Return the comparison on the pairs themselves, and that on unseen ones."""
    order = np.random.default_rng(seed).permutation(features.images.shape[1])
    shutil.rmtree(work, ignore_errors=True)
    trained, comparison = tune_heads(
        encoder,
        features.select(order[:size]),
        EncoderTrainingConfig(seed=seed),
        work,
        silent,
        untracked,
    )
    assert comparison is not None
    unseen = features.select(order[size : size + NUM_UNSEEN])
    folds = [np.ones(unseen.images.shape[1], bool)]
    before, after = (fold_ranks(unseen, folds, [e]) for e in (encoder, trained))
    return comparison, HeldOutComparison(before, after, "unseen")


def main() -> None:
    """Parse the options and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/encoder-tuning"))
    options = parser.parse_args()
    encoder = DualEncoder.load("starter")
    assert isinstance(encoder, StarterEncoder)
    features = {
        name: load_features(encoder, options.data, name, options.work)
        for name in dict.fromkeys(name for name, _ in SUBSETS)
    }
    print("R@1, unseen pictures: before -> after, change [95 %]; `kept`: what the run itself chose")
    for seed, (name, size) in enumerate(SUBSETS):
        start = time.perf_counter()
        work = options.work / "training"
        comparison, unseen = compare_subset(encoder, features[name], size, seed, work)
        seconds = time.perf_counter() - start
        kept_encoder = "trained" if comparison.is_better else "start"
        print(
            f"{name:18} {size:4} pairs, {kept_encoder:7} kept, {seconds:4.0f} s: "
            + "; ".join(unseen.lines()),
            flush=True,
        )


if __name__ == "__main__":
    main()
