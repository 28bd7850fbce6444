"""What test_processes.py starts under torchrun: a short training whose weights rank 0 leaves in the folder given."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ravlm import runtime
from ravlm.training.contrastive import ContrastiveStep
from ravlm.training.loop import fit
from tests.training.test_encoder import SMALL, features


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with runtime.processes():
        config = replace(SMALL, epochs=4)
        step = ContrastiveStep(features(), config)
        fit(step, config.loop(40), folder / "run")
        if runtime.rank()[0] == 0:
            np.savez(folder / "weights.npz", **step.heads.image.arrays("image"))
    # A thread of the group that outlives it may abort the process while it ends (Linux names its threads here).
    threads = [task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name], threads


if __name__ == "__main__":
    main(Path(sys.argv[1]))
