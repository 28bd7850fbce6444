"""`train_language`: next-token pre-training of our decoder, or of any causal language model of
Transformers, on texts.

The folder that comes out holds the model and its tokenizer as Transformers saves them; a generator
can begin from it. Knows no picture and no evidence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ravlm import runtime
from ravlm.data.readers import read_entries
from ravlm.encoders.hub_files import quiet
from ravlm.errors import InvalidInput, NotFound
from ravlm.fusion.decoder import DecoderConfig, EvidenceDecoder
from ravlm.generation.captioner.generator import load_model
from ravlm.generation.captioner.tokenizer import train_words
from ravlm.training.caption_dataset import Texts
from ravlm.training.trainer import LoopConfig, PartedStep, batch_rows, fit, parts

DONE = "model.safetensors"


@dataclass(frozen=True)
class LanguageConfig:
    """How a language model is trained, and the shape of a new one."""

    epochs: int = 5
    batch: int = 256
    accumulate: int = 1
    """Parts that a batch is taken in, one after another: memory falls, the gradient stays."""
    rate: float = 1e-3
    weight_decay: float = 0.01
    least: int = 4
    """How often a word must occur to be in a new tokenizer's vocabulary."""
    width: int = 256
    layers: int = 3
    heads: int = 4
    longest: int = 128
    """Tokens of a text that are read; the rest of a longer one is a text of its own."""
    held_out: float = 0.05
    seed: int = 0

    def loop(self, texts: int) -> LoopConfig:
        """The loop's configuration for so many texts. Raises InvalidInput when they do not fill a
        batch."""
        if texts < self.batch:
            raise InvalidInput(
                f"A batch of {self.batch} is larger than the data ({texts} texts); make it smaller."
            )
        parts(self.batch, self.accumulate)
        steps = self.epochs * (texts // self.batch)
        return LoopConfig(
            steps=steps, rate=self.rate, warmup=min(200, steps // 5 + 1), weight_decay=self.weight_decay,
            seed=self.seed, save_every=max(20, steps // 5), log_every=max(1, steps // 40),
        )  # fmt: skip


class LanguageStep(PartedStep):
    """Next-token loss of a batch of texts."""

    def __init__(
        self, model: Any, texts: Texts, config: LanguageConfig, held_out: Texts | None = None
    ) -> None:
        self.model = model
        self._language: Any = model
        self.texts, self.config, self.held_out = texts, config, held_out
        self.batch, self.accumulate = config.batch, config.accumulate

    def part(
        self, index: int, generator: torch.Generator, rows: slice
    ) -> tuple[dict[str, Tensor], float]:
        chosen = batch_rows(len(self.texts.spans) - 1, self.batch, index, self.config.seed).numpy()
        told = np.diff(self.texts.spans)[chosen] - 1  # of the first word nothing is told
        return {"loss": self._loss(self.texts, chosen[rows])}, told[rows].sum() / told.sum()

    def _loss(self, texts: Texts, rows: np.ndarray) -> Tensor:
        labels = torch.from_numpy(texts.padded(rows, -100)).to(self._language.device)
        ids = labels.masked_fill(labels == -100, 0)
        with runtime.autocast(labels.device):
            return self._language(
                input_ids=ids, attention_mask=(labels != -100).long(), labels=labels
            ).loss

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Perplexity a token of the held-out texts."""
        if self.held_out is None or len(self.held_out.spans) < 2:
            return {}
        losses, counts = [], []
        for start in range(0, len(self.held_out.spans) - 1, self.config.batch):
            rows = np.arange(start, min(start + self.config.batch, len(self.held_out.spans) - 1))
            losses.append(float(self._loss(self.held_out, rows)))
            counts.append(int((np.diff(self.held_out.spans)[rows] - 1).sum()))
        return {"held-out perplexity": float(np.exp(np.average(losses, weights=counts)))}


def read_texts(source: str | Path) -> Iterator[str]:
    """The texts of a source: a .txt file gives a text a line, all else is read as entries are."""
    if str(source).lower().endswith(".txt"):
        with open(source, encoding="utf-8") as file:
            yield from (line.strip() for line in file if line.strip())
        return
    for entry in read_entries(source):
        yield from entry.texts


def train_language(
    texts: Iterable[str],
    folder: str | Path,
    config: LanguageConfig = LanguageConfig(),
    model: Any = None,
    tokenizer: Any = None,
    report: Callable[[str], None] = lambda line: None,
) -> Any:
    """Train `model` (a new decoder of ours where none is given) on `texts`; returns it.

    `folder` becomes its checkpoint and keeps log.jsonl; a run that was killed goes on there. Raises
    InvalidInput for texts that are too few, a folder that is trained already, or a model without
    its tokenizer."""
    folder = Path(folder)
    if (folder / DONE).exists():
        raise InvalidInput(
            f'"{folder}" is a trained language model already; choose another folder, or remove it.'
        )
    if model is not None and tokenizer is None:
        raise InvalidInput("A model needs its own tokenizer; give tokenizer=.")
    every = [text for text in texts if text.strip()]
    unseen = int(config.held_out * len(every))
    order = np.random.default_rng(config.seed).permutation(len(every))
    held_out, train = [every[i] for i in order[:unseen]], [every[i] for i in order[unseen:]]
    if tokenizer is None:
        tokenizer = train_words(train, config.least)
        tokenizer.model_max_length = config.longest
    loop = config.loop(len(train))
    if model is None:
        model = new_decoder(config, len(tokenizer))
    model.to(runtime.device())
    step = LanguageStep(model, Texts.of(train, tokenizer), config, Texts.of(held_out, tokenizer))
    fit(step, loop, folder, report)
    if runtime.rank()[0] == 0:
        with quiet():
            tokenizer.save_pretrained(folder)
            model.to("cpu").save_pretrained(folder)
    return model


def new_decoder(config: LanguageConfig, words: int) -> EvidenceDecoder:
    """Our decoder with random weights."""
    torch.manual_seed(config.seed)
    return EvidenceDecoder(shape(config, words))


def shape(config: LanguageConfig, words: int) -> DecoderConfig:
    """The shape of a new decoder of so many words."""
    return DecoderConfig(
        vocab_size=words, hidden_size=config.width, num_hidden_layers=config.layers,
        num_attention_heads=config.heads, max_position_embeddings=config.longest,
    )  # fmt: skip


def read_language(folder: str | Path) -> tuple[Any, EvidenceDecoder]:
    """Tokenizer and decoder of a folder that `train_language` made.

    Raises NotFound where there is none, InvalidInput where it is no decoder of ours, BrokenData
    where it lacks weights."""
    from transformers import AutoTokenizer

    folder = Path(folder)
    if not (folder / DONE).is_file():
        raise NotFound(
            f'There is no language model in "{folder}"; make one: ravlm train language --out {folder}'
        )
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind != DecoderConfig.model_type:
        raise InvalidInput(
            f'"{folder}" holds a model of type "{kind}", which can\'t see by itself; name an image model too: --vision.'
        )
    model = load_model(folder, EvidenceDecoder)
    with quiet():
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True), model
