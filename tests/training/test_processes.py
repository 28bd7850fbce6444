"""Two processes (gloo) end with the weights of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from ravlm.knowledge.base import KnowledgeBase

HERE = Path(__file__).resolve()


def test_two_processes_equal_one(
    animals: tuple[Path, KnowledgeBase],
    tmp_path: Path,
) -> None:
    """The steps of every kind of training, and a command, which prints its output once."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    results, outputs = [], []
    for name, how in (("one", []), ("two", launch)):
        folder = tmp_path / name
        folder.mkdir()
        command = [
            sys.executable,
            *how,
            str(HERE.parents[1] / "helpers" / "two_processes.py"),
            str(folder),
        ]
        command.append(str(animals[0] / "pairs.jsonl"))
        run = subprocess.run(command, env=environment, timeout=300, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-4000:]
        outputs.append(run.stdout.replace(str(folder), ""))
        results.append(
            dict(np.load(folder / "results.npz"))
            | load_file(folder / "generator-2" / "model.safetensors")
        )
    assert outputs[0] == outputs[1]
    assert results[0].keys() == results[1].keys()
    for key in results[0]:
        assert np.allclose(results[0][key], results[1][key], atol=2e-5), key
    for log in ("heads/log.jsonl", "language/log.jsonl", "generator-2/first/log.jsonl"):
        one, two = ((tmp_path / name / log).read_text().splitlines() for name in ("one", "two"))
        for line, second_line in zip(one, two, strict=True):
            assert json.loads(second_line) == pytest.approx(json.loads(line), rel=1e-3)
