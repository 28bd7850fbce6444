"""Pictures as data URLs, small enough for one page. Knows no page."""

from __future__ import annotations

import base64
import io
import os
from html import escape

from PIL import Image

from ravlm.data.images import load_image
from ravlm.records import ImageSource


class Pictures:
    """Makes `<img>` tags; a picture that comes again in the same size is not made again."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, int], str] = {}

    def tag(self, picture: ImageSource | None, edge: int, alt: str) -> str:
        """The picture with its longer side `edge` pixels at most; an empty string for none."""
        if picture is None:
            return ""
        name = os.fspath(picture) if isinstance(picture, str | os.PathLike) else str(id(picture))
        key = (name, edge)
        if key not in self._made:
            self._made[key] = _tag(load_image(picture, edge=edge), edge)
        return self._made[key].replace("<img", f'<img alt="{escape(alt)}"', 1)


def _tag(image: Image.Image, edge: int) -> str:
    image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80, optimize=True)
    url = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return f'<img width="{image.width}" height="{image.height}" src="{url}">'
