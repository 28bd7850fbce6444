"""A single image, so that a shell's `photos/*.jpg` is a list of sources.

It is read as in its folder: the id is its name, and its texts are those of the text file of the
same name.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ravlm.data.formats.folder_metadata import FolderMetadata, sidecars
from ravlm.data.formats.image_folder import image_row, looks_like_image
from ravlm.data.rows import Quarantined, Row

_TEXT_SUFFIXES = (".txt", ".json")


def recognizes(path: Path, head: bytes) -> bool:
    """Return whether `path` is an image file."""
    return looks_like_image(head)


def read_rows(path: Path) -> Iterator[Row | Quarantined]:
    """Yield one row."""
    # Looking for two names is cheap; listing the folder for each of its images is not.
    names = [path.with_suffix(suffix).name for suffix in _TEXT_SUFFIXES]
    existing = [name for name in names if (path.parent / name).is_file()]
    texts = sidecars(path.parent, existing, [path.name])
    yield image_row(path, path.parent, texts.get(path.stem, []), FolderMetadata())
