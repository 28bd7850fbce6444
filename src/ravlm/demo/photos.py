"""The bundled photos: their files in installed packages, and transformed copies to ask about.

scikit-image and scikit-learn are not imported, only located."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from ravlm.data.images import load_image
from ravlm.errors import MissingExtra
from ravlm.records import ImageSource

ENTRIES = Path(__file__).with_name("entries.jsonl")
_PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
"""Names of the packages on PyPI by their import names."""


def write_entries(target: Path) -> None:
    """Write the bundled entries to `target` as JSON Lines, with absolute image paths.

    Raises MissingExtra if a package with photos is not installed."""
    rows = [json.loads(line) for line in ENTRIES.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if "image" in row:
            row["image"] = str(package_file(row["image"]))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    target.write_text(text, encoding="utf-8")


def package_file(name: str) -> Path:
    """Return the path of a file ("skimage/data/coffee.png") of an installed package, without
    importing the package.

    Raises MissingExtra if the package is not installed."""
    package, _, relative_path = name.partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(_PACKAGES.get(package, package), "starter", "The photos of the demo")
    return Path(spec.submodule_search_locations[0]) / relative_path


def transformed_copy(image: ImageSource) -> Image.Image:
    """Return the image mirrored, cropped to its middle 80 % and 20 % darker, so that finding it is
    not trivial."""
    mirrored = ImageOps.mirror(load_image(image))
    width, height = mirrored.size
    x, y = width // 10, height // 10
    cropped = mirrored.crop((x, y, max(width - x, x + 1), max(height - y, y + 1)))
    return ImageEnhance.Brightness(cropped).enhance(0.8)
