"""The recipe of the starter generator: `python -m recipes.starter_generator --data DATA --kb KB
--out FOLDER`.

Captions of flickr8k's train split, with the same split as knowledge (leakage guard on).
`--closed-book` trains the twin that never sees evidence, for the same steps. Two stages: next-token
loss, then self-critical training with CIDEr; each is resumable and kept in `--work`. Nothing looks
at the dev split but the figures that are printed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ravlm.data.readers import read_entries, read_pairs
from ravlm.encoders.starter import efficientnet
from ravlm.encoders.starter.config import IMAGE_WIDTH, TEXT_WIDTH
from ravlm.fusion.decoder import EvidenceDecoder
from ravlm.generation.captioner.configuration import CaptionerConfig
from ravlm.generation.captioner.generator import CaptionerGenerator, CaptionerSettings
from ravlm.generation.captioner.modeling import CaptionerModel
from ravlm.generation.captioner.processing import StarterSources
from ravlm.generation.captioner.tokenizer import train_words
from ravlm.knowledge.base import KnowledgeBase
from ravlm.training.captioning_steps import GeneratorConfig
from ravlm.training.generator import train_generator
from ravlm.training.language_model import LanguageConfig, read_language, shape

_LEAST_SURE = 0.55
"""Of a model that was trained for a reward, which is surer of its words than one that was trained
on them alone."""
_EVIDENCE: dict[str, Any] = {"k": 8, "most": 12, "views": 4, "reads": "text", "folds": 5}


@dataclass(frozen=True)
class Recipe:
    """All choices of the starter generator."""

    language: LanguageConfig = field(default_factory=lambda: LanguageConfig(longest=64))
    """The shape of the decoder and its words; it begins from random weights."""
    mixing_layers: int = 1
    first: GeneratorConfig = field(default_factory=lambda: GeneratorConfig(**_EVIDENCE))
    second: GeneratorConfig | None = field(
        default_factory=lambda: GeneratorConfig(
            epochs=4, batch=64, rate=1e-4, average=0.98, **_EVIDENCE
        )
    )


def train_starter_generator(
    data: Path, kb: KnowledgeBase, out: Path, work: Path, recipe: Recipe
) -> CaptionerGenerator:
    """The whole recipe. `work` keeps features and progress; a killed run goes on where it was."""
    pairs = list(read_pairs(data / "flickr8k" / "metadata.jsonl"))
    train, dev = ([p for p in pairs if p.metadata["split"] == split] for split in ("train", "dev"))
    generator = new_generator((text for pair in train for text in pair.texts), recipe)
    generator.settings = replace(
        generator.settings,
        least_sure=_LEAST_SURE if recipe.second else 0.0,
        trained_on=("Flickr8k train: 6,000 photos, 30,000 captions",),
    )
    train_generator(generator, train, kb, work, recipe.first, recipe.second, dev, print)
    generator.model.half()  # a way to store it: loading computes in single precision
    generator.save(out)
    generator.model.float()
    return generator


def new_generator(
    texts: Iterable[str], recipe: Recipe, language: str | Path | None = None
) -> CaptionerGenerator:
    """A generator on the starter's backbones, with the words of `texts` and random weights.

    `language`: a folder of `ravlm train language`; the decoder begins from it, with its words and
    its shape instead."""
    settings = CaptionerSettings(beams=8, agreement=4.0)
    if language is None:
        tokenizer, pretrained = train_words(texts, recipe.language.least), None
    else:
        tokenizer, pretrained = read_language(language)
    model = new_model(recipe, len(tokenizer), (settings.image_size + 31) // 32, pretrained)
    return CaptionerGenerator(
        model, tokenizer, StarterSources(settings.image_size, kept=200_000), settings
    )


def new_model(
    recipe: Recipe, words: int, edge: int, language: EvidenceDecoder | None = None
) -> CaptionerModel:
    """The model with random weights; its decoder is `language`, where there is one."""
    special: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    decoder = language.config if language is not None else shape(recipe.language, words)
    torch.manual_seed(recipe.first.seed)
    model = CaptionerModel(
        CaptionerConfig(
            decoder=decoder.to_dict(),
            fusion="cross_attention",
            image_width=IMAGE_WIDTH,
            image_stage=True,
            evidence_width=TEXT_WIDTH,
            image_positions=edge * edge,
            mixing_layers=recipe.mixing_layers,
        )
    )
    network = efficientnet.load_network(efficientnet.weights_file())
    assert model.encoder.image_stage is not None
    model.encoder.image_stage.load_state_dict(efficientnet.LastStage(network).state_dict())
    if language is not None:
        model.decoder.load_state_dict(language.state_dict())
    model.generation_config.update(decoder_start_token_id=1, **special)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--kb", type=Path, required=True, help="a base of the train split; made where there is none"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/generator"))
    parser.add_argument("--epochs", type=int, default=Recipe().first.epochs)
    parser.add_argument("--critical-epochs", type=int, default=4)
    parser.add_argument(
        "--closed-book", action="store_true", help="the twin that never sees evidence"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    second = Recipe().second or GeneratorConfig()
    common = {"seed": given.seed} | ({"dropped": 1.0} if given.closed_book else {})
    recipe = replace(
        Recipe(),
        first=replace(Recipe().first, epochs=given.epochs, **common),
        second=replace(second, epochs=given.critical_epochs, **common)
        if given.critical_epochs
        else None,
    )
    photos = (
        e
        for e in read_entries(given.data / "flickr8k" / "metadata.jsonl")
        if e.metadata["split"] == "train"
    )
    with KnowledgeBase.build(given.kb, photos) as kb:
        train_starter_generator(given.data, kb, given.out, given.work, recipe)


if __name__ == "__main__":
    main()
