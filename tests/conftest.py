"""Fixtures for all tests: the shared data, small generated pictures, a separate cache folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from ravlm.files import atomic_write
from tests.helpers.fakes import FakeEncoder

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures: `RAVLM_DATA`, else ../shared/data beside the repository."""
    folder = Path(os.environ.get("RAVLM_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real pictures are not here ({folder}); set RAVLM_DATA to their folder")
    return folder


@pytest.fixture
def fake_encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with four small drawn pictures: red, green and blue ones, and a white disc on
    black."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in {
        "red": (220, 30, 30),
        "green": (30, 200, 40),
        "blue": (30, 40, 220),
    }.items():
        Image.new("RGB", (64, 48), colour).save(folder / f"{name}.png")
    disc = Image.new("RGB", (64, 64))
    ImageDraw.Draw(disc).ellipse((12, 12, 52, 52), fill=(255, 255, 255))
    disc.save(folder / "disc.jpg", quality=95)
    return folder


@pytest.fixture(scope="session")
def made_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Run `ravlm demo` once with the real starter; return its folder and its output with --json.

    It takes twenty seconds, so one worker of a test run does it for all."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "newcomer"
    folder, output = shared / "demo", shared / "output.jsonl"
    try:
        shared.mkdir()
    except FileExistsError:
        end = time.monotonic() + 600
        while not output.exists() and time.monotonic() < end:
            time.sleep(0.1)
    else:
        command = [sys.executable, "-m", "ravlm.cli", "demo", "--json", "--out", str(folder)]
        result = subprocess.run(command, capture_output=True, text=True)
        with atomic_write(output) as path:
            path.write_text(result.stdout if result.returncode == 0 else "")
        assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert records, "the demo failed in another worker"
    return folder, records
