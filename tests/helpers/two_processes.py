"""Run by test_processes.py with torchrun: short runs that save their gradients and weights."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ravlm import runtime
from ravlm.cli import main as command
from ravlm.training.config import LoopConfig
from ravlm.training.contrastive import ContrastiveStep
from ravlm.training.trainer import TrainingStep, fit
from tests.helpers.training_data import ACCUMULATING_STEPS, SMALL_HEADS, random_features


def main(folder: Path, pairs: str) -> None:
    torch.set_num_threads(1)
    runtime.inference_dtype = lambda target: torch.float32
    heads = replace(SMALL_HEADS, epochs=4)
    steps: dict[str, TrainingStep] = {"heads": ContrastiveStep(random_features(), heads)}
    # before they are a group, in which Transformers saves checkpoints in the first process only
    steps |= {name: make(1) for name, make in ACCUMULATING_STEPS.items()}
    with runtime.process_group():
        results: dict[str, torch.Tensor] = {}
        for name, step in steps.items():
            step.backward(0, torch.Generator().manual_seed(0))
            runtime.average_gradients(step.model.parameters())
            every = dict(step.model.named_parameters())
            results |= {
                f"{name}.{n}.gradient": p.grad.clone()
                for n, p in every.items()
                if p.grad is not None
            }
            fit(step, replace(heads.loop(40), steps=6), folder / name)
            results |= {f"{name}.{n}": p.detach() for n, p in every.items()}
        if runtime.process_index() == 0:
            np.savez(folder / "results.npz", **{name: p.numpy() for name, p in results.items()})
        check_unused_parameters()
        check_that_processes_share_a_model(folder)
        options = ["--epochs", "2", "--batch-size", "4", "--min-frequency", "1", "--held-out", "0"]
        assert (
            command(
                [
                    "train",
                    "generator",
                    "--pairs",
                    pairs,
                    "--out",
                    str(folder / "generator-2"),
                    *options,
                ]
            )
            == 0
        )
    # A thread that outlives its process group may abort the process at exit (Linux lists threads
    # here).
    threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name], threads


def check_unused_parameters() -> None:
    """A gradient that only one process has is averaged; one that none has stays missing."""
    number, world = runtime.process_index(), runtime.num_processes()
    shared, unused = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    if number == 0:
        shared.grad = torch.ones(2)
    runtime.average_gradients([unused, shared])
    assert unused.grad is None
    assert shared.grad is not None
    assert shared.grad.tolist() == [1 / world] * 2
    assert runtime.sum_over_processes({"a": 1.5, "b": number}) == {
        "a": 1.5 * world,
        "b": world * (world - 1) / 2,
    }


class Normed(TrainingStep):
    """A model that begins with other weights in each process, with dropout and a batch norm."""

    def __init__(self) -> None:
        torch.manual_seed(runtime.process_index())
        self.model = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1).bfloat16()
        )
        self.model.register_buffer("flags", torch.tensor([runtime.process_index() == 0]))
        self.masks: list[torch.Tensor] = []

    def losses(self, index: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
        self.masks.append(nn.functional.dropout(torch.ones(1, 32)))
        x = torch.randn(8, 3, generator=generator) + runtime.process_index()
        hidden = self.model[:3](x)  # type: ignore[index]
        return {"loss": self.model[3](hidden.bfloat16()).float().square().mean()}  # type: ignore[index]


def check_that_processes_share_a_model(folder: Path) -> None:
    """Every process began with weights of its own, and all had the same dropout."""
    step = Normed()
    fit(step, LoopConfig(steps=3, learning_rate=0.1, save_every=2), folder / "shared")
    for name, tensor in step.model.state_dict().items():
        every = runtime.gather(tensor.float().reshape(1, -1))
        assert (every == every[0]).all(), name
    masks = runtime.gather(step.masks[0])
    assert len(masks) == 1 or not torch.equal(masks[0], masks[1])
    torch.manual_seed(0)
    expected = nn.functional.dropout(torch.ones(1, 32))
    assert torch.equal(masks[:1], expected), "process 0 draws what one process does"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
