"""Contrastive training of the starter's heads on features of the frozen backbones.

The heads compute in torch what `ravlm.encoders.starter.encoder.head` computes in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravlm import runtime
from ravlm.encoders.losses import sigmoid_contrastive, softmax_contrastive
from ravlm.errors import InvalidInput
from ravlm.metrics.retrieval import CrossModalRecall, cross_modal_recall
from ravlm.training.batches import batch_rows, process_rows
from ravlm.training.config import LoopConfig, TrainingConfig
from ravlm.training.features import PairFeatures
from ravlm.training.hard_negatives import mine_neighbors, with_hard_negatives
from ravlm.training.trainer import TrainingStep

NEW_HEADS_RATE, TRAINED_HEADS_RATE, TOWERS_RATE = 2e-3, 1e-3, 1e-5
"""Learning rates by what is trained."""
_MAX_SCALE = 100


@dataclass(frozen=True)
class EncoderTrainingConfig(TrainingConfig):
    """How an encoder is trained. Each epoch shows one text of each image."""

    epochs: int = 20
    batch_size: int = 2000
    """Pairs that are contrasted with each other: all pairs, if there are fewer."""
    chunk_size: int = 64
    """Pairs that full towers process at once: memory grows with it, not with the batch size."""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    learning_rate: float = 0.0
    """The highest learning rate of the schedule; 0: by what is trained, 2e-3 for new heads, 1e-3
    for trained heads, 1e-5 for full towers."""
    weight_decay: float = 1e-4
    dropout: float = 0.2
    aligned_dim: int = 512
    hidden_dim: int = 1024
    temperature: float = 0.05
    """Of the loss at the start, if the encoder has no scale of its own."""
    class_words: int = 250
    """Classifier rows per batch that stand in for images of their class names; they teach words
    that the pairs lack."""
    hard_negatives: int = 0
    """Number of neighbors from which half of each batch is drawn; 0: batches are drawn evenly."""
    views: int = 2
    """Views of each image: unchanged, mirrored, then random crops."""
    held_out: float = 0.05
    """Fraction of the pairs that is not trained on and measures the recall before and after; 0:
    nothing is measured. Small data are measured more closely, see `train_encoder`."""

    example_name: ClassVar[str] = "images"
    saves_per_run: ClassVar[int] = 4

    def __post_init__(self) -> None:
        if self.accumulate != 1:
            raise InvalidInput(
                f"accumulate is {self.accumulate}, but a contrastive loss needs the whole batch. "
                "Use a smaller chunk_size to save memory."
            )

    def loop(self, num_examples: int) -> LoopConfig:
        config = replace(self, learning_rate=self.learning_rate or NEW_HEADS_RATE)
        return TrainingConfig.loop(config, num_examples)

    def warmup_steps(self, steps: int) -> int:
        return min(50, steps // 2)


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

    @classmethod
    def from_arrays(
        cls, weights: Mapping[str, np.ndarray], prefix: str, dropout: float
    ) -> ProjectionHead:
        """Return the head with the weights that `arrays` returned."""
        arrays = {
            name.removeprefix(f"{prefix}."): torch.from_numpy(np.array(array, np.float32))
            for name, array in weights.items()
            if name.startswith(f"{prefix}.")
        }
        hidden_dim, aligned_dim = arrays["outer"].shape
        config = EncoderTrainingConfig(
            aligned_dim=aligned_dim, hidden_dim=hidden_dim, dropout=dropout
        )
        head = cls(arrays["mean"], arrays["deviation"], config)
        with torch.no_grad():
            head.linear.weight.copy_(arrays["linear"].T)
            for layer, name in ((head.inner, "inner"), (head.outer, "outer")):
                layer.weight.copy_(arrays[name].T)
                layer.bias.copy_(arrays[f"{name}_bias"])
        return head

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
    """New heads for both towers, and scale and bias of the loss."""

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


class FeatureStep(TrainingStep):
    """Train heads on features. Each step: a batch of images, one view and one text of each, and
    some class words.

    `heads` has the modules `image` and `text` from features to unit vectors, and the parameters
    `log_scale` and `bias` of the loss.
    """

    def __init__(
        self,
        heads: Any,
        features: PairFeatures,
        config: EncoderTrainingConfig,
        class_words: ClassWords | None = None,
    ) -> None:
        self.model = self.heads = heads
        self.features = features
        self.config = config.for_data(len(features.offsets) - 1)
        self.class_words = class_words
        self._images = torch.from_numpy(features.images)  # (views, n, ...)
        self._texts = torch.from_numpy(features.texts)
        self._positives = features.positives
        self._neighbors = self._mine(features.images[0]) if config.hard_negatives else None

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        images, texts, positives = self._batch(index, generator)
        rows = process_rows(len(images))
        image_vectors = runtime.gather(self.heads.image(images[rows]))
        text_vectors = runtime.gather(self.heads.text(texts[rows]))
        loss = contrastive_loss(
            self.config.loss,
            (image_vectors, text_vectors),
            positives,
            self.heads.log_scale,
            self.heads.bias,
        )
        return {"loss": loss}

    def _batch(self, index: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return image and text features of a step, n of each, and whether they belong together,
        (n, n) bool."""
        config, features = self.config, self.features
        num_images = len(features.offsets) - 1
        rows = batch_rows(num_images, config.batch_size, index, config.seed)
        if self._neighbors is not None:
            rows = with_hard_negatives(rows, self._neighbors, generator)
        views = torch.randint(len(self._images), (config.batch_size,), generator=generator)
        text_rows = sample_texts(features.offsets, rows.numpy(), generator)
        images = self._images[views, rows].float()
        texts = self._texts[torch.from_numpy(text_rows)].float()
        positives = self._positives.matrix(rows.numpy(), text_rows)
        if self.class_words and config.class_words:
            moved, names = self.class_words.sample(self._images[0], config.class_words, generator)
            images = torch.cat([images, moved])
            texts = torch.cat([texts, names])
            same_class = torch.eye(len(moved), dtype=torch.bool)
            positives = torch.block_diag(positives, same_class)
        return images, texts, positives

    def _mine(self, images: np.ndarray) -> Tensor:
        rows = images.reshape(len(images), -1)
        vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return torch.from_numpy(mine_neighbors(vectors, self.config.hard_negatives))


class ContrastiveStep(FeatureStep):
    """Train new heads on pooled features."""

    heads: ContrastiveHeads

    def __init__(
        self,
        features: PairFeatures,
        config: EncoderTrainingConfig,
        class_words: ClassWords | None = None,
        held_out: PairFeatures | None = None,
    ) -> None:
        with runtime.preserved_rng():
            torch.manual_seed(config.seed)
            heads = ContrastiveHeads(features, config)
        super().__init__(heads, features, config, class_words)
        self.held_out = held_out

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return the recall on the held-out pairs."""
        if self.held_out is None:
            return {}
        images = self.heads.image(torch.from_numpy(np.asarray(self.held_out.images[0])))
        texts = self.heads.text(torch.from_numpy(np.asarray(self.held_out.texts)))
        relevant = self.held_out.positives.relevant_texts()
        return recall_figures(cross_modal_recall(images.numpy(), texts.numpy(), relevant))


def sample_texts(offsets: np.ndarray, rows: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Return the index of one text of each image: image i has the texts offsets[i] to
    offsets[i + 1]."""
    fractions = torch.rand(len(rows), generator=generator).numpy()
    return offsets[rows] + (fractions * (offsets[rows + 1] - offsets[rows])).astype(np.int64)


def contrastive_loss(
    name: Literal["softmax", "sigmoid"],
    vectors: tuple[Tensor, Tensor],
    positives: Tensor | None,
    log_scale: Tensor,
    bias: Tensor,
) -> Tensor:
    """Return the loss of unit vectors of images and texts, (n, dim) each, with the scale limited to
    100. `positives` (n, n) bool: which of them belong together; None: the diagonal."""
    scale = log_scale.exp().clamp(max=_MAX_SCALE)
    if name == "sigmoid":
        return sigmoid_contrastive(*vectors, scale, bias, positives)
    return softmax_contrastive(*vectors, scale, positives)


def recall_figures(recall: CrossModalRecall) -> dict[str, float]:
    """Return the recall in both directions, named for the log."""
    text_to_image = {f"t2i R@{k}": value for k, value in recall.text_to_image.items()}
    image_to_text = {f"i2t R@{k}": value for k, value in recall.image_to_text.items()}
    return text_to_image | image_to_text
