"""Groups of examples that are not independent, such as the questions about one picture."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable

from ravlm.records import Example


def example_group(example: Example) -> Hashable:
    """Return what an example shares with those that it is resampled together with.

    That is its metadata key `group`, else its image, else its id, which it shares with none.
    """
    group = example.metadata.get("group")
    if isinstance(group, str | int | float):
        return "group", group
    image = example.image
    if isinstance(image, bytes):
        return "image", hashlib.sha256(image).hexdigest()
    if isinstance(image, str | os.PathLike):
        return "image", os.path.realpath(image)
    return ("image", id(image)) if image is not None else ("example", example.id)
