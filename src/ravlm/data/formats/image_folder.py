"""A folder of images, with its subfolders.

The id is the path of the image below the folder. Texts come from the .txt file of the same name
(boat.jpg, boat.txt): one text per line, empty lines skipped. Hidden files and folders are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ravlm.data.rows import Quarantined, Row
from ravlm.errors import NotFound

# Formats that Pillow identifies, but that are not images, or that it can't open by itself.
_EXCLUDED_FORMATS = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
_MAGIC_NUMBERS = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n",
    b"GIF8",
    b"BM",
    b"II*\x00",  # TIFF
    b"MM\x00*",
    b"\x00\x00\x00\x0cjP",  # JPEG 2000
)
_DATA_SUFFIXES = (".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet")


def recognizes(path: Path, head: bytes) -> bool:
    """Return whether `path` is a folder."""
    return path.is_dir()


def read_rows(path: Path) -> Iterator[Row | Quarantined]:
    """Yield one row per image, in the order of names. Raises NotFound if there are no images."""
    suffixes = image_suffixes()
    num_images = 0
    errors: list[OSError] = []
    for folder, subfolders, names in os.walk(path, onerror=errors.append):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(names):
            image = Path(folder, name)
            if name.startswith(".") or not _is_image(image, suffixes):
                continue
            num_images += 1
            yield _row(image, path)
    for error in errors:
        yield Quarantined(str(error.filename), f"The folder can't be read: {error.strerror}.")
    if not num_images and not errors:
        raise NotFound(
            f'The folder "{path}" and its subfolders contain no images; '
            "name another folder, or a file of rows."
        )


def image_suffixes() -> frozenset[str]:
    """Return the lower-case suffixes of the formats that Pillow reads: ".jpg", ".png", ..."""
    from PIL import Image

    return frozenset(
        suffix
        for suffix, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in _EXCLUDED_FORMATS
    )


def looks_like_image(head: bytes) -> bool:
    """Return whether the first 16 bytes of a file are those of a common image format."""
    return (
        head.startswith(_MAGIC_NUMBERS)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"))
    )


def _is_image(path: Path, suffixes: frozenset[str]) -> bool:
    suffix = path.suffix.lower()
    if suffix in suffixes:
        return True
    if suffix in _DATA_SUFFIXES:
        return False
    try:
        with open(path, "rb") as file:
            return looks_like_image(file.read(16))
    except OSError:
        return False


def _row(image: Path, root: Path) -> Row | Quarantined:
    texts: list[str] = []
    text_file = image.with_suffix(".txt")
    if text_file.is_file():
        try:
            texts = text_file.read_text(encoding="utf-8-sig").splitlines()
        except (UnicodeDecodeError, OSError) as error:
            reason = f"The texts of {image.name} can't be read as UTF-8: {error}."
            return Quarantined(str(text_file), reason)
    entry_id = image.relative_to(root).as_posix()
    return Row(str(image), {"id": entry_id, "image": str(image.absolute()), "texts": texts}, root)
