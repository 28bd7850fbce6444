"""Two processes over gloo train to what one process trains to."""

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
    """The steps of every kind of training, and a command, which says what it has to say once."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found, said = [], []
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
        run = subprocess.run(command, env=environment, timeout=120, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-4000:]
        said.append(run.stdout.replace(str(folder), ""))
        found.append(
            dict(np.load(folder / "found.npz"))
            | load_file(folder / "generator-2" / "model.safetensors")
        )
    assert said[0] == said[1]
    assert found[0].keys() == found[1].keys()
    for key in found[0]:
        assert np.allclose(found[0][key], found[1][key], atol=2e-5), key
    for log in ("heads/log.jsonl", "language/log.jsonl", "generator-2/first/log.jsonl"):
        one, two = ((tmp_path / name / log).read_text().splitlines() for name in ("one", "two"))
        for line, other in zip(one, two, strict=True):
            assert json.loads(other) == pytest.approx(json.loads(line), rel=1e-3)
