"""`train_generator`: train a captioner, or tune a chat model, with evidence from a knowledge base.

A captioner has two stages: next-token loss, then optionally self-critical training with CIDEr.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ravlm import runtime
from ravlm.checkpoint import move_checkpoint_into
from ravlm.data.text import split_words
from ravlm.errors import InvalidInput
from ravlm.generation.base import Generator
from ravlm.generation.captioner.generator import CaptionerGenerator
from ravlm.generation.captioner.settings import SETTINGS_FILE
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.knowledge.base import KnowledgeBase
from ravlm.metrics.cider import cider_frequencies
from ravlm.records import Pair
from ravlm.training.caption_dataset import CaptionDataset, caption_dataset
from ravlm.training.captioning_steps import (
    CaptioningStep,
    GeneratorTrainingConfig,
    SelfCriticalStep,
)
from ravlm.training.chat_generator import LoraTrainingConfig, train_chat_generator
from ravlm.training.cross_fitting import CROSS_FITTING, cross_fit_pairs
from ravlm.training.evidence import EvidenceTexts, evidence_texts, find_evidence, image_vectors
from ravlm.training.model_card import ModelCard, describe_data, write_model_card
from ravlm.training.tracking import Tracker, silent, untracked
from ravlm.training.trainer import fit_once, last_figures

C = TypeVar("C")

FIRST_STAGE = "first"
SELF_CRITICAL_STAGE = "critical"
"""Folders of the two stages, each with its log."""


def train_generator(
    model: Generator | str | os.PathLike[str],
    examples: Any,
    kb: KnowledgeBase | None,
    folder: str | Path,
    config: GeneratorTrainingConfig | LoraTrainingConfig | None = None,
    held_out: Any = (),
    report: Callable[[str], None] = silent,
    tracker: Tracker = untracked,
) -> Any:
    """Train `model` on examples with evidence retrieved from `kb`, save it to `folder` and return
    it.

        kb = ravlm.KnowledgeBase.open("kb/")
        ravlm.train_generator("Qwen/Qwen2-VL-2B-Instruct", "questions.jsonl", kb, "runs/birds")
        model = ravlm.RetrievalAugmentedVLM(kb, "Qwen/Qwen2-VL-2B-Instruct+runs/birds")

    `model` is a chat model, by folder, hub name or object: it gets a LoRA adapter, by a
    `LoraTrainingConfig`. Its examples are a JSON-lines file, `TrainingExample`s, pairs or mappings
    (see `ravlm.training.training_examples`). Or it is a captioner of ravlm, trained as a whole on
    pairs by a `GeneratorTrainingConfig`; with `kb` None it gets no evidence.

    No example gets its own entry as evidence. `held_out` are examples to measure the training by;
    for a chat model the default is a part of `examples`, which are answered before and after it
    (comparison.json). `folder` keeps features and logs; a run that was killed resumes there.
    `report` gets lines for people, `tracker` the figures.

    Raises InvalidInput for data that cannot be trained on, for a configuration of the other kind,
    or if `folder` contains a trained model; BrokenData and NotFound for examples that cannot be
    read.
    """
    if not isinstance(model, Generator):
        model = _load_captioner(model) or model
    if isinstance(model, CaptionerGenerator):
        captioning = _config_of(GeneratorTrainingConfig, config)
        return train_captioner(model, examples, kb, folder, captioning, held_out, report, tracker)
    if isinstance(model, Generator) and not isinstance(model, ChatGenerator):
        raise InvalidInput(
            f'The generator "{model.name}" can\'t be trained; pass a captioner, or a chat model of '
            "Transformers by folder or hub name."
        )
    if kb is None:
        raise InvalidInput("A chat model is tuned on evidence; pass kb=, a knowledge base.")
    lora = _config_of(LoraTrainingConfig, config)
    return train_chat_generator(model, examples, kb, folder, lora, held_out, report, tracker)


def _load_captioner(name: str | os.PathLike[str]) -> CaptionerGenerator | None:
    """Return the captioner of a folder; None if it holds none."""
    folder = Path(name).expanduser()
    return CaptionerGenerator.load(folder) if (folder / SETTINGS_FILE).is_file() else None


def _config_of(kind: type[C], config: Any) -> C:
    """Return the configuration. Raises InvalidInput for one of another kind."""
    if config is None:
        return kind()
    if not isinstance(config, kind):
        raise InvalidInput(
            f"The configuration is a {type(config).__name__}; this model is trained by a "
            f"{kind.__name__}."
        )
    return config


def train_captioner(
    generator: CaptionerGenerator,
    pairs: Sequence[Pair],
    kb: KnowledgeBase | None,
    folder: str | Path,
    config: GeneratorTrainingConfig = GeneratorTrainingConfig(),  # noqa: B008 frozen
    held_out: Sequence[Pair] = (),
    report: Callable[[str], None] = silent,
    tracker: Tracker = untracked,
) -> CaptionerGenerator:
    """Train a captioner in place on pairs of images and texts; arguments as in `train_generator`.

    Evidence comes from `kb`, never from a pair's own entry; with None there is no evidence.
    """
    folder = Path(folder)
    check_untrained(folder)
    source, pairs = pairs, [pair for pair in pairs if pair.texts]
    if not pairs:
        raise InvalidInput("There are no pairs to train on. Each needs an image and a text.")
    self_critical = config.self_critical
    config = replace(config, unk_token_id=generator.tokenizer.unk_token_id, self_critical=None)
    config = config.for_data(len(pairs))
    loop = config.loop(len(pairs))
    modality = config.evidence_modality
    generator.settings = replace(generator.settings, evidence_modality=modality)
    generator.model.to(runtime.device())

    held_out_data = None
    with runtime.main_process_first():
        evidence = _retrieve(kb, pairs, config, folder, report)
        data = caption_dataset(generator, pairs, evidence, folder / "train", config.views)
        if held_out:
            evidence = _retrieve(kb, held_out, replace(config, folds=0), folder, report)
            held_out_data = caption_dataset(generator, held_out, evidence, folder / "held-out")

    step = CaptioningStep(generator.model, data, config, held_out_data)
    fit_once(step, loop, folder / FIRST_STAGE, report, tracker)
    if self_critical is not None:
        self_critical = self_critical.for_data(len(pairs))
        step = _self_critical_step(generator, pairs, data, self_critical, held_out_data)
        loop = self_critical.loop(len(pairs))
        fit_once(step, loop, folder / SELF_CRITICAL_STAGE, report, tracker)
    generator.model.to("cpu").eval()
    stage = folder / (FIRST_STAGE if self_critical is None else SELF_CRITICAL_STAGE)
    card = ModelCard(
        title="Captioner",
        usage=f"ravlm caption KB IMAGE --generator {folder.name}",
        data={
            "training": describe_data(len(pairs), "images with captions", source),
            "held out": describe_data(len(held_out), "images with captions", source),
        },
        settings=config,
        after=last_figures(stage),
    )
    save_generator(generator, folder, card)
    return generator


def check_untrained(folder: Path) -> None:
    """Raise InvalidInput if the folder contains a trained generator."""
    if (folder / SETTINGS_FILE).exists():
        raise InvalidInput(
            f'"{folder}" already contains a trained generator. Choose another folder, or delete it.'
        )


def save_generator(generator: CaptionerGenerator, folder: Path, card: ModelCard) -> None:
    """Save the generator into a folder that holds logs and features (main process only)."""
    if runtime.process_index() == 0:
        checkpoint = folder / "whole"
        generator.save(checkpoint)
        write_model_card(checkpoint, card)
        move_checkpoint_into(checkpoint, folder)


def _retrieve(
    kb: KnowledgeBase | None,
    pairs: Sequence[Pair],
    config: GeneratorTrainingConfig,
    folder: Path,
    report: Callable[[str], None],
) -> EvidenceTexts | None:
    """Return the evidence for `pairs`; None for closed-book training."""
    if kb is None or config.evidence_dropout >= 1:
        return None
    if config.folds and config.evidence_modality != "text":
        raise InvalidInput(
            f"folds is {config.folds}, but cross-fitting needs evidence retrieved by text. Use "
            'evidence_modality="text", or folds=0.'
        )
    vectors = image_vectors(kb, pairs)
    num_candidates = config.num_candidates
    if not config.folds:
        hits = find_evidence(kb, pairs, vectors, num_candidates, config.evidence_modality)
        return evidence_texts(hits, num_candidates)
    return cross_fit_pairs(
        pairs, vectors, num_candidates, config.folds, folder / CROSS_FITTING, report
    )


def _self_critical_step(
    generator: CaptionerGenerator,
    pairs: Sequence[Pair],
    data: CaptionDataset,
    config: GeneratorTrainingConfig,
    held_out: CaptionDataset | None,
) -> SelfCriticalStep:
    tokenizer: Any = generator.tokenizer

    def to_words(tokens: Sequence[int]) -> str:
        """Decode to lower-case words with a space between them."""
        return " ".join(split_words(tokenizer.decode(tokens, skip_special_tokens=True)))

    references = [
        [to_words(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in pair.texts]
        for pair in pairs
    ]
    frequencies = cider_frequencies(references, tokenize="none")
    return SelfCriticalStep(
        generator.model, data, config, references, frequencies, to_words, held_out
    )
