"""Tiny data sets and steps for the tests of training."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ravlm.encoders.starter.config import TEXT_WIDTH
from ravlm.generation.base import Request
from ravlm.generation.captioner.tokenizer import train_tokenizer
from ravlm.generation.chat.generator import ChatGenerator
from ravlm.records import Entry, Evidence, Hit, Part
from ravlm.training.caption_dataset import (
    CaptionDataset,
    StarterCaptionDataset,
    TokenSequences,
)
from ravlm.training.captioning_steps import CaptioningStep, GeneratorTrainingConfig
from ravlm.training.chat_examples import ChatExample, ChatExamples
from ravlm.training.chat_tuning import ChatTuningStep
from ravlm.training.contrastive import EncoderTrainingConfig
from ravlm.training.evidence import EvidenceStates
from ravlm.training.features import PairFeatures
from ravlm.training.language_model import (
    LanguageModelStep,
    LanguageModelTrainingConfig,
    new_decoder,
)
from ravlm.training.lora import LoraConfig
from ravlm.training.retriever import RetrieverData, RetrieverStep, RetrieverTrainingConfig
from ravlm.training.starter_generator import StarterGeneratorConfig, new_model
from ravlm.training.trainer import AccumulatingStep
from tests.helpers.chat_checkpoints import llava

NOUNS = ("dog", "cat", "bird", "horse", "fish", "goat", "lion", "bear")
CAPTIONS = [f"a {noun} runs over the grass" for noun in NOUNS]
SMALL_HEADS = EncoderTrainingConfig(
    epochs=30,
    batch_size=8,
    learning_rate=3e-3,
    aligned_dim=16,
    hidden_dim=32,
    views=2,
    held_out=0.0,
    dropout=0.0,
)
TINY_LANGUAGE_MODEL = LanguageModelTrainingConfig(width=32, layers=1, heads=2, batch_size=8)


def random_features(n: int = 40, seed: int = 0) -> PairFeatures:
    """Random features of n images in two views, with three texts each."""
    random = np.random.default_rng(seed)
    return PairFeatures(
        images=random.random((2, n, 1280), np.float32),
        texts=random.standard_normal((3 * n, 384)).astype(np.float32),
        offsets=np.arange(0, 3 * n + 1, 3),
    )


def caption_data(tokenizer: object, n: int = 8) -> CaptionDataset:
    """Equal images: only the evidence (one entry each, with a state for its noun) tells them
    apart."""
    grids = np.zeros((n, 208, 2, 2), np.float16)
    states = np.random.default_rng(0).normal(size=(n, TEXT_WIDTH)).astype(np.float16)
    entries, scores = np.arange(n)[:, None], np.ones((n, 1), np.float32)
    evidence = EvidenceStates(entries, scores, np.arange(n + 1), states, np.arange(n + 1))
    captions = TokenSequences.tokenize_targets(CAPTIONS[:n], tokenizer, 2)
    return StarterCaptionDataset(captions, np.arange(n + 1), evidence, [grids])


def language_step(accumulate: int) -> AccumulatingStep:
    """Texts of very different lengths, so that parts have different numbers of tokens."""
    tokenizer = train_tokenizer(CAPTIONS, min_frequency=1)
    texts = [" ".join([caption] * (1 + i % 4)) for i, caption in enumerate(CAPTIONS)]
    model = new_decoder(TINY_LANGUAGE_MODEL, len(tokenizer))
    config = replace(TINY_LANGUAGE_MODEL, accumulate=accumulate)
    return LanguageModelStep(model, TokenSequences.tokenize(texts, tokenizer), config)


def captioning_step(accumulate: int) -> AccumulatingStep:
    tokenizer = train_tokenizer(CAPTIONS, min_frequency=1)
    config = GeneratorTrainingConfig(
        batch_size=8,
        captions=1,
        num_evidence=1,
        num_candidates=1,
        evidence_dropout=0.3,
        max_length=7,
        accumulate=accumulate,
    )
    model = new_model(StarterGeneratorConfig(TINY_LANGUAGE_MODEL), len(tokenizer), 2)
    return CaptioningStep(model, caption_data(tokenizer), config)


def retriever_step(accumulate: int) -> AccumulatingStep:
    generator = torch.Generator().manual_seed(0)
    queries = F.normalize(torch.randn((8, 6), generator=generator), dim=-1)
    entries = F.normalize(torch.randn((8, 3, 6), generator=generator), dim=-1)
    data = RetrieverData(queries, entries, torch.randn((8, 2, 3), generator=generator))
    config = RetrieverTrainingConfig(batch_size=8, rank=2, accumulate=accumulate)
    return RetrieverStep(data, config)


class FactExamples(ChatExamples):
    """Questions about one of two facts, with and without a picture, and answers of all lengths."""

    batch_size = 8
    values = ("red", "blue and very much green", "white", "gray or brown")

    def batch(self, index: int, rng: random.Random) -> list[ChatExample]:
        return [self.example(number, rng) for number in range(self.batch_size)]

    def example(self, number: int, rng: random.Random) -> ChatExample:
        value = rng.choice(self.values)
        texts = [f"Kido is {value}", "Lona is pink"]
        rng.shuffle(texts)
        hits = tuple(
            Hit(Entry(text.split()[0], text=text), 1.0, Part("text", 0, text)) for text in texts
        )
        mark = 1 + [hit.entry.id for hit in hits].index("Kido")
        image = Image.new("RGB", (32, 32), "green") if number % 3 == 0 else None
        request = Request("ask", "What is Kido?", image=image, evidence=Evidence(hits))
        return ChatExample(request, (f"{value} [{mark}]",))


def chat_step(accumulate: int) -> AccumulatingStep:
    """A chat model whose prompts have different numbers of images."""
    with tempfile.TemporaryDirectory() as folder:
        generator = ChatGenerator.load(llava(Path(folder)), dtype=torch.float32)
        assert generator.model.fingerprint, "it is cached: the folder will be gone"
    torch.manual_seed(0)
    config, dtype = LoraConfig(r=2), torch.float32
    step = ChatTuningStep(generator, FactExamples(), config, (), accumulate, False, dtype)
    with torch.no_grad():
        for name, weight in step.model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    return step


ACCUMULATING_STEPS: dict[str, Callable[[int], AccumulatingStep]] = {
    "language": language_step,
    "generator": captioning_step,
    "retriever": retriever_step,
    "chat": chat_step,
}
"""Name -> function from `accumulate` to a step."""
