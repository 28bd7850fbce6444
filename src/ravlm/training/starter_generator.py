"""Create an untrained captioner on the starter's backbones: what `ravlm train generator` starts
from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ravlm.encoders.starter import efficientnet_torch
from ravlm.encoders.starter.config import IMAGE_WIDTH, TEXT_WIDTH
from ravlm.fusion.decoder import EvidenceDecoder
from ravlm.generation.captioner.configuration import CaptionerConfig
from ravlm.generation.captioner.generator import CaptionerGenerator
from ravlm.generation.captioner.modeling import CaptionerModel
from ravlm.generation.captioner.processing import StarterProcessor
from ravlm.generation.captioner.settings import CaptionerSettings
from ravlm.generation.captioner.tokenizer import train_tokenizer
from ravlm.training.captioning_steps import GeneratorTrainingConfig
from ravlm.training.language_model import (
    LanguageModelTrainingConfig,
    new_decoder_config,
    read_language_model,
)

STARTER_GENERATOR_TRAINING = GeneratorTrainingConfig(
    num_evidence=8, num_candidates=12, views=4, evidence_modality="text", folds=5
)
"""How the starter generator was trained (first stage)."""
_SPECIAL_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_TEXT_CACHE_SIZE = 200_000
"""Texts whose states are cached during training."""


@dataclass(frozen=True)
class StarterGeneratorConfig:
    """Size of a new captioner on the starter's backbones."""

    language: LanguageModelTrainingConfig = field(
        default_factory=lambda: LanguageModelTrainingConfig(max_length=64)
    )
    """Size and vocabulary of the decoder."""
    mixing_layers: int = 1
    seed: int = 0


def new_generator(
    texts: Iterable[str],
    config: StarterGeneratorConfig = StarterGeneratorConfig(),
    language: str | Path | None = None,
) -> CaptionerGenerator:
    """Create a captioner with random weights and the vocabulary of `texts`.

    `language`: a folder of `ravlm train language`; the decoder starts from its weights, with its
    vocabulary and size.
    """
    settings = CaptionerSettings(num_beams=8, agreement_weight=4.0)
    if language is None:
        tokenizer, decoder = train_tokenizer(texts, config.language.min_frequency), None
    else:
        tokenizer, decoder = read_language_model(language)
    edge = -(-settings.image_size // 32)
    model = new_model(config, len(tokenizer), edge, decoder)
    processor = StarterProcessor(settings.image_size, cache_size=_TEXT_CACHE_SIZE)
    return CaptionerGenerator(model, tokenizer, processor, settings)


def new_model(
    config: StarterGeneratorConfig,
    vocab_size: int,
    edge: int,
    decoder: EvidenceDecoder | None = None,
) -> CaptionerModel:
    """Create the model with random weights, for image states of `edge` x `edge` positions; its
    decoder is a copy of `decoder`, if given."""
    decoder_config = (
        new_decoder_config(config.language, vocab_size) if decoder is None else decoder.config
    )
    torch.manual_seed(config.seed)
    model = CaptionerModel(
        CaptionerConfig(
            decoder=decoder_config.to_dict(),
            fusion="cross_attention",
            image_width=IMAGE_WIDTH,
            image_stage=True,
            evidence_width=TEXT_WIDTH,
            image_positions=edge * edge,
            mixing_layers=config.mixing_layers,
        )
    )
    network = efficientnet_torch.load_network()
    assert model.encoder.image_stage is not None
    model.encoder.image_stage.load_state_dict(efficientnet_torch.LastStage(network).state_dict())
    if decoder is not None:
        model.decoder.load_state_dict(decoder.state_dict())
    special_tokens: dict[str, Any] = {"decoder_start_token_id": 1, **_SPECIAL_TOKENS}
    model.generation_config.update(**special_tokens)
    return model
