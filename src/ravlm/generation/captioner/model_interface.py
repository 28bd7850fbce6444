"""The part of the PreTrainedModel interface that training scripts use, delegated to a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from ravlm.generation.captioner.configuration import CaptionerConfig
from ravlm.generation.captioner.modeling import CaptionerModel


class ModelInterface:
    """A generator that is trained like its `model`.

    >>> loss = generator(pixel_values=pixels, labels=labels).loss
    >>> optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-4)
    """

    model: CaptionerModel

    def __call__(self, **inputs: Any) -> Any:
        """Return the output of `CaptionerModel.forward`; with `labels` it has a `loss`."""
        return self.model(**inputs)

    @property
    def config(self) -> CaptionerConfig:
        return self.model.config

    @property
    def generation_config(self) -> Any:
        return self.model.generation_config

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        return self.model.training

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the model's parameters, for an optimizer."""
        return self.model.parameters()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the names and parameters of the model."""
        return self.model.named_parameters()

    def num_parameters(self, only_trainable: bool = False) -> int:
        """Return the number of parameters."""
        return self.model.num_parameters(only_trainable=only_trainable)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the model's weights by name."""
        return self.model.state_dict()

    def load_state_dict(self, weights: dict[str, Tensor]) -> None:
        """Load the model's weights; a missing or unexpected one is an error."""
        self.model.load_state_dict(weights)

    def save_pretrained(self, folder: Any, **options: Any) -> None:
        """Save the model alone. `CaptionerGenerator.save` also writes tokenizer and settings."""
        self.model.save_pretrained(folder, **options)

    def train(self, mode: bool = True) -> Self:
        """Set training mode."""
        self.model.train(mode)
        return self

    def eval(self) -> Self:
        """Set evaluation mode."""
        return self.train(False)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move the model to a device or another dtype."""
        self.model.to(*args, **kwargs)
        return self
