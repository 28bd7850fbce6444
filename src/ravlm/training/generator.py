"""`train_generator`: train a captioner on pairs, with evidence retrieved from a knowledge base.

Two stages: next-token loss, then optionally self-critical training with CIDEr.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ravlm import runtime
from ravlm.checkpoint import move_checkpoint_into
from ravlm.data.text import split_words
from ravlm.encoders.starter.config import StarterConfig
from ravlm.errors import InvalidInput
from ravlm.generation.captioner.generator import CaptionerGenerator
from ravlm.generation.captioner.settings import SETTINGS_FILE
from ravlm.knowledge.base import KnowledgeBase
from ravlm.metrics.cider import cider_frequencies
from ravlm.records import Pair
from ravlm.training.caption_dataset import CaptionDataset, caption_dataset
from ravlm.training.captioning_steps import (
    CaptioningStep,
    GeneratorTrainingConfig,
    SelfCriticalStep,
)
from ravlm.training.cross_fitting import FOLD_CONFIG, cross_fit_evidence
from ravlm.training.evidence import EvidenceTexts, evidence_texts, find_evidence, image_vectors
from ravlm.training.features import pair_features
from ravlm.training.trainer import fit_once, silent

FIRST_STAGE = "first"
SELF_CRITICAL_STAGE = "critical"
"""Folders of the two stages, each with its log."""


def train_generator(
    generator: CaptionerGenerator,
    pairs: Sequence[Pair],
    kb: KnowledgeBase | None,
    folder: str | Path,
    config: GeneratorTrainingConfig = GeneratorTrainingConfig(),  # noqa: B008 frozen
    self_critical: GeneratorTrainingConfig | None = None,
    held_out: Sequence[Pair] = (),
    report: Callable[[str], None] = silent,
) -> CaptionerGenerator:
    """Train `generator` in place on `pairs`, save it to `folder` and return it.

        kb = ravlm.KnowledgeBase.open("kb/")
        ravlm.train_generator(generator, pairs, kb, "runs/captioner")

    Evidence comes from `kb`, never from a pair's own entry; with None there is no evidence.
    `self_critical` configures the second stage. `folder` keeps features and logs; a run that was
    killed resumes there. Raises InvalidInput for data that cannot be trained on, or if `folder`
    contains a trained generator.
    """
    folder = Path(folder)
    check_untrained(folder)
    pairs = [pair for pair in pairs if pair.texts]
    if not pairs:
        raise InvalidInput("There are no pairs to train on. Each needs an image and a text.")
    config = replace(config, unk_token_id=generator.tokenizer.unk_token_id)
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
    fit_once(step, loop, folder / FIRST_STAGE, report)
    if self_critical is not None:
        step = _self_critical_step(generator, pairs, data, self_critical, held_out_data)
        fit_once(step, self_critical.loop(len(pairs)), folder / SELF_CRITICAL_STAGE, report)
    generator.model.to("cpu").eval()
    save_generator(generator, folder)
    return generator


def check_untrained(folder: Path) -> None:
    """Raise InvalidInput if the folder contains a trained generator."""
    if (folder / SETTINGS_FILE).exists():
        raise InvalidInput(
            f'"{folder}" already contains a trained generator. Choose another folder, or delete it.'
        )


def save_generator(generator: CaptionerGenerator, folder: Path) -> None:
    """Save the generator into a folder that holds logs and features (main process only)."""
    if runtime.process_index() == 0:
        checkpoint = folder / "whole"
        generator.save(checkpoint)
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
    cache = folder / "crossfit"
    size = StarterConfig().image_size
    features = pair_features(pairs, size, FOLD_CONFIG.views, cache / "features")
    return cross_fit_evidence(
        pairs, features, vectors, num_candidates, config.folds, cache, FOLD_CONFIG, report
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
