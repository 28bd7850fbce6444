"""Contrastive training of the starter's heads on features of the frozen backbones.

The heads compute in torch what `ravlm.encoders.starter.encoder.head` computes in NumPy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravlm import runtime
from ravlm.encoders.losses import sigmoid_contrastive, softmax_contrastive
from ravlm.errors import InvalidInput
from ravlm.metrics.retrieval import CrossModalRecall, cross_modal_recall
from ravlm.training.batches import batch_rows, process_rows
from ravlm.training.config import TrainingConfig
from ravlm.training.features import PairFeatures
from ravlm.training.hard_negatives import mine_neighbors, with_hard_negatives
from ravlm.training.trainer import TrainingStep

_MAX_SCALE = 100


@dataclass(frozen=True)
class EncoderTrainingConfig(TrainingConfig):
    """How an encoder is trained. Each epoch shows one text of each image."""

    epochs: int = 40
    batch_size: int = 2000
    """Pairs that are contrasted with each other."""
    chunk_size: int = 64
    """Pairs that full towers process at once: memory grows with it, not with the batch size."""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    dropout: float = 0.2
    aligned_dim: int = 512
    hidden_dim: int = 1024
    temperature: float = 0.05
    class_words: int = 250
    """Classifier rows per batch that stand in for images of their class names; they teach words
    that the pairs lack."""
    hard_negatives: int = 0
    """Number of neighbors from which half of each batch is drawn; 0: batches are drawn evenly."""
    views: int = 2
    """Views of each image: unchanged, mirrored, then random crops."""
    held_out: float = 0.05
    """Fraction of the pairs that is not trained on and measures the recall in the log."""

    example_name: ClassVar[str] = "images"
    saves_per_run: ClassVar[int] = 4

    def __post_init__(self) -> None:
        if self.accumulate != 1:
            raise InvalidInput(
                f"accumulate is {self.accumulate}, but a contrastive loss needs the whole batch. "
                "Use a smaller chunk_size to save memory."
            )

    def warmup_steps(self, steps: int) -> int:
        return 50


class ProjectionHead(nn.Module):
    """Backbone features (n, width) to unit vectors (n, aligned_dim): a linear map plus two layers
    with ReLU."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor, config: EncoderTrainingConfig) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.linear = nn.Linear(len(mean), config.aligned_dim, bias=False)
        self.inner = nn.Linear(len(mean), config.hidden_dim)
        self.outer = nn.Linear(config.hidden_dim, config.aligned_dim)
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout((x - self.mean) / self.deviation, self.dropout, self.training)
        inner = F.dropout(F.relu(self.inner(x)), self.dropout, self.training)
        return F.normalize(self.linear(x) + self.outer(inner), dim=-1)

    def arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Return the weights under the names of `ravlm.encoders.starter.encoder.head`."""
        tensors = {
            "mean": self.mean,
            "deviation": self.deviation,
            "linear": self.linear.weight.T,
            "inner": self.inner.weight.T,
            "inner_bias": self.inner.bias,
            "outer": self.outer.weight.T,
            "outer_bias": self.outer.bias,
        }
        return {f"{prefix}.{name}": x.detach().numpy().copy() for name, x in tensors.items()}


class ContrastiveHeads(nn.Module):
    """The heads of both towers, and scale and bias of the loss."""

    def __init__(self, features: PairFeatures, config: EncoderTrainingConfig) -> None:
        super().__init__()
        images = torch.from_numpy(np.asarray(features.images[0]))
        texts = torch.from_numpy(np.asarray(features.texts))
        self.image = ProjectionHead(images.mean(0), images.std(0) + 1e-3, config)
        self.text = ProjectionHead(texts.mean(0), texts.std(0) + 1e-6, config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / config.temperature)))
        self.bias = nn.Parameter(torch.tensor(-10.0), requires_grad=config.loss == "sigmoid")


@dataclass(frozen=True)
class ClassWords:
    """Rows of the image classifier with the text features of their class names."""

    rows: np.ndarray
    """Directions (1000, 1280) of the pooled image features."""
    names: np.ndarray
    """(phrasings, 1000, 384)"""

    def sample(self, photos: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return n pseudo-images and the names of their classes in some phrasing.

        A pseudo-image is the features of a photo, moved far along the row of a class.
        """
        classes = torch.randperm(len(self.rows), generator=generator)[:n]
        directions = F.normalize(torch.from_numpy(self.rows)[classes], dim=1)
        base = photos[torch.randint(len(photos), (n,), generator=generator)]
        blur = torch.rand(n, 1, generator=generator)
        distance = torch.rand(n, 1, generator=generator)
        blurred = base.lerp(photos.mean(0), 0.2 + 0.8 * blur)
        moved = blurred + 8 * (0.5 + distance) * directions
        moved = moved.clamp(0, 6)  # the features come out of a ReLU6
        phrasing = torch.randint(len(self.names), (n,), generator=generator)
        return moved, torch.from_numpy(self.names)[phrasing, classes]


class ContrastiveStep(TrainingStep):
    """Each step: a batch of images, one view and one text of each, and some class words."""

    def __init__(
        self,
        features: PairFeatures,
        config: EncoderTrainingConfig,
        class_words: ClassWords | None = None,
        held_out: PairFeatures | None = None,
    ) -> None:
        self.features = features
        self.config = config
        self.class_words = class_words
        self.held_out = held_out
        torch.manual_seed(config.seed)
        self.model = self.heads = ContrastiveHeads(features, config)
        self._images = torch.from_numpy(features.images)  # (views, n, 1280)
        self._texts = torch.from_numpy(features.texts)
        self._num_texts = torch.from_numpy(np.diff(features.offsets))
        self._first_texts = torch.from_numpy(features.offsets[:-1])
        self._neighbors = self._mine(features.images[0]) if config.hard_negatives else None

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        images, texts = self._batch(index, generator)
        rows = process_rows(len(images))
        image_vectors = runtime.gather(self.heads.image(images[rows]))
        text_vectors = runtime.gather(self.heads.text(texts[rows]))
        loss = contrastive_loss(
            self.config.loss, image_vectors, text_vectors, self.heads.log_scale, self.heads.bias
        )
        return {"loss": loss}

    def _batch(self, index: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return image and text features of a step, (n, 1280) and (n, 384)."""
        config = self.config
        rows = batch_rows(len(self._num_texts), config.batch_size, index, config.seed)
        if self._neighbors is not None:
            rows = with_hard_negatives(rows, self._neighbors, generator)
        views = torch.randint(len(self._images), (config.batch_size,), generator=generator)
        fractions = torch.rand(config.batch_size, generator=generator)
        text_numbers = (fractions * self._num_texts[rows]).long()
        images = self._images[views, rows]
        texts = self._texts[self._first_texts[rows] + text_numbers]
        if self.class_words and config.class_words:
            moved, names = self.class_words.sample(self._images[0], config.class_words, generator)
            images = torch.cat([images, moved])
            texts = torch.cat([texts, names])
        return images, texts

    def _mine(self, images: np.ndarray) -> Tensor:
        vectors = images / np.linalg.norm(images, axis=1, keepdims=True)
        return torch.from_numpy(mine_neighbors(vectors, self.config.hard_negatives))

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the recall on the held-out pairs."""
        if self.held_out is None:
            return {}
        images = self.heads.image(torch.from_numpy(np.asarray(self.held_out.images[0])))
        texts = self.heads.text(torch.from_numpy(np.asarray(self.held_out.texts)))
        recall = cross_modal_recall(images.numpy(), texts.numpy(), self.held_out.owner)
        return recall_figures(recall)


def contrastive_loss(
    name: Literal["softmax", "sigmoid"],
    image_vectors: Tensor,
    text_vectors: Tensor,
    log_scale: Tensor,
    bias: Tensor,
) -> Tensor:
    """Return the loss of matching unit vectors (n, dim), with the scale limited to 100."""
    scale = log_scale.exp().clamp(max=_MAX_SCALE)
    if name == "sigmoid":
        return sigmoid_contrastive(image_vectors, text_vectors, scale, bias)
    return softmax_contrastive(image_vectors, text_vectors, scale)


def recall_figures(recall: CrossModalRecall) -> dict[str, float]:
    """Return the recall in both directions, named for the log."""
    text_to_image = {f"t2i R@{k}": value for k, value in recall.text_to_image.items()}
    image_to_text = {f"i2t R@{k}": value for k, value in recall.image_to_text.items()}
    return text_to_image | image_to_text
