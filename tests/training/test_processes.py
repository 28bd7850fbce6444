"""Two processes over gloo train to what one process trains to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve()


def test_two_processes_equal_one(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = []
    for name, how in (("one", []), ("two", launch)):
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, *how, str(HERE.parent / "two_processes.py"), str(folder)]
        run = subprocess.run(command, env=environment, timeout=120, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr[-4000:]
        found.append(np.load(folder / "weights.npz"))
    for key in found[0]:
        assert np.allclose(found[0][key], found[1][key], atol=1e-5), key
    assert (tmp_path / "one" / "run" / "log.jsonl").read_text().count("\n") == (
        (tmp_path / "two" / "run" / "log.jsonl").read_text().count("\n")
    )
