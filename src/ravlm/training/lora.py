"""LoRA adapters: their configuration, where they are added, and how fast they are trained.

Source: Hu et al. 2021 (arXiv:2106.09685), by the package PEFT.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from torch import nn

from ravlm.errors import InvalidInput, Mismatch, MissingExtra

_LARGE_RATE, _SMALL_RATE = 1e-4, 1e-3
"""Lowest and highest default learning rate."""
_SMALL_MODEL = 135e6
"""Parameters up to which the highest rate is the default."""


@dataclass(frozen=True)
class LoraConfig:
    """The adapter. The names are PEFT's."""

    r: int = 16
    """Rank of the matrices."""
    lora_alpha: int = 32
    """The adapter's output is multiplied by lora_alpha / r."""
    lora_dropout: float = 0.0
    target_modules: tuple[str, ...] = ()
    """Names of the layers that get a matrix; empty: all linear layers of the language model."""
    modules_to_save: tuple[str, ...] = ()
    """Modules that are trained as a whole and saved with the adapter."""


class TrainedWeights(nn.Module):
    """The trainable parameters of a network as a module of their own, so that checkpoints hold
    nothing else."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._networks = [network]  # not registered as a submodule
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                self.register_parameter(name.replace(".", "/"), parameter)

    def train(self, mode: bool = True) -> TrainedWeights:
        for network in self._networks:
            network.train(mode)
        return super().train(mode)


def add_adapter(network: Any, config: LoraConfig) -> Any:
    """Return `network` with a new LoRA adapter in single precision; all else is frozen.

    The base is changed in place: it computes with the adapter. Raises MissingExtra without PEFT,
    InvalidInput for a configuration that PEFT refuses.
    """
    try:
        import peft
    except ImportError:
        raise MissingExtra("peft", "train", "Fine-tuning with LoRA") from None
    targets: Any = list(config.target_modules) or language_model_layers(network)
    try:
        adapter = peft.LoraConfig(
            r=config.r,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules=targets,
            modules_to_save=list(config.modules_to_save) or None,
        )
        tuned = peft.get_peft_model(network, adapter, autocast_adapter_dtype=True)
    except ValueError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InvalidInput(f"The adapter can't be added to this model: {reason}.") from None
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return tuned


def language_model_layers(network: Any) -> str:
    """Return a pattern for the linear layers of a network's decoder.

    The vision tower, the projection of images and the output layer are left out. Raises Mismatch
    for a network without a decoder.
    """
    from transformers.pytorch_utils import Conv1D

    decoder = network.get_decoder()
    prefix = next((name for name, module in network.named_modules() if module is decoder), "")
    linear = (nn.Linear, Conv1D)  # GPT-2 has its own class, with the weights transposed
    leaves = sorted(
        {name.rpartition(".")[2] for name, m in decoder.named_modules() if isinstance(m, linear)}
    )
    if not leaves:
        raise Mismatch(
            f'The model "{type(network).__name__}" has no language model with linear layers. Name '
            "the layers: target_modules."
        )
    if network.config.is_encoder_decoder and prefix == "decoder":
        prefix = ""  # T5: the encoder reads the evidence
    start = f"{re.escape(prefix)}\\." if prefix else ""
    return f"{start}.*\\.({'|'.join(map(re.escape, leaves))})"


def default_learning_rate(num_parameters: int) -> float:
    """Return a learning rate for the adapter of a model of that size.

    It is 1e-3 up to 135 million parameters, at which the starter was trained, and falls with the
    square root of the size to 1e-4 at 13.5 billion (Dettmers et al. 2023, QLoRA, arXiv:2305.14314,
    took 2e-4 for 7 to 13 billion, 1e-4 for 33 to 65 billion).

    >>> [f"{default_learning_rate(n):.1e}" for n in (10**6, 2_200_000_000, 70_000_000_000)]
    ['1.0e-03', '2.5e-04', '1.0e-04']
    """
    rate = _SMALL_RATE * (_SMALL_MODEL / max(1, num_parameters)) ** 0.5
    return float(min(_SMALL_RATE, max(_LARGE_RATE, rate)))
