"""Contrastive training of full torch towers on images and texts, with gradient caching."""

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
from ravlm.encoders.torch_encoder import TorchEncoder
from ravlm.metrics.retrieval import cross_modal_recall
from ravlm.records import Pair
from ravlm.training.batches import batch_rows, process_rows
from ravlm.training.contrastive import EncoderTrainingConfig, contrastive_loss, recall_figures
from ravlm.training.features import text_offsets
from ravlm.training.grad_cache import cached_backward
from ravlm.training.trainer import TrainingStep


class TowersAndLoss(nn.Module):
    """The trained modules: the towers, and scale and bias of the loss."""

    def __init__(self, towers: nn.Module, config: EncoderTrainingConfig) -> None:
        super().__init__()
        self.towers = towers
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / config.temperature)))
        self.bias = nn.Parameter(torch.tensor(-10.0), requires_grad=config.loss == "sigmoid")


class TowerStep(TrainingStep):
    """Each step: a batch of pairs, one text of each; the towers process `chunk_size` at once."""

    def __init__(
        self,
        encoder: TorchEncoder,
        pairs: Sequence[Pair],
        config: EncoderTrainingConfig,
        held_out: Sequence[Pair] = (),
    ) -> None:
        self.encoder = encoder
        self.pairs = pairs
        self.config = config
        self.held_out = held_out
        torch.manual_seed(config.seed)
        self.model = self.towers_and_loss = TowersAndLoss(encoder.model, config).to(encoder.device)
        self.dtype = runtime.inference_dtype(encoder.device)

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        raise TypeError("full towers are trained with `backward`, chunk by chunk")

    def backward(self, index: int, generator: torch.Generator) -> dict[str, float]:
        config, model = self.config, self.towers_and_loss
        pairs, texts = self._batch(index, generator)
        rows = process_rows(config.batch_size)
        chunks = [
            slice(start, min(start + config.chunk_size, rows.stop))
            for start in range(rows.start, rows.stop, config.chunk_size)
        ]
        images = list(
            parallel_map(
                self._preprocess, pairs[rows], runtime.cpu_count(), lookahead=2 * config.chunk_size
            )
        )

        def encode_images(chunk: slice) -> Tensor:
            return self._encode_images(images[chunk.start - rows.start : chunk.stop - rows.start])

        def encode_texts(chunk: slice) -> Tensor:
            return self._encode_texts(texts[chunk])

        def loss_of(image_vectors: Tensor, text_vectors: Tensor) -> Tensor:
            image_vectors = runtime.gather(image_vectors)
            text_vectors = runtime.gather(text_vectors)
            return contrastive_loss(
                config.loss, image_vectors, text_vectors, model.log_scale, model.bias
            )

        loss = cached_backward([(encode_images, chunks), (encode_texts, chunks)], loss_of)
        return {"loss": float(loss)}

    def _batch(self, index: int, generator: torch.Generator) -> tuple[list[Pair], list[str]]:
        """Return the pairs of a step and one text of each."""
        size = self.config.batch_size
        rows = batch_rows(len(self.pairs), size, index, self.config.seed).tolist()
        pairs = [self.pairs[row] for row in rows]
        fractions = torch.rand(size, generator=generator).tolist()
        texts = [
            pair.texts[int(fraction * len(pair.texts))]
            for pair, fraction in zip(pairs, fractions, strict=True)
        ]
        return pairs, texts

    def _encode_images(self, images: Sequence[ImageInputs]) -> Tensor:
        device = self.encoder.device
        inputs = self.encoder.image_processor.collate(images, device, torch.float32)
        with runtime.autocast(device, self.dtype):
            return self.encoder.model.image_features(**inputs)

    def _encode_texts(self, texts: Sequence[str]) -> Tensor:
        device = self.encoder.device
        ((order, inputs),) = self.encoder.tokenizer.batches(texts, len(texts), device)
        with runtime.autocast(device, self.dtype):
            vectors = self.encoder.model.text_features(**inputs)
        return vectors[torch.from_numpy(np.argsort(order))]  # back to input order

    def _preprocess(self, pair: Pair) -> ImageInputs:
        image = load_image(pair.image, edge=self.encoder.image_size)
        return self.encoder.image_processor.preprocess(image)

    def evaluate(self) -> dict[str, float]:
        """Return the recall on the held-out pairs."""
        if not self.held_out:
            return {}
        offsets = text_offsets(self.held_out)
        owner = np.repeat(np.arange(len(self.held_out)), np.diff(offsets))
        images = self.encoder.encode_images([pair.image for pair in self.held_out])
        texts = self.encoder.encode_texts([text for pair in self.held_out for text in pair.texts])
        return recall_figures(cross_modal_recall(images, texts, owner))
