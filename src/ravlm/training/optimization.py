"""The schedule of the learning rate, and which weights decay."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import nn

from ravlm.training.config import LoopConfig

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)


def learning_rate(config: LoopConfig, index: int) -> float:
    """Return the learning rate of step `index`: a linear warmup times a half cosine down to 0."""
    warmup = min(1.0, (index + 1) / max(1, config.warmup_steps))
    return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * index / config.steps))


def parameter_groups(
    model: nn.Module, weight_decay: float, learning_rate_factor: Callable[[str], float]
) -> list[dict[str, Any]]:
    """Return the trained parameters as groups for AdamW, with their "names".

    Matrices decay; norms, biases, gates, scales and other vectors do not.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        is_norm = isinstance(model.get_submodule(name.rpartition(".")[0]), _NORMS)
        decay = 0.0 if p.ndim < 2 or is_norm else weight_decay
        factor = learning_rate_factor(name)
        empty = {"params": [], "names": [], "factor": factor, "weight_decay": decay}
        group = groups.setdefault((factor, decay), empty)
        group["params"].append(p)
        group["names"].append(name)
    return list(groups.values())
