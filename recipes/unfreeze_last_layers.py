"""Contrastive training of the backbones' last stages together with a pair of heads.

A copy of the image network's last block and head, and of the text network's last two layers, is
trained. Everything below is frozen, and its outputs are computed once.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ravlm import runtime
from ravlm.encoders.starter import efficientnet_torch, minilm
from ravlm.encoders.starter.config import STAGE_PREFIX
from ravlm.metrics.retrieval import cross_modal_recall
from ravlm.training.batches import batch_rows
from ravlm.training.config import TrainingConfig
from ravlm.training.contrastive import (
    ClassWords,
    ContrastiveHeads,
    contrastive_loss,
    recall_figures,
)
from ravlm.training.features import TrunkFeatures
from ravlm.training.grad_cache import cached_backward
from ravlm.training.trainer import TrainingStep


@dataclass(frozen=True)
class UnfreezeConfig(TrainingConfig):
    """How a member is trained, starting from trained heads."""

    epochs: int = 16
    batch_size: int = 1000
    chunk_size: int = 100
    """Images, or texts, that a stage processes at once: memory grows with it, not with the batch
    size."""
    image_stage_rate: float = 0.3
    text_stage_rate: float = 0.08
    """Factors of the learning rate for the stages."""
    dropout: float = 0.4
    class_words: int = 120
    ema_decay: float = 0.95
    weight_decay: float = 1e-3

    example_name: ClassVar[str] = "images"
    saves_per_run: ClassVar[int] = 6
    min_save_interval: ClassVar[int] = 10

    def warmup_steps(self, steps: int) -> int:
        return 30


class TextStage(nn.Module):
    """The text network's last layers: states (n, tokens, 384) and mask -> their mean (n, 384)."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import BertModel

        # eager: the backward of torch's fused attention is six times slower in bf16 on a CPU
        model = BertModel.from_pretrained(
            str(minilm.model_folder()), local_files_only=True, attn_implementation="eager"
        )
        self.layers = nn.ModuleList(model.encoder.layer[minilm.TRUNK_LAYERS :])
        for module in self.layers.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        attention_bias = (1 - mask[:, None, None, :]) * -1e4
        for layer in self.layers:
            states = layer(states, attention_bias.to(states.dtype))
        return (states.float() * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


class StarterMember(nn.Module):
    """A copy of both last stages with a pair of heads."""

    def __init__(
        self, heads: ContrastiveHeads, network: efficientnet_torch.EfficientNetLite2, dropout: float
    ) -> None:
        super().__init__()
        self.image_stage = efficientnet_torch.LastStage(network)
        self.text_stage = TextStage()
        self.heads = copy.deepcopy(heads)
        self.heads.image.dropout = dropout
        self.heads.text.dropout = dropout

    def arrays(self, member: int) -> dict[str, np.ndarray]:
        """Return all weights under the names in the starter's checkpoint."""
        image, text = f"image.{member}", f"text.{member}"
        arrays = self.heads.image.arrays(image) | self.heads.text.arrays(text)
        for name, value in self.image_stage.state_dict().items():
            arrays[f"{image}.{STAGE_PREFIX}.{name}"] = value.numpy()
        for name, value in self.text_stage.layers.state_dict().items():
            number, parameter = name.split(".", 1)
            layer = f"encoder.layer.{minilm.TRUNK_LAYERS + int(number)}"
            arrays[f"{text}.{STAGE_PREFIX}.{layer}.{parameter}"] = value.numpy()
        return arrays


class UnfreezeStep(TrainingStep):
    """Each step: a batch of images, one view and one text of each, and some class words, with
    gradient caching."""

    def __init__(
        self,
        features: TrunkFeatures,
        heads: ContrastiveHeads,
        config: UnfreezeConfig,
        class_words: ClassWords,
        held_out: TrunkFeatures | None = None,
    ) -> None:
        self.features = features
        self.config = config
        self.class_words = class_words
        self.held_out = held_out
        torch.manual_seed(config.seed)
        network = efficientnet_torch.load_network()
        self.model = self.member = StarterMember(heads, network, config.dropout)
        self.dtype = runtime.inference_dtype(torch.device("cpu"))

    def learning_rate_factor(self, name: str) -> float:
        if name.startswith("image_stage."):
            return self.config.image_stage_rate
        return self.config.text_stage_rate if name.startswith("text_stage.") else 1.0

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        raise TypeError("a member is trained with `backward`, chunk by chunk")

    def backward(self, index: int, generator: torch.Generator) -> dict[str, float]:
        config, features, heads = self.config, self.features, self.member.heads
        images, views, texts = self._batch(index, generator)
        photos = torch.from_numpy(np.array(features.pooled_images))
        moved, names = self.class_words.sample(photos, config.class_words, generator)
        class_word_chunk = np.zeros(0, np.int64)  # an empty chunk stands for the class words

        def encode_images(rows: np.ndarray) -> Tensor:
            if not len(rows):
                return heads.image(moved)
            return self._encode_images(features, views[rows], images[rows])

        def encode_texts(rows: np.ndarray) -> Tensor:
            if not len(rows):
                return heads.text(names)
            return self._encode_texts(features, texts[rows])

        def loss_of(image_vectors: Tensor, text_vectors: Tensor) -> Tensor:
            vectors = image_vectors, text_vectors
            return contrastive_loss("softmax", vectors, None, heads.log_scale, heads.bias)

        chunks = [*_chunks(config.batch_size, config.chunk_size), class_word_chunk]
        loss = cached_backward([(encode_images, chunks), (encode_texts, chunks)], loss_of)
        return {"loss": float(loss)}

    def _batch(
        self, index: int, generator: torch.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return images, views and texts of a step, (batch_size,) each, sorted by text length."""
        config, features = self.config, self.features
        num_images = len(features.offsets) - 1
        images = batch_rows(num_images, config.batch_size, index, config.seed).numpy()
        views = torch.randint(len(features.grids), (config.batch_size,), generator=generator)
        fractions = torch.rand(config.batch_size, generator=generator).numpy()
        num_texts = np.diff(features.offsets)[images]
        texts = features.offsets[images] + (fractions * num_texts).astype(np.int64)
        order = np.argsort(np.diff(features.spans)[texts], kind="stable")  # little padding
        return images[order], views.numpy()[order], texts[order]

    def _encode_images(
        self, features: TrunkFeatures, views: np.ndarray, images: np.ndarray
    ) -> Tensor:
        grids = np.stack([features.grids[v][i] for v, i in zip(views, images, strict=True)])
        inputs = torch.from_numpy(grids).float().contiguous(memory_format=torch.channels_last)
        with runtime.autocast(torch.device("cpu"), self.dtype):
            pooled = self.member.image_stage(inputs)
        return self.member.heads.image(pooled)

    def _encode_texts(self, features: TrunkFeatures, texts: np.ndarray) -> Tensor:
        states, mask = features.token_states(texts)
        with runtime.autocast(torch.device("cpu"), self.dtype):
            pooled = self.member.text_stage(
                torch.from_numpy(states).float(), torch.from_numpy(mask)
            )
        return self.member.heads.text(pooled)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the recall on the held-out pairs."""
        features = self.held_out
        if features is None:
            return {}
        size = self.config.chunk_size
        images = [
            self._encode_images(features, np.zeros(len(rows), np.int64), rows)
            for rows in _chunks(len(features.offsets) - 1, size)
        ]
        texts = [self._encode_texts(features, rows) for rows in _chunks(features.offsets[-1], size)]
        recall = cross_modal_recall(
            torch.cat(images).numpy(), torch.cat(texts).numpy(), features.owner
        )
        return recall_figures(recall)


def _chunks(num_rows: int, size: int) -> list[np.ndarray]:
    return [np.arange(start, min(start + size, num_rows)) for start in range(0, num_rows, size)]
