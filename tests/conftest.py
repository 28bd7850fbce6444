"""Fixtures of every room: where the shared data lies, pictures drawn on the spot, a cache folder of our own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tests.fakes import FakeEncoder

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
    """A folder with four small drawn pictures: red, green and blue ones, and a white disc on black."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}.items():
        Image.new("RGB", (64, 48), colour).save(folder / f"{name}.png")
    disc = Image.new("RGB", (64, 64))
    ImageDraw.Draw(disc).ellipse((12, 12, 52, 52), fill=(255, 255, 255))
    disc.save(folder / "disc.jpg", quality=95)
    return folder
