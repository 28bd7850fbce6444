"""Contrastive training of the starter's heads on features of the frozen backbones, which are
computed once.

Knows the heads' arithmetic in torch (`ravlm.encoders.starter.encoder.head` is the same in NumPy)
and the losses; where the features come from is `features.py`'s business."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ravlm import runtime
from ravlm.encoders.losses import sigmoid_contrastive, softmax_contrastive
from ravlm.errors import InvalidInput
from ravlm.metrics.retrieval import CrossModalRecall, cross_modal_recall
from ravlm.training.features import PairFeatures
from ravlm.training.hard_negatives import mine, with_neighbours
from ravlm.training.trainer import LoopConfig, Step, batch_rows, shares


@dataclass(frozen=True)
class ContrastiveConfig:
    """How heads are trained. `batch` pairs stand against each other; each epoch shows one text of
    each picture."""

    epochs: int = 40
    batch: int = 2000
    chunk: int = 64
    """Pairs that whole towers see at once: memory grows with it, not with the batch."""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    rate: float = 2e-3
    weight_decay: float = 1e-4
    dropout: float = 0.2
    aligned_dim: int = 512
    hidden_dim: int = 1024
    temperature: float = 0.05
    class_words: int = 250
    """Classifier rows put in as pictures of their class names, a batch: they teach words that the
    pairs lack."""
    hard_negatives: int = 0
    """Neighbours of each picture to draw half of every batch from; 0: batches are drawn evenly."""
    views: int = 2
    """Views of each picture that features are computed of: as it is, mirrored, then random
    crops."""
    held_out: float = 0.05
    """The share of the pairs that is not trained on, and that the recall in the log is measured
    with."""
    average: float = 0.0
    seed: int = 0

    def loop(self, pairs: int) -> LoopConfig:
        """The loop's configuration for so many pictures. Raises InvalidInput when they do not fill
        a batch, or the processes can't share one."""
        if pairs < self.batch:
            raise InvalidInput(
                f"A batch of {self.batch} is larger than the data ({pairs} pictures); make it smaller."
            )
        shares(self.batch)
        steps = self.epochs * (pairs // self.batch)
        return LoopConfig(
            steps=steps,
            rate=self.rate,
            weight_decay=self.weight_decay,
            average=self.average,
            seed=self.seed,
            save_every=max(20, steps // 4),
            log_every=max(1, steps // 40),
        )


class Head(nn.Module):
    """Backbone features (n, width) to unit vectors (n, aligned_dim): a linear map plus two layers
    with ReLU."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor, config: ContrastiveConfig) -> None:
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
        """The weights as `ravlm.encoders.starter.encoder.head` names them."""
        found = {
            "mean": self.mean,
            "deviation": self.deviation,
            "linear": self.linear.weight.T,
            "inner": self.inner.weight.T,
            "inner_bias": self.inner.bias,
            "outer": self.outer.weight.T,
            "outer_bias": self.outer.bias,
        }
        return {f"{prefix}.{name}": value.detach().numpy().copy() for name, value in found.items()}


class Heads(nn.Module):
    """Both towers' heads and the loss's scale and bias."""

    def __init__(self, features: PairFeatures, config: ContrastiveConfig) -> None:
        super().__init__()
        images, texts = (
            torch.from_numpy(np.asarray(x)) for x in (features.images[0], features.texts)
        )
        self.image = Head(images.mean(0), images.std(0) + 1e-3, config)
        self.text = Head(texts.mean(0), texts.std(0) + 1e-6, config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / config.temperature)))
        self.bias = nn.Parameter(torch.tensor(-10.0), requires_grad=config.loss == "sigmoid")


@dataclass(frozen=True)
class ClassWords:
    """The classifier's rows as directions (1000, 1280) of the pooled features, and their names'
    features.

    `names` is (phrasings, 1000, 384).
    """

    rows: np.ndarray
    names: np.ndarray

    def draw(self, photos: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n pseudo-pictures, features of photos moved far along the row of a class, and its name in
        some phrasing."""
        classes = torch.randperm(len(self.rows), generator=generator)[:n]
        rows = F.normalize(torch.from_numpy(self.rows)[classes], dim=1)
        base = photos[torch.randint(len(photos), (n,), generator=generator)]
        keep, way = (torch.rand(n, 1, generator=generator) for _ in range(2))
        blurred = base.lerp(photos.mean(0), 0.2 + 0.8 * keep)
        moved = (blurred + 8 * (0.5 + way) * rows).clamp(0, 6)  # the features come out of a ReLU6
        phrasing = torch.randint(len(self.names), (n,), generator=generator)
        return moved, torch.from_numpy(self.names)[phrasing, classes]


class ContrastiveStep(Step):
    """Each step: `batch` pictures, one view and one text of each, and some class words."""

    def __init__(
        self,
        features: PairFeatures,
        config: ContrastiveConfig,
        class_words: ClassWords | None = None,
        held_out: PairFeatures | None = None,
    ) -> None:
        self.features, self.config, self.class_words, self.held_out = (
            features,
            config,
            class_words,
            held_out,
        )
        torch.manual_seed(config.seed)
        self.model = self.heads = Heads(features, config)
        self._images, self._texts = (
            torch.from_numpy(features.images),
            torch.from_numpy(features.texts),
        )
        self._counts = torch.from_numpy(np.diff(features.offsets))
        self._starts = torch.from_numpy(features.offsets[:-1])
        alike = features.images[0] / np.linalg.norm(features.images[0], axis=1, keepdims=True)
        self._neighbours = (
            torch.from_numpy(mine(alike, config.hard_negatives)) if config.hard_negatives else None
        )

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        c, n = self.config, len(self._counts)
        chosen = batch_rows(n, c.batch, index, c.seed)
        if self._neighbours is not None:
            chosen = with_neighbours(chosen, self._neighbours, generator)
        view = torch.randint(len(self._images), (c.batch,), generator=generator)
        which = (torch.rand(c.batch, generator=generator) * self._counts[chosen]).long()
        images, texts = self._images[view, chosen], self._texts[self._starts[chosen] + which]
        if self.class_words and c.class_words:
            moved, names = self.class_words.draw(self._images[0], c.class_words, generator)
            images, texts = torch.cat([images, moved]), torch.cat([texts, names])
        model = self.heads
        mine = shares(len(images))
        a, b = (runtime.gather(x) for x in (model.image(images[mine]), model.text(texts[mine])))
        scale = model.log_scale.exp().clamp(max=100)
        if c.loss == "sigmoid":
            return {"loss": sigmoid_contrastive(a, b, scale, model.bias)}
        return {"loss": softmax_contrastive(a, b, scale)}

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        if self.held_out is None:
            return {}
        images = self.heads.image(torch.from_numpy(np.asarray(self.held_out.images[0]))).numpy()
        texts = self.heads.text(torch.from_numpy(np.asarray(self.held_out.texts))).numpy()
        recall = cross_modal_recall(images, texts, self.held_out.owner)
        return recall_figures(recall)


def recall_figures(recall: CrossModalRecall) -> dict[str, float]:
    """Recall both ways, named for the log."""
    return {f"t2i R@{k}": v for k, v in recall.text_to_image.items()} | {
        f"i2t R@{k}": v for k, v in recall.image_to_text.items()
    }
