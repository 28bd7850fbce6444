"""Contrastive training of two torch towers from pictures and words, by gradient caching. Knows any
`TorchEncoder`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ravlm import runtime
from ravlm.data.images import load_image
from ravlm.data.parallel import parallel_map
from ravlm.encoders.image_processing import ImageInputs
from ravlm.encoders.losses import sigmoid_contrastive, softmax_contrastive
from ravlm.encoders.torch_encoder import TorchEncoder
from ravlm.metrics.retrieval import cross_modal_recall
from ravlm.records import Pair
from ravlm.training.contrastive import ContrastiveConfig, recall_figures
from ravlm.training.grad_cache import cached_backward
from ravlm.training.trainer import Step, batch_rows, shares


class TowersAndLoss(nn.Module):
    """What is trained: the towers, and the loss's scale and bias."""

    def __init__(self, towers: nn.Module, config: ContrastiveConfig) -> None:
        super().__init__()
        self.towers = towers
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / config.temperature)))
        self.bias = nn.Parameter(torch.tensor(-10.0), requires_grad=config.loss == "sigmoid")


class TowerStep(Step):
    """Each step: `batch` pairs, one text of each; the towers see `chunk` of them at once."""

    def __init__(
        self,
        encoder: TorchEncoder,
        pairs: Sequence[Pair],
        config: ContrastiveConfig,
        held_out: Sequence[Pair] = (),
    ) -> None:
        self.encoder, self.pairs, self.config, self.held_out = encoder, pairs, config, held_out
        torch.manual_seed(config.seed)
        self.model = self.loss = TowersAndLoss(encoder.model, config).to(encoder.device)
        self.dtype = runtime.inference_dtype(encoder.device)

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        raise TypeError("towers are trained by `backward`, chunk by chunk")

    def backward(self, index: int, generator: torch.Generator) -> dict[str, float]:
        c = self.config
        chosen = [
            self.pairs[i] for i in batch_rows(len(self.pairs), c.batch, index, c.seed).tolist()
        ]
        share = torch.rand(c.batch, generator=generator).tolist()
        texts = [
            pair.texts[int(s * len(pair.texts))] for pair, s in zip(chosen, share, strict=True)
        ]
        mine = shares(c.batch)
        chunks = [
            slice(i, min(i + c.chunk, mine.stop)) for i in range(mine.start, mine.stop, c.chunk)
        ]
        pixels = list(parallel_map(self._arrays, chosen[mine], runtime.cpu_count(), 2 * c.chunk))
        towers, device = self.encoder.model, self.encoder.device

        def images(rows: slice) -> Tensor:
            some = pixels[rows.start - mine.start : rows.stop - mine.start]
            with runtime.autocast(device, self.dtype):
                return towers.image_features(
                    **self.encoder.image_processor.collate(some, device, torch.float32)
                )

        def captions(rows: slice) -> Tensor:
            some = texts[rows]
            ((order, inputs),) = self.encoder.tokenizer.batches(some, len(some), device)
            with runtime.autocast(device, self.dtype):
                return towers.text_features(**inputs)[torch.from_numpy(np.argsort(order))]

        def loss_of(a: Tensor, b: Tensor) -> Tensor:
            a, b = runtime.gather(a), runtime.gather(b)
            scale = self.loss.log_scale.exp().clamp(max=100)
            if c.loss == "sigmoid":
                return sigmoid_contrastive(a, b, scale, self.loss.bias)
            return softmax_contrastive(a, b, scale)

        return {"loss": float(cached_backward([(images, chunks), (captions, chunks)], loss_of))}

    def _arrays(self, pair: Pair) -> ImageInputs:
        return self.encoder.image_processor.preprocess(load_image(pair.image, edge=self.encoder.image_size))

    def evaluate(self) -> dict[str, float]:
        if not self.held_out:
            return {}
        texts = [text for pair in self.held_out for text in pair.texts]
        owner = np.repeat(
            np.arange(len(self.held_out)), [len(pair.texts) for pair in self.held_out]
        )
        images = self.encoder.encode_images([pair.image for pair in self.held_out])
        return recall_figures(cross_modal_recall(images, self.encoder.encode_texts(texts), owner))
