"""Two processes (gloo) end with the weights of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from ravlm import runtime
from ravlm.knowledge.base import KnowledgeBase
from ravlm.training import plot
from tests.helpers import two_processes

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_equal_one(
    animals: tuple[Path, KnowledgeBase],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The steps of every kind of training, and a command, which prints its output once.

    The one process is this one: starting another took ten seconds more."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    pairs = str(animals[0] / "pairs.jsonl")
    monkeypatch.setattr(runtime, "inference_dtype", lambda target: torch.float32)
    monkeypatch.setattr(plot, "plot_curve", two_processes.no_curve)
    two_processes.main(one, pairs)
    output = capfd.readouterr().out.replace(str(one), "")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launch, two_processes.__file__, str(two), pairs]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environment, timeout=300, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    assert run.stdout.replace(str(two), "") == output
    results = [
        dict(np.load(folder / "results.npz"))
        | load_file(folder / "generator-2" / "model.safetensors")
        for folder in (one, two)
    ]
    assert results[0].keys() == results[1].keys()
    for key in results[0]:
        assert np.allclose(results[0][key], results[1][key], atol=2e-5), key
    for log in ("heads/log.jsonl", "language/log.jsonl", "generator-2/first/log.jsonl"):
        lines = ((folder / log).read_text().splitlines() for folder in (one, two))
        for line, second_line in zip(*lines, strict=True):
            assert json.loads(second_line) == pytest.approx(json.loads(line), rel=1e-3)
