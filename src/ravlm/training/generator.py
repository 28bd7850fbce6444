"""`train_generator`: a fused generator trained on pairs, with evidence retrieved from a knowledge
base.

Two stages: next-token loss, then (if asked for) self-critical training with CIDEr. Knows how a
generator is fed; how a step looks is `generator.py`'s business, and how evidence is found
`generator_data.py`'s."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ravlm import runtime
from ravlm.checkpoint import move_into
from ravlm.data.text import words
from ravlm.encoders.starter.encoder import StarterConfig
from ravlm.errors import InvalidInput
from ravlm.generation.captioner.generator import SETTINGS, CaptionerGenerator
from ravlm.generation.captioner.processing import ProcessorSources, StarterSources
from ravlm.knowledge.base import KnowledgeBase
from ravlm.metrics.cider import cider_frequencies
from ravlm.records import Pair
from ravlm.training.caption_dataset import (
    EvidenceTexts,
    GeneratorData,
    PictureData,
    StarterData,
    Texts,
    find_evidence,
    picture_vectors,
    read_evidence,
    states_of,
)
from ravlm.training.captioning_steps import GeneratorConfig, GeneratorStep, SelfCriticalStep
from ravlm.training.cross_fitting import HEADS, cross_fitted
from ravlm.training.features import pair_features, trunk_features
from ravlm.training.trainer import fit_once

FIRST, SECOND = "first", "critical"
"""Folders of the two stages, each with its log."""


def train_generator(
    generator: CaptionerGenerator,
    pairs: Sequence[Pair],
    kb: KnowledgeBase | None,
    folder: str | Path,
    first: GeneratorConfig = GeneratorConfig(),  # noqa: B008 frozen
    critical: GeneratorConfig | None = None,
    held_out: Sequence[Pair] = (),
    report: Callable[[str], None] = lambda line: None,
) -> CaptionerGenerator:
    """Train `generator` in place on `pairs`, and write it to `folder`.

    `kb`: where evidence comes from, never a pair's own entry; None trains without any. `critical`:
    the second stage. `folder` keeps features and logs; a run that was killed goes on there. Raises
    InvalidInput for data that can't be trained on, or a folder that is trained already."""
    folder = Path(folder)
    if (folder / SETTINGS).exists():
        raise InvalidInput(
            f'"{folder}" is a trained generator already; choose another folder, or remove it.'
        )
    pairs = [pair for pair in pairs if pair.texts]
    if not pairs:
        raise InvalidInput("There is no pair to train on: each needs a picture and a text.")
    first = replace(first, unknown_id=generator.tokenizer.unk_token_id)
    loop = first.loop(len(pairs))
    generator.settings = replace(generator.settings, reads=first.reads)
    generator.model.to(runtime.device())
    unseen = None
    with runtime.in_turn():
        found = _evidence(kb, pairs, first, folder, report)
        data = caption_data(generator, pairs, found, folder / "train", first.views)
        if held_out:
            found = _evidence(kb, held_out, replace(first, folds=0), folder, report)
            unseen = caption_data(generator, held_out, found, folder / "held-out")
    fit_once(GeneratorStep(generator.model, data, first, unseen), loop, folder / FIRST, report)
    if critical is not None:
        say = _speaker(generator.tokenizer)
        spoken = [
            [say(generator.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in p.texts]
            for p in pairs
        ]
        frequencies = cider_frequencies(spoken, tokenize="none")
        step = SelfCriticalStep(generator.model, data, critical, spoken, frequencies, say, unseen)
        fit_once(step, critical.loop(len(pairs)), folder / SECOND, report)
    generator.model.to("cpu").eval()
    if runtime.rank()[0] == 0:
        generator.save(folder / "whole")
        move_into(folder / "whole", folder)
    return generator


def _evidence(
    kb: KnowledgeBase | None,
    pairs: Sequence[Pair],
    config: GeneratorConfig,
    folder: Path,
    report: Callable[[str], None],
) -> EvidenceTexts | None:
    if kb is None or config.dropped >= 1:
        return None
    if config.folds and config.reads != "text":
        raise InvalidInput(
            f'folds is {config.folds}, which is for evidence found by text; take reads="text", or folds=0.'
        )
    vectors = picture_vectors(kb, pairs)
    if config.folds:
        home = folder / "crossfit"
        features = pair_features(pairs, StarterConfig().image_size, HEADS.views, home / "features")
        return cross_fitted(
            pairs, features, vectors, config.most, config.folds, home, HEADS, report
        )
    return read_evidence(find_evidence(kb, pairs, vectors, config.most, config.reads), config.most)


def caption_data(
    generator: CaptionerGenerator,
    pairs: Sequence[Pair],
    found: EvidenceTexts | None,
    folder: Path,
    views: int = 1,
) -> GeneratorData:
    """Pictures, words and evidence of `pairs` as the generator reads them; features are kept in
    `folder`."""
    end = generator.model.generation_config.eos_token_id
    texts = Texts.to_write(
        [text for pair in pairs for text in pair.texts], generator.tokenizer, end
    )
    offsets = np.cumsum([0, *(len(pair.texts) for pair in pairs)])
    sources = generator.sources
    if isinstance(sources, StarterSources):
        trunk = trunk_features(pairs, sources.size, views, folder)
        return StarterData(
            texts, offsets, states_of(found, sources) if found is not None else None, trunk.grids
        )
    assert isinstance(sources, ProcessorSources)
    images = [pair.image for pair in pairs]
    return PictureData(texts, offsets, found, images, sources, generator.settings.budget)


def _speaker(tokenizer: Any) -> Callable[[Sequence[int]], str]:
    """Tokens to their words in lower case, a space between them."""
    return lambda ids: " ".join(words(tokenizer.decode(ids, skip_special_tokens=True)))
