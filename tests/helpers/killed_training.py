"""Run a training in processes that are killed at random moments, then to its end.

`python -m tests.helpers.killed_training FOLDER` prints how often it was resumed. The processes are
forks of one that has imported torch."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from ravlm.training.config import LoopConfig
from ravlm.training.trainer import TrainingStep, fit_once

CONFIG = LoopConfig(steps=30, learning_rate=0.01, save_every=1, log_every=2, ema_decay=0.9)
NUM_KILLS = 6


class Noise(TrainingStep):
    """Weights of some size, with dropout and a batch norm."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(16, 64), nn.BatchNorm1d(64), nn.Dropout(0.2), nn.Linear(64, 16)
        )
        self.targets = torch.randn(8, 16)

    def losses(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        x = torch.randn(8, 16, generator=generator)
        return {"loss": (self.model(x) - self.targets).square().mean()}


def train(folder: Path) -> None:
    """Train once in `folder`, or take up what is there."""
    with open(folder.with_suffix(".lines"), "a", encoding="utf-8") as file:
        fit_once(Noise(), CONFIG, folder, lambda line: print(line, file=file, flush=True))


def start(folder: Path) -> int:
    """Train in a process of its own; return its number."""
    child = os.fork()
    if child == 0:
        train(folder)
        os._exit(0)
    return child


def import_everything() -> None:
    """Let torch import what it imports on first use, without autograd, which cannot be forked."""
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.ones(2)
    optimizer = torch.optim.AdamW([parameter])
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    save({"parameter": parameter.detach()})


def main(folder: Path, seed: int = 0) -> None:
    torch.set_num_threads(1)
    import_everything()
    rng = random.Random(seed)
    start_time = time.monotonic()
    os.waitpid(start(folder / "whole"), 0)
    seconds = time.monotonic() - start_time
    for _ in range(NUM_KILLS):
        child = start(folder / "killed")
        time.sleep(rng.uniform(0.1, 0.7) * seconds)
        os.kill(child, rng.choice([signal.SIGKILL, signal.SIGTERM]))
        os.waitpid(child, 0)
    os.waitpid(start(folder / "killed"), 0)
    print((folder / "killed.lines").read_text(encoding="utf-8").count("resuming at step"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
