"""Where the benchmarks find their data, and how they read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ravlm import read_entries
from ravlm.records import Entry, ImageSource

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Folder of the data sets next to this checkout."""
QUESTIONS = Path(__file__).parent / "questions"
"""Folder of the hand-written questions."""


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def photos(data: Path, split: str) -> list[Entry]:
    """Return the photos of a split of Flickr8k with their captions."""
    entries = read_entries(data / "flickr8k" / "metadata.jsonl")
    return [entry for entry in entries if entry.metadata["split"] == split]


def images_of(entries: list[Entry]) -> list[ImageSource]:
    """Return the image of each entry. Raises ValueError if one has none."""
    images = [entry.image for entry in entries if entry.image is not None]
    if len(images) < len(entries):
        raise ValueError(f"{len(entries) - len(images)} of {len(entries)} entries have no image.")
    return images
