"""What test_processes.py starts under torchrun: short trainings, whose gradients and weights stay
in a folder."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ravlm import runtime
from ravlm.cli import main as command
from ravlm.training.contrastive import ContrastiveStep
from ravlm.training.trainer import TrainingStep, fit
from tests.helpers.training_data import ACCUMULATING_STEPS, SMALL_HEADS, random_features


def main(folder: Path, pairs: str) -> None:
    torch.set_num_threads(1)
    runtime.inference_dtype = lambda target: torch.float32
    with runtime.process_group():
        heads = replace(SMALL_HEADS, epochs=4)
        steps: dict[str, TrainingStep] = {"heads": ContrastiveStep(random_features(), heads)}
        steps |= {name: make(1) for name, make in ACCUMULATING_STEPS.items()}
        found: dict[str, torch.Tensor] = {}
        for name, step in steps.items():
            step.backward(0, torch.Generator().manual_seed(0))
            runtime.average_gradients(step.model.parameters())
            every = dict(step.model.named_parameters())
            found |= {
                f"{name}.{n}.gradient": p.grad.clone()
                for n, p in every.items()
                if p.grad is not None
            }
            fit(step, replace(heads.loop(40), steps=6), folder / name)
            found |= {f"{name}.{n}": p.detach() for n, p in every.items()}
        if runtime.process_index() == 0:
            np.savez(folder / "found.npz", **{name: p.numpy() for name, p in found.items()})
        one_of_two_has_no_use_for_it()
        few = ["--epochs", "2", "--batch-size", "4", "--min-frequency", "1", "--held-out", "0"]
        assert (
            command(
                ["train", "generator", "--pairs", pairs, "--out", str(folder / "generator-2"), *few]
            )
            == 0
        )
    # A thread of the group that outlives it may abort the process while it ends (Linux names its
    # threads here).
    threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name], threads


def one_of_two_has_no_use_for_it() -> None:
    number, world = runtime.process_index(), runtime.num_processes()
    used, unused = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    if number == 0:
        used.grad = torch.ones(2)
    runtime.average_gradients([unused, used])
    assert unused.grad is None
    assert used.grad is not None
    assert used.grad.tolist() == [1 / world] * 2
    assert runtime.sum_over_processes({"a": 1.5, "b": number}) == {
        "a": 1.5 * world,
        "b": world * (world - 1) / 2,
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
