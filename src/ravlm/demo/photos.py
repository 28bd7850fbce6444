"""The demo's pictures: where the packages that ship them put them, and changed copies to ask about.

Imports neither scikit-image nor scikit-learn: it only looks where they lie. Knows no knowledge
base."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from ravlm.data.images import load_image
from ravlm.errors import MissingExtra
from ravlm.records import ImageSource

CONTENT = Path(__file__).with_name("entries.jsonl")
_PACKAGES = {"skimage": "scikit-image", "sklearn": "scikit-learn"}


def write_entries(target: Path) -> None:
    """Write the demo's own entries to `target` as JSON lines, with the absolute paths of the
    packages' pictures.

    Raises MissingExtra where a package that ships one is not installed.
    """
    rows = [json.loads(line) for line in CONTENT.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if "image" in row:
            row["image"] = str(package_file(row["image"]))
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    target.write_text(text, encoding="utf-8")


def package_file(name: str) -> Path:
    """The file `name` ("skimage/data/coffee.png") of an installed package, which is not
    imported."""
    package, _, inside = name.partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(_PACKAGES.get(package, package), "starter", "The demo's own pictures")
    return Path(spec.submodule_search_locations[0]) / inside


def changed_copy(picture: ImageSource) -> Image.Image:
    """The picture mirrored, cropped to its middle 80 % and a fifth darker, so that finding it is
    not trivial."""
    image = ImageOps.mirror(load_image(picture))
    width, height = image.size
    x, y = width // 10, height // 10
    cropped = image.crop((x, y, max(width - x, x + 1), max(height - y, y + 1)))
    return ImageEnhance.Brightness(cropped).enhance(0.8)
