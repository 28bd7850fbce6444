"""Train the starter generator:
`python -m recipes.starter_generator --data DATA --kb KB --out FOLDER`.

Trains on the captions of flickr8k's train split, with the same split as knowledge base (the leakage
guard is on). `--closed-book` trains the twin without evidence, for the same number of steps. Two
stages: next-token loss, then self-critical training with CIDEr; both are resumable and cached in
`--work`. Nothing uses the dev split except the printed figures.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ravlm.data.readers import read_entries
from ravlm.generation.captioner.generator import CaptionerGenerator
from ravlm.knowledge.base import KnowledgeBase
from ravlm.training.captioning_steps import GeneratorTrainingConfig
from ravlm.training.generator import train_captioner
from ravlm.training.starter_generator import (
    STARTER_GENERATOR_TRAINING,
    StarterGeneratorConfig,
    new_generator,
)
from recipes.starter_encoder import read_flickr8k

CONFIDENCE_THRESHOLD = 0.55
"""For a model trained on a reward, which is more confident than one trained on captions alone."""
SELF_CRITICAL_TRAINING = replace(
    STARTER_GENERATOR_TRAINING, epochs=4, learning_rate=1e-4, ema_decay=0.98
)


@dataclass(frozen=True)
class StarterGeneratorRecipe:
    """Size of the model, and how its two stages are trained."""

    model: StarterGeneratorConfig = field(default_factory=StarterGeneratorConfig)
    first: GeneratorTrainingConfig = STARTER_GENERATOR_TRAINING
    second: GeneratorTrainingConfig | None = SELF_CRITICAL_TRAINING


def train_starter_generator(
    data: Path, kb: KnowledgeBase, out: Path, work: Path, recipe: StarterGeneratorRecipe
) -> CaptionerGenerator:
    """Run the whole recipe and save the generator to `out`. `work` keeps features and progress: a
    killed run resumes there."""
    train, dev = read_flickr8k(data)
    generator = new_generator((text for pair in train for text in pair.texts), recipe.model)
    generator.settings = replace(
        generator.settings,
        confidence_threshold=CONFIDENCE_THRESHOLD if recipe.second else 0.0,
        trained_on=("Flickr8k train: 6,000 photos, 30,000 captions",),
    )
    config = replace(recipe.first, self_critical=recipe.second)
    train_captioner(generator, train, kb, work, config, dev, print)
    generator.model.half()  # for storage only; computation is in single precision
    generator.save(out)
    generator.model.float()
    return generator


def main() -> None:
    """Parse the options and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--kb", type=Path, required=True, help="base of the train split; built if missing"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/generator"))
    parser.add_argument("--epochs", type=int, default=STARTER_GENERATOR_TRAINING.epochs)
    parser.add_argument("--self-critical-epochs", type=int, default=SELF_CRITICAL_TRAINING.epochs)
    parser.add_argument("--closed-book", action="store_true", help="train without evidence")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    recipe = _recipe(options)
    entries = read_entries(options.data / "flickr8k" / "metadata.jsonl")
    train_entries = (entry for entry in entries if entry.metadata["split"] == "train")
    with KnowledgeBase.build(options.kb, train_entries) as kb:
        train_starter_generator(options.data, kb, options.out, options.work, recipe)


def _recipe(options: argparse.Namespace) -> StarterGeneratorRecipe:
    changes: dict[str, Any] = {"seed": options.seed}
    if options.closed_book:
        changes["evidence_dropout"] = 1.0
    first = replace(STARTER_GENERATOR_TRAINING, epochs=options.epochs, **changes)
    second = None
    if options.self_critical_epochs:
        second = replace(SELF_CRITICAL_TRAINING, epochs=options.self_critical_epochs, **changes)
    model = StarterGeneratorConfig(seed=options.seed)
    return StarterGeneratorRecipe(model, first, second)


if __name__ == "__main__":
    main()
