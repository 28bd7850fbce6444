"""Figures of a family of models, with the images and training steps to measure them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ravlm.training.trainer import TrainingStep

TOLERANCE = 1e-4
_NUM_STEPS = 5


@dataclass(frozen=True)
class Family:
    """A family of models, with a function that writes a tiny one."""

    models: str
    """Well-known checkpoints of the family."""
    write: Callable[[Path], Path]


@dataclass(frozen=True)
class Figures:
    """What ravlm does with a family; None where it does not apply."""

    models: str
    loads: bool
    equal: bool | None = None
    batch: bool | None = None
    stream: bool | None = None
    sees: bool | None = None
    trains: bool | None = None
    needs: str = ""
    """Package that must be installed first."""


def draw_images() -> list[Image.Image]:
    """Return three images of different sizes and content."""
    random = np.random.default_rng(0)
    sizes = ((40, 60), (64, 48), (33, 90))
    return [
        Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8) // (number + 1))
        for number, size in enumerate(sizes)
    ]


def learns(step: TrainingStep) -> bool:
    """Return whether a few steps on one batch lower its loss."""
    weights = [p for p in step.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    losses = []
    for _ in range(_NUM_STEPS):
        optimizer.zero_grad()
        losses.append(step.backward(0, torch.Generator().manual_seed(0))["loss"])
        optimizer.step()
    return losses[-1] < losses[0]
