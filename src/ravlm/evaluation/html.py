"""Self-contained HTML pages: Jinja templates, and images as data URLs."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ravlm.data.images import load_image
from ravlm.errors import RavlmError
from ravlm.files import atomic_write
from ravlm.records import ImageSource

_IMAGE_TAG = Markup('<img alt="{}" width="{}" height="{}" src="data:image/jpeg;base64,{}">')
_UNAVAILABLE = Markup('<p class="soft">(image not available)</p>')


class ImageTags:
    """Makes `<img>` tags with the image inside; an image used twice in a size is encoded once.

    Example:
        tag = ImageTags()("cat.jpg", 300, "a cat")
    """

    def __init__(self) -> None:
        self._jpegs: dict[tuple[str | int, int], tuple[int, int, str]] = {}

    def __call__(self, image: ImageSource | None, max_edge: int, alt: str) -> Markup:
        """Return a tag of at most `max_edge` pixels; a remark if the image can't be read, nothing
        for None."""
        if image is None:
            return Markup()
        name = os.fspath(image) if isinstance(image, str | os.PathLike) else id(image)
        key = (name, max_edge)
        try:
            if key not in self._jpegs:
                self._jpegs[key] = _encode(load_image(image, edge=max_edge), max_edge)
        except RavlmError:
            return _UNAVAILABLE
        width, height, data = self._jpegs[key]
        return _IMAGE_TAG.format(alt, width, height, data)


def write_page(path: Path, template: Path, values: dict[str, Any]) -> Path:
    """Render `template` with `values` (escaped) to `path`, and return the path."""
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template.name).render(values)
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _encode(image: Image.Image, max_edge: int) -> tuple[int, int, str]:
    """Return width, height and the JPEG in base64."""
    image.thumbnail((max_edge, max_edge), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80, optimize=True)
    return image.width, image.height, base64.b64encode(buffer.getvalue()).decode()
