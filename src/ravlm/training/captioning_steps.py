"""Training steps of a captioner: next-token loss with evidence, and self-critical training.

An image is encoded once for all its captions. Each step samples k entries from a longer list and
drops all evidence of some images, so that the model neither ignores evidence nor merely copies it,
and also works closed book.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ravlm import runtime
from ravlm.generation.captioner.modeling import CaptionerModel
from ravlm.metrics.cider import CiderFrequencies, cider
from ravlm.records import Modality
from ravlm.training.batches import batch_rows
from ravlm.training.caption_dataset import CaptionDataset
from ravlm.training.config import TrainingConfig
from ravlm.training.evidence import sample_evidence, top_evidence
from ravlm.training.trainer import AccumulatingStep

_IGNORED = -100
"""Label of positions without a loss."""


@dataclass(frozen=True)
class GeneratorTrainingConfig(TrainingConfig):
    """How a captioner is trained. A batch has `batch_size` images and `captions` texts of each."""

    epochs: int = 12
    batch_size: int = 64
    captions: int = 5
    ema_decay: float = 0.995
    num_evidence: int = 4
    """Entries of evidence in a step."""
    num_candidates: int = 24
    """Entries that `num_evidence` are sampled from."""
    evidence_modality: Modality = "image"
    """Modality used to retrieve evidence, in training and later: see
    `Generator.evidence_modality`."""
    folds: int = 0
    """Retrieve evidence by text, with heads trained on the other folds of the pairs; 0: with the
    base's encoder, which must not have been trained on the pairs."""
    evidence_dropout: float = 0.25
    """Fraction of images without evidence in a step; 1: closed book."""
    label_smoothing: float = 0.1
    word_dropout: float = 0.1
    """Fraction of input tokens replaced by `unk_token_id`."""
    unk_token_id: int | None = 3
    """<unk> in our own vocabularies; None: no word dropout."""
    num_samples: int = 5
    """Texts sampled for each image in self-critical training."""
    self_critical: GeneratorTrainingConfig | None = None
    """A second stage with CIDEr as reward; None: there is none."""
    max_length: int = 20
    """Tokens of a caption; longer ones are truncated, so that a few do not slow down the batch."""
    views: int = 2
    """Views of each image, if features are cached: unchanged, mirrored, then random crops."""
    stage_rate: float = 0.3
    """Factor of the learning rate for the model's image stage; 0 freezes it."""

    example_name: ClassVar[str] = "images"
    saves_per_run: ClassVar[int] = 10
    logs_per_run: ClassVar[int] = 60


class CaptioningStep(AccumulatingStep):
    """Next-token loss of captions, given image and evidence."""

    def __init__(
        self,
        model: CaptionerModel,
        data: CaptionDataset,
        config: GeneratorTrainingConfig,
        held_out: CaptionDataset | None = None,
    ) -> None:
        self.model = self.captioner = model
        self.data = data
        self.config = config
        self.held_out = held_out
        self.device = model.device
        self.batch_size = config.batch_size
        self.accumulate = config.accumulate

    def learning_rate_factor(self, name: str) -> float:
        return self.config.stage_rate if name.startswith("encoder.image_stage.") else 1.0

    def part(
        self, index: int, generator: torch.Generator, rows: slice
    ) -> tuple[dict[str, Tensor], float]:
        config = self.config
        images, random = self._batch(index, generator)
        captions = self._sample_captions(images, random)
        labels = torch.from_numpy(self.data.captions.pad(captions, _IGNORED))
        labels = labels[:, : config.max_length]  # (batch_size * captions, t)
        is_dropped = torch.rand(labels.shape, generator=generator) < config.word_dropout

        lengths = (labels != _IGNORED).sum(1)
        caption_rows = slice(rows.start * config.captions, rows.stop * config.captions)
        max_length = int(lengths[caption_rows].max())
        weight = int(lengths[caption_rows].sum()) / int(lengths.sum())
        with runtime.autocast(self.device):
            inputs = self._inputs(self.data, images, random, rows)
            loss = self._loss(
                inputs,
                labels[caption_rows, :max_length],
                is_dropped[caption_rows, :max_length],
            )
        return {"loss": loss}, weight

    def _batch(
        self, index: int, generator: torch.Generator
    ) -> tuple[np.ndarray, np.random.Generator]:
        """Return the image numbers of a step, (batch_size,), and a random generator for it."""
        seed = int(torch.randint(2**31, (1,), generator=generator))
        images = batch_rows(len(self.data), self.batch_size, index, self.config.seed).numpy()
        return images, np.random.default_rng(seed)

    def _sample_captions(self, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Sample `captions` captions of each image; they repeat if an image has fewer.
        (batch_size * captions,)"""
        counts = np.diff(self.data.offsets)[images]
        is_missing = np.arange(counts.max()) >= counts[:, None]  # (batch_size, most captions)
        order = np.argsort(random.random(is_missing.shape) + is_missing)  # existing ones first
        columns = np.arange(self.config.captions) % counts[:, None]
        chosen = np.take_along_axis(order, columns, axis=1)
        return (self.data.offsets[images][:, None] + chosen).ravel()

    def _loss(self, inputs: dict[str, Tensor], labels: Tensor, is_dropped: Tensor) -> Tensor:
        config = self.config
        labels = labels.to(self.device)
        input_ids = self.captioner.shift_right(labels)
        if config.unk_token_id is not None:
            is_dropped[:, 0] = False  # keep the start token
            is_dropped = is_dropped.to(self.device) & (labels != _IGNORED)
            input_ids = input_ids.masked_fill(is_dropped, config.unk_token_id)
        loss = self.captioner(
            **inputs,
            labels=labels,
            decoder_input_ids=input_ids,
            label_smoothing=config.label_smoothing,
        ).loss
        assert loss is not None
        return loss

    def _inputs(
        self,
        data: CaptionDataset,
        images: np.ndarray,
        random: np.random.Generator | None = None,
        rows: slice = slice(None),
    ) -> dict[str, Tensor]:
        """Return the model's inputs for some rows of `images`.

        In training (`random`), views and evidence are sampled, for all images at once. Otherwise
        inputs are those of inference.
        """
        views = None if random is None else random.integers(data.num_views, size=len(images))[rows]
        inputs = data.image_inputs(images[rows], views)
        inputs |= self._evidence_inputs(data, images, random, rows)
        return {name: value.to(self.device) for name, value in inputs.items()}

    def _evidence_inputs(
        self,
        data: CaptionDataset,
        images: np.ndarray,
        random: np.random.Generator | None,
        rows: slice,
    ) -> dict[str, Tensor]:
        config, neighbors = self.config, data.neighbors
        k = config.num_evidence
        if neighbors is None or config.evidence_dropout >= 1 or k == 0:
            return {}
        if random is None:
            texts, scores = top_evidence(neighbors, images, k)
        else:
            texts, scores = sample_evidence(neighbors, images, k, config.evidence_dropout, random)
        texts, scores = texts[rows], scores[rows]
        if (texts < 0).all():
            return {}
        inputs = data.evidence_inputs(texts)
        if self.captioner.fusion.needs_evidence_scores:
            inputs["evidence_scores"] = torch.from_numpy(scores)
        return inputs

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the loss per token on held-out captions, with and without evidence, without
        smoothing and dropout."""
        data = self.held_out
        if data is None:
            return {}
        losses: dict[str, list[float]] = {"held-out loss": [], "held-out loss, closed book": []}
        for start in range(0, len(data), self.batch_size):
            images = np.arange(start, min(start + self.batch_size, len(data)))
            captions = data.captions.pad(data.offsets[images], _IGNORED)
            labels = torch.from_numpy(captions).to(self.device)
            inputs = self._inputs(data, images)
            closed_book = {n: x for n, x in inputs.items() if not n.startswith("evidence")}
            with runtime.autocast(self.device):
                for values, arm in zip(losses.values(), (inputs, closed_book), strict=True):
                    values.append(float(self.captioner(**arm, labels=labels).loss))
        return {name: float(np.mean(values)) for name, values in losses.items()}


class SelfCriticalStep(CaptioningStep):
    """Self-critical training with CIDEr as reward (Rennie et al. 2017).

    Several texts are sampled for each image; those better than the mean of the others become more
    likely (leave-one-out baseline; Luo 2020). If the batch is divided into parts, each part is a
    mean over its own sampled tokens.

    `references`: captions of each image, with spaces between words. `to_words`: maps tokens to a
    text in that form.
    """

    def __init__(
        self,
        model: CaptionerModel,
        data: CaptionDataset,
        config: GeneratorTrainingConfig,
        references: Sequence[Sequence[str]],
        frequencies: CiderFrequencies,
        to_words: Callable[[Sequence[int]], str],
        held_out: CaptionDataset | None = None,
    ) -> None:
        super().__init__(model, data, config, held_out)
        self.references = references
        self.frequencies = frequencies
        self._to_words = to_words

    def part(
        self, index: int, generator: torch.Generator, rows: slice
    ) -> tuple[dict[str, Tensor], float]:
        num_samples = self.config.num_samples
        images, random = self._batch(index, generator)
        inputs = self._inputs(self.data, images, random, rows)
        images = images[rows]
        with runtime.autocast(self.device):
            samples = self._sample(inputs)  # (n * num_samples, t)
            rewards = self._rewards(samples, images).reshape(-1, num_samples)
            baseline = (rewards.sum(1, keepdims=True) - rewards) / (num_samples - 1)
            advantages = torch.from_numpy((rewards - baseline).ravel()).to(self.device)
            input_ids = self.captioner.shift_right(samples)
            logits = self.captioner(**inputs, decoder_input_ids=input_ids).logits
        log_probs = logits.float().log_softmax(-1).gather(-1, samples[..., None])[..., 0]
        mask = _mask_until_end(samples, self.captioner.generation_config.eos_token_id)
        loss = -(advantages[:, None] * log_probs * mask).sum() / mask.sum()
        weight = len(images) / self.batch_size
        return {"loss": loss, "reward": torch.tensor(rewards.mean())}, weight

    def _sample(self, inputs: dict[str, Tensor]) -> Tensor:
        """Sample texts as tokens without the start token, (n * num_samples, t)."""
        self.captioner.eval()
        samples = self.captioner.generate(
            **inputs,
            do_sample=True,
            top_k=0,
            num_return_sequences=self.config.num_samples,
            max_new_tokens=self.config.max_length,
        )
        self.captioner.train()
        return samples[:, 1:]

    def _rewards(self, samples: Tensor, images: np.ndarray) -> np.ndarray:
        """Return the CIDEr of each sample, (n * num_samples,)."""
        texts = [self._to_words(tokens) for tokens in samples.tolist()]
        repeated = images.repeat(self.config.num_samples).tolist()
        references = [self.references[image] for image in repeated]
        score = cider(texts, references, tokenize="none", frequencies=self.frequencies)
        return np.array(score.items, np.float32)


def _mask_until_end(samples: Tensor, end_token: int) -> Tensor:
    """Return 1 for the tokens of each text (n, t) up to and including its end, 0 after it."""
    num_ends = (samples == end_token).cumsum(1)
    is_text = (num_ends == 0) | ((num_ends == 1) & (samples == end_token))
    return is_text.float()
