"""A training that is killed again and again ends with the numbers of an uninterrupted one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("whole", "killed")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_the_same_command_goes_on(tmp_path: Path) -> None:
    """The folder of the progress was replaced in two steps, between which there was none; and it
    was deleted before the result was saved."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.helpers.killed_training", str(tmp_path)]
    run = subprocess.run(
        command, cwd=ROOT, env=environment, timeout=120, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert int(run.stdout) >= 1, "no run was resumed"
    one, two = (load_file(tmp_path / n / "trained" / "model.safetensors") for n in NAMES)
    for name, array in one.items():
        assert (array == two[name]).all(), name
    first, second = (tmp_path / name for name in NAMES)
    assert (first / "log.jsonl").read_text() == (second / "log.jsonl").read_text()
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}
