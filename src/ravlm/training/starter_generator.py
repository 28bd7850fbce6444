"""The recipe of the starter generator: `python -m ravlm.training.starter_generator --data DATA --kb KB --out FOLDER`.

Captions of flickr8k's train split, with the same split as knowledge (leakage guard on). `--closed-book` trains the
twin that never sees evidence, for the same steps. Two stages: next-token loss, then self-critical training with CIDEr;
each is resumable and kept in `--work`. Nothing looks at the dev split but the figures that are printed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ravlm.data.readers import read_entries, read_pairs
from ravlm.encoders import efficientnet
from ravlm.encoders.starter import IMAGE_WIDTH, TEXT_WIDTH
from ravlm.fusion.decoder import DecoderConfig
from ravlm.generation.fused import FusedGenerator, FusedSettings
from ravlm.generation.fused_model import FusedConfig, FusedModel
from ravlm.generation.fused_sources import StarterSources
from ravlm.generation.vocabulary import train_words
from ravlm.knowledge.base import KnowledgeBase
from ravlm.metrics.cider import cider_frequencies
from ravlm.records import Pair
from ravlm.training.features import trunk_features
from ravlm.training.generator import GeneratorConfig, GeneratorData, GeneratorStep, SelfCriticalStep
from ravlm.training.generator_data import Texts, find_evidence, read_evidence
from ravlm.training.loop import fit_once


@dataclass(frozen=True)
class Recipe:
    """All choices of the starter generator."""

    width: int = 256
    layers: int = 3
    heads: int = 4
    mixing_layers: int = 1
    first: GeneratorConfig = field(default_factory=lambda: GeneratorConfig(k=6))
    second: GeneratorConfig = field(
        default_factory=lambda: GeneratorConfig(epochs=3, batch=32, rate=5e-5, average=0.99, k=6)
    )
    views: int = 4
    least: int = 4
    """How often a word must occur to be in the vocabulary."""


def train_starter_generator(data: Path, kb: KnowledgeBase, out: Path, work: Path, recipe: Recipe) -> FusedGenerator:
    """The whole recipe. `work` keeps features and progress; a killed run goes on where it was."""
    pairs = list(read_pairs(data / "flickr8k" / "metadata.jsonl"))
    train, dev = ([p for p in pairs if p.metadata["split"] == split] for split in ("train", "dev"))
    settings = FusedSettings(trained_on=("Flickr8k train: 6,000 photos, 30,000 captions",))
    tokenizer = train_words((text for pair in train for text in pair.texts), recipe.least)
    sources = StarterSources(settings.image_size, kept=200_000)
    model = new_model(recipe, len(tokenizer), (settings.image_size + 31) // 32)
    features = [
        caption_data(some, kb, sources, tokenizer, recipe if number == 0 else replace(recipe, views=1), work / name)
        for number, (some, name) in enumerate(((train, "trunk-train"), (dev, "trunk-dev")))
    ]
    step = GeneratorStep(model, features[0], recipe.first, features[1])
    fit_once(step, recipe.first.loop(len(train)), work / "first")
    if recipe.second.epochs:
        words = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        references = [[" ".join(tokenizer.tokenize(text)) for text in pair.texts] for pair in train]
        frequencies = cider_frequencies(references, tokenize="none")
        critical = SelfCriticalStep(model, features[0], recipe.second, references, frequencies, words, features[1])
        fit_once(critical, recipe.second.loop(len(train)), work / "second")
    generator = FusedGenerator(model, tokenizer, sources, settings)
    generator.save(out)
    return generator


def new_model(recipe: Recipe, words: int, edge: int) -> FusedModel:
    """The model with random weights."""
    special: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    decoder = DecoderConfig(
        vocab_size=words, hidden_size=recipe.width, num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads, max_position_embeddings=64, **special,
    )  # fmt: skip
    torch.manual_seed(recipe.first.seed)
    model = FusedModel(
        FusedConfig(
            decoder=decoder.to_dict(),
            fusion="cross_attention",
            picture_width=IMAGE_WIDTH,
            picture_stage=True,
            evidence_width=TEXT_WIDTH,
            picture_places=edge * edge,
            mixing_layers=recipe.mixing_layers,
        )
    )
    network = efficientnet.load_network(efficientnet.weights_file())
    assert model.encoder.stage is not None
    model.encoder.stage.load_state_dict(efficientnet.LastStage(network).state_dict())
    model.generation_config.update(decoder_start_token_id=1, **special)
    return model


def caption_data(
    pairs: list[Pair], kb: KnowledgeBase, sources: StarterSources, tokenizer: Any, recipe: Recipe, folder: Path
) -> GeneratorData:
    """Features, words and evidence of `pairs`."""
    trunk = trunk_features(pairs, sources.size, recipe.views, folder)
    evidence = None
    if recipe.first.dropped < 1:
        vectors = kb.encoder.encode_images([pair.image for pair in pairs])
        found = find_evidence(kb, pairs, vectors, recipe.first.most)
        evidence = read_evidence(found, recipe.first.most, sources)
    words = Texts.of([text for pair in pairs for text in pair.texts], tokenizer)
    return GeneratorData(trunk.grids, words, np.asarray(trunk.offsets), evidence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kb", type=Path, required=True, help="a base of the train split; made where there is none")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/generator"))
    parser.add_argument("--epochs", type=int, default=Recipe().first.epochs)
    parser.add_argument("--critical-epochs", type=int, default=Recipe().second.epochs)
    parser.add_argument("--closed-book", action="store_true", help="the twin that never sees evidence")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    common = {"seed": given.seed} | ({"dropped": 1.0} if given.closed_book else {})
    recipe = replace(
        Recipe(),
        first=replace(Recipe().first, epochs=given.epochs, **common),
        second=replace(Recipe().second, epochs=given.critical_epochs, **common),
    )
    photos = (e for e in read_entries(given.data / "flickr8k" / "metadata.jsonl") if e.metadata["split"] == "train")
    with KnowledgeBase.build(given.kb, photos) as kb:
        train_starter_generator(given.data, kb, given.out, given.work, recipe)


if __name__ == "__main__":
    main()
