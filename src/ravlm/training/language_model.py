"""`train_language_model`: next-token pre-training of our decoder, or of any causal language model
of Transformers, on texts.

The resulting folder contains the model and its tokenizer as Transformers saves them; a generator
can start from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ravlm import runtime
from ravlm.checkpoint import CONFIG, move_checkpoint_into
from ravlm.data.readers import read_entries
from ravlm.encoders.hub_files import quiet
from ravlm.encoders.transformers_io import read_tokenizer
from ravlm.errors import InvalidInput, NotFound
from ravlm.files import atomic_write
from ravlm.fusion.decoder import DecoderConfig, EvidenceDecoder
from ravlm.generation.captioner.modeling import load_model
from ravlm.generation.captioner.tokenizer import train_tokenizer
from ravlm.training.batches import batch_rows
from ravlm.training.caption_dataset import TokenSequences
from ravlm.training.config import TrainingConfig
from ravlm.training.model_card import ModelCard, describe_data, write_model_card
from ravlm.training.tracking import Tracker, silent, untracked
from ravlm.training.trainer import AccumulatingStep, fit, last_figures, untrained_figures

MODEL_FILE = "model.safetensors"
_IGNORED = -100
"""Label of positions without a loss."""


@dataclass(frozen=True)
class LanguageModelTrainingConfig(TrainingConfig):
    """How a language model is trained, and the size of a new one.

    The default learning rate is for new models; pretrained ones need 1e-5 to 1e-4.
    """

    epochs: int = 5
    batch_size: int = 256
    min_frequency: int = 4
    """How often a word must occur to be in the vocabulary of a new tokenizer."""
    width: int = 256
    """Hidden size of a new model."""
    layers: int = 3
    """Layers of a new model."""
    heads: int = 4
    """Attention heads of a new model."""
    max_length: int = 128
    """Tokens of a text that are read; longer texts are truncated."""
    held_out: float = 0.05
    """Fraction of the texts that is not trained on and measures the perplexity in the log."""

    example_name: ClassVar[str] = "texts"


class LanguageModelStep(AccumulatingStep):
    """Next-token loss of a batch of texts."""

    def __init__(
        self,
        model: Any,
        texts: TokenSequences,
        config: LanguageModelTrainingConfig,
        held_out: TokenSequences | None = None,
    ) -> None:
        self.model = model
        self._language_model: Any = model
        self.texts = texts
        self.config = config
        self.held_out = held_out
        self.batch_size = config.batch_size
        self.accumulate = config.accumulate

    def part(
        self, index: int, generator: torch.Generator, rows: slice
    ) -> tuple[dict[str, Tensor], float]:
        batch = batch_rows(len(self.texts), self.batch_size, index, self.config.seed).numpy()
        num_targets = self.texts.lengths[batch] - 1  # the first token is not predicted
        weight = num_targets[rows].sum() / num_targets.sum()
        return {"loss": self._loss(self.texts, batch[rows])}, weight

    def _loss(self, texts: TokenSequences, rows: np.ndarray) -> Tensor:
        labels = torch.from_numpy(texts.pad(rows, _IGNORED)).to(self._language_model.device)
        mask = labels != _IGNORED
        with runtime.autocast(labels.device):
            return self._language_model(
                input_ids=labels.masked_fill(~mask, 0), attention_mask=mask.long(), labels=labels
            ).loss

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the perplexity per token of the held-out texts."""
        if self.held_out is None or not len(self.held_out):
            return {}
        losses: list[float] = []
        counts: list[int] = []
        for start in range(0, len(self.held_out), self.batch_size):
            rows = np.arange(start, min(start + self.batch_size, len(self.held_out)))
            losses.append(float(self._loss(self.held_out, rows)))
            counts.append(int((self.held_out.lengths[rows] - 1).sum()))
        return {"held-out perplexity": float(np.exp(np.average(losses, weights=counts)))}


class TextStream:
    """The texts of a source: lines of a .txt file, or the texts of entries. Each iteration reads
    the source again."""

    def __init__(self, source: str | Path) -> None:
        self.source = source

    def __iter__(self) -> Iterator[str]:
        if str(self.source).lower().endswith(".txt"):
            with open(self.source, encoding="utf-8") as file:
                yield from (line.strip() for line in file if line.strip())
            return
        for entry in read_entries(self.source):
            yield from entry.texts


def read_texts(source: str | Path) -> TextStream:
    """Stream the texts of a source: lines of a .txt file, or the texts of entries."""
    return TextStream(source)


def train_language_model(
    texts: Iterable[str],
    folder: str | Path,
    config: LanguageModelTrainingConfig = LanguageModelTrainingConfig(),
    model: Any = None,
    tokenizer: Any = None,
    report: Callable[[str], None] = silent,
    tracker: Tracker = untracked,
) -> Any:
    """Train `model` (by default a new decoder of ours) on `texts` and return it.

        ravlm.train_language_model(["a dog runs", ...], "runs/language")

    `folder` becomes its checkpoint with a model card, and keeps log.jsonl; a run that was killed
    resumes there. `report` gets lines for people, `tracker` the figures of each line of the log.
    Raises InvalidInput if there are no texts, if `folder` contains a trained model, or for a model
    without its tokenizer.
    """
    folder = Path(folder)
    if (folder / CONFIG).exists():
        raise InvalidInput(
            f'"{folder}" already contains a trained language model. Choose another folder, or '
            "delete it."
        )
    if model is not None and tokenizer is None:
        raise InvalidInput("A model needs its own tokenizer. Pass tokenizer=.")
    train, held_out = _split_texts(texts, config)
    config = config.for_data(len(train), report)
    base = "" if model is None else model.name_or_path or type(model).__name__
    if tokenizer is None:
        tokenizer = train_tokenizer(train, config.min_frequency)
        tokenizer.model_max_length = config.max_length
    if model is None:
        model = new_decoder(config, len(tokenizer))
    model.to(runtime.device())
    train_tokens = TokenSequences.tokenize(train, tokenizer)
    held_out_tokens = TokenSequences.tokenize(held_out, tokenizer)
    step = LanguageModelStep(model, train_tokens, config, held_out_tokens)
    before = untrained_figures(step) if base else {}

    def save() -> None:
        if runtime.process_index() > 0:
            return
        card = ModelCard(
            title="Language model",
            usage=f"ravlm train generator --pairs PAIRS --out DIR --language {folder.name}",
            data={
                "training": describe_data(len(train), "texts", texts),
                "held out": describe_data(len(held_out), "texts", texts),
            },
            settings=config,
            before=before,
            after=last_figures(folder),
            base=base,
        )
        _save(model, tokenizer, card, folder)

    fit(step, config.loop(len(train)), folder, report, tracker, save)
    return model.to("cpu")


def _save(model: Any, tokenizer: Any, card: ModelCard, folder: Path) -> None:
    """Save a model into a folder that holds its log; config.json is moved there last."""
    checkpoint = folder / "whole"
    with atomic_write(checkpoint) as temporary, quiet():
        tokenizer.save_pretrained(temporary)
        model.save_pretrained(temporary)
        write_model_card(temporary, card)
    move_checkpoint_into(checkpoint, folder)


def _split_texts(
    texts: Iterable[str], config: LanguageModelTrainingConfig
) -> tuple[list[str], list[str]]:
    """Return training texts and held-out texts, both in random order."""
    nonempty = [text for text in texts if text.strip()]
    num_held_out = int(config.held_out * len(nonempty))
    order = np.random.default_rng(config.seed).permutation(len(nonempty))
    shuffled = [nonempty[i] for i in order]
    return shuffled[num_held_out:], shuffled[:num_held_out]


def new_decoder(config: LanguageModelTrainingConfig, vocab_size: int) -> EvidenceDecoder:
    """Return our decoder with random weights of the seed."""
    with runtime.preserved_rng():
        torch.manual_seed(config.seed)
        return EvidenceDecoder(new_decoder_config(config, vocab_size))


def new_decoder_config(config: LanguageModelTrainingConfig, vocab_size: int) -> DecoderConfig:
    """Return the configuration of a new decoder."""
    return DecoderConfig(
        vocab_size=vocab_size,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        max_position_embeddings=config.max_length,
    )


def read_language_model(folder: str | Path) -> tuple[Any, EvidenceDecoder]:
    """Load the tokenizer and the decoder from a folder of `train_language_model`.

    Raises NotFound if there is none, InvalidInput for another kind of model, BrokenData if weights
    are missing.
    """
    folder = Path(folder)
    if not (folder / MODEL_FILE).is_file():
        raise NotFound(
            f'There is no language model in "{folder}". Train one: '
            f"ravlm train language --out {folder}"
        )
    model_type = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if model_type != DecoderConfig.model_type:
        raise InvalidInput(
            f'"{folder}" contains a "{model_type}" model, which cannot encode images. Add an image '
            "model: --vision."
        )
    model = load_model(folder, EvidenceDecoder)
    return read_tokenizer(folder, str(folder)), model
