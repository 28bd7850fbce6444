"""Contrastive training of full torch towers on images and texts, with gradient caching."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from ravlm import runtime
from ravlm.data.images import load_image
from ravlm.data.parallel import parallel_map
from ravlm.encoders.image_processing import ImageInputs
from ravlm.encoders.torch_encoder import TorchEncoder, Towers
from ravlm.errors import InvalidInput
from ravlm.records import MODALITIES, Modality, Pair
from ravlm.training.batches import batch_rows, process_rows
from ravlm.training.contrastive import (
    NEW_HEADS_RATE,
    TOWERS_RATE,
    TRAINED_HEADS_RATE,
    EncoderTrainingConfig,
    contrastive_loss,
    sample_texts,
)
from ravlm.training.grad_cache import cached_backward
from ravlm.training.held_out import HeldOutRanks
from ravlm.training.positives import PositivePairs, text_offsets
from ravlm.training.trainer import TrainingStep


class TowersAndLoss(nn.Module):
    """The trained modules: the towers, and scale and bias of the loss, which are those that the
    towers were trained with if they have them."""

    def __init__(self, towers: Towers, config: EncoderTrainingConfig) -> None:
        super().__init__()
        self.towers = towers
        scale, bias = towers.logit_scale, towers.logit_bias
        if scale is None:
            scale = nn.Parameter(torch.tensor(math.log(1 / config.temperature)))
        if bias is None:
            bias = nn.Parameter(torch.tensor(-10.0), requires_grad=config.loss == "sigmoid")
        self.log_scale, self.bias = scale, bias


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
        self.held_out = held_out
        towers = encoder.model
        _check_is_trained(towers, encoder.name)
        self._backbone = {
            id(p)
            for tower in MODALITIES
            for module in towers.freezable(tower)
            for p in module.parameters()
        }
        self._has_own_rates = not config.learning_rate
        rate = config.learning_rate or self._default_rate(towers)
        self.config = replace(config.for_data(len(pairs)), learning_rate=rate)
        self.model = self.towers_and_loss = TowersAndLoss(towers, config).to(encoder.device)
        self.dtype = runtime.inference_dtype(encoder.device)
        self._offsets = text_offsets(pairs)
        self._texts = [text for pair in pairs for text in pair.texts]
        self._positives = PositivePairs.of_pairs(pairs)

    def learning_rate_factor(self, name: str) -> float:
        is_backbone = id(self.model.get_parameter(name)) in self._backbone
        if is_backbone and self._has_own_rates:
            return TOWERS_RATE / self.config.learning_rate
        return 1.0

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        raise TypeError("full towers are trained with `backward`, chunk by chunk")

    def backward(self, index: int, generator: torch.Generator) -> dict[str, float]:
        config, model = self.config, self.towers_and_loss
        image_rows = batch_rows(len(self.pairs), config.batch_size, index, config.seed).numpy()
        text_rows = sample_texts(self._offsets, image_rows, generator)
        positives = self._positives.matrix(image_rows, text_rows).to(self.encoder.device)
        rows = process_rows(config.batch_size)
        images = list(
            parallel_map(
                self._preprocess,
                [self.pairs[row] for row in image_rows[rows]],
                runtime.cpu_count(),
                lookahead=2 * config.chunk_size,
            )
        )
        texts = [self._texts[row] for row in text_rows[rows]]
        chunks = [
            slice(start, start + config.chunk_size)
            for start in range(0, len(texts), config.chunk_size)
        ]

        def loss_of(image_vectors: Tensor, text_vectors: Tensor) -> Tensor:
            vectors = runtime.gather(image_vectors), runtime.gather(text_vectors)
            return contrastive_loss(config.loss, vectors, positives, model.log_scale, model.bias)

        image_tower = self._tower("image", lambda chunk: self._pool_images(images[chunk]), chunks)
        text_tower = self._tower("text", lambda chunk: self._pool_texts(texts[chunk]), chunks)
        return {"loss": float(cached_backward([image_tower, text_tower], loss_of))}

    def _tower(
        self, tower: Modality, pool: Callable[[slice], Tensor], chunks: Sequence[slice]
    ) -> tuple[Callable[[slice], Tensor], Sequence[slice]]:
        """Return a tower and its chunks for `cached_backward`. What is frozen is computed once."""
        towers = self.encoder.model
        if not towers.is_frozen(tower):
            return lambda chunk: self._project(pool(chunk), tower), chunks
        with torch.no_grad():
            pooled = torch.cat([pool(chunk) for chunk in chunks])
        return lambda chunk: self._project(pooled[chunk], tower), chunks

    def _project(self, pooled: Tensor, tower: Modality) -> Tensor:
        with runtime.autocast(self.encoder.device, self.dtype):
            return self.encoder.model.project(pooled, tower)

    def _pool_images(self, images: Sequence[ImageInputs]) -> Tensor:
        device = self.encoder.device
        inputs = self.encoder.image_processor.collate(images, device, torch.float32)
        with runtime.autocast(device, self.dtype):
            return self.encoder.model.image_pooled(**inputs)

    def _pool_texts(self, texts: Sequence[str]) -> Tensor:
        device = self.encoder.device
        ((order, inputs),) = self.encoder.tokenizer.batches(texts, len(texts), device)
        with runtime.autocast(device, self.dtype):
            pooled = self.encoder.model.text_pooled(**inputs)
        return pooled[torch.from_numpy(np.argsort(order))]  # back to input order

    def _preprocess(self, pair: Pair) -> ImageInputs:
        image = load_image(pair.image, edge=self.encoder.image_size)
        return self.encoder.image_processor.preprocess(image)

    def _default_rate(self, towers: Towers) -> float:
        """Return the learning rate of the heads, or of the towers if there are no heads."""
        loss = {id(towers.logit_scale), id(towers.logit_bias)}
        if all(id(p) in self._backbone | loss for p in towers.parameters()):
            return TOWERS_RATE
        return TRAINED_HEADS_RATE if self.encoder.weights else NEW_HEADS_RATE

    def held_out_figures(self) -> dict[str, float]:
        ranks = held_out_ranks(self.encoder, self.held_out)
        return {} if ranks is None else ranks.recall()


def held_out_ranks(encoder: TorchEncoder, pairs: Sequence[Pair]) -> HeldOutRanks | None:
    """Rank the different images and texts of held-out pairs; None if there are no pairs."""
    if not pairs:
        return None
    positives = PositivePairs.of_pairs(pairs)
    _, image_rows = np.unique(positives.images, return_index=True)
    _, text_rows = np.unique(positives.texts, return_index=True)
    all_texts = [text for pair in pairs for text in pair.texts]
    images = encoder.encode_images([pairs[row].image for row in image_rows])
    texts = encoder.encode_texts([all_texts[row] for row in text_rows])
    relevant = positives.matrix(image_rows, text_rows).numpy().T
    return HeldOutRanks.of_vectors(images, texts, relevant)


def _check_is_trained(towers: Towers, name: str) -> None:
    """Raise InvalidInput if all weights of the towers are frozen."""
    loss = {id(towers.logit_scale), id(towers.logit_bias)}
    if not any(p.requires_grad and id(p) not in loss for p in towers.parameters()):
        raise InvalidInput(
            f'Both towers of "{name}" are frozen, so there is nothing to train. Freeze one of them '
            "or none."
        )
