"""A folder of images and documents, with its subfolders.

The id is the path of the file below the folder; a PDF becomes an entry per page. Texts come from
the text file of the same name (boat.jpg, boat.txt): one text per line, empty lines skipped. A .json
file of the same name is read as img2dataset writes it, and metadata.jsonl, .csv or .parquet as
Hugging Face's ImageFolder does (see folder_metadata.py). Hidden files and folders are skipped,
links to folders are followed once. Images that can't be read are rejected by name; other files are
noted, one line per type.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ravlm.data.formats.folder_metadata import (
    FolderMetadata,
    read_json_file,
    read_text,
    sidecars,
)
from ravlm.data.images import is_heif, register_heif
from ravlm.data.office import OFFICE_SUFFIXES
from ravlm.data.pdf import PDF_SUFFIX
from ravlm.data.rows import Quarantined, Row, text_lines
from ravlm.errors import MissingExtra, NotFound
from ravlm.runtime import has_packages

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
_HEIF_SUFFIXES = (".heic", ".heif")
# Images that Pillow does not read: raw files of cameras, drawings, formats without a decoder.
_UNREADABLE_SUFFIXES = frozenset({
    ".jxl", ".svg", ".svgz", ".avif", ".eps", ".ai", ".wmf", ".emf", ".exr", ".xcf",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw",
})  # fmt: skip
_DATA_SUFFIXES = (".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet")


def recognizes(path: Path, head: bytes) -> bool:
    """Return whether `path` is a folder."""
    return path.is_dir()


def read_rows(path: Path) -> Iterator[Row | Quarantined]:
    """Yield one row per image, in the order of names. Raises NotFound if there are no images."""
    suffixes = image_suffixes()
    metadata = FolderMetadata()
    leftovers = _Leftovers()
    num_images = 0
    errors: list[OSError] = []
    for folder, names in _walk(path, errors):
        yield from metadata.read(folder, names)
        images = [name for name in names if _is_image(folder / name, suffixes)]
        texts = sidecars(folder, names, images)
        used = {*images, *metadata.file_names}
        for name in images:
            num_images += 1
            text_files = texts.get(Path(name).stem, [])
            used.update(file.name for file in text_files)
            yield image_row(folder / name, path, text_files, metadata)
        for name in names:
            if name not in used and (rejected := leftovers.add(folder / name)):
                num_images += 1
                yield rejected
    yield from metadata.unused()
    for error in errors:
        yield Quarantined(str(error.filename), f"The folder can't be read: {error.strerror}.")
    if not num_images and not errors:
        raise NotFound(
            f'The folder "{path}" and its subfolders contain no images and no PDF files; '
            "name another folder, or a file of rows."
        )
    yield from leftovers.notes(path)


def image_suffixes() -> frozenset[str]:
    """Return the lower-case suffixes of the formats that Pillow reads: ".jpg", ".png", ..."""
    from PIL import Image

    register_heif()
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
        or is_heif(head)
    )


def _walk(root: Path, errors: list[OSError]) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder with the names of its visible files.

    A link to a folder outside of `root` is followed once; the others are read at their own place.
    """
    inside = os.path.realpath(root)
    visited: set[tuple[int, int]] = set()

    def enters(folder: str) -> bool:
        try:
            status = os.stat(folder)
        except OSError:  # a link to nothing
            return False
        key = (status.st_dev, status.st_ino)
        is_new = key not in visited
        if os.path.islink(folder) and is_new:
            target = Path(os.path.realpath(folder))
            if target.is_relative_to(inside):
                parts = target.relative_to(inside).parts
                is_new = any(part.startswith(".") for part in parts)
        if is_new:
            visited.add(key)
        return is_new

    enters(inside)
    for folder, subfolders, names in os.walk(root, onerror=errors.append, followlinks=True):
        visible = sorted(name for name in subfolders if not name.startswith("."))
        subfolders[:] = [name for name in visible if enters(os.path.join(folder, name))]
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def _is_image(path: Path, suffixes: frozenset[str]) -> bool:
    """Return whether a file is an image, or a document."""
    suffix = path.suffix.lower()
    if suffix in suffixes or suffix == PDF_SUFFIX:
        return True
    if suffix in OFFICE_SUFFIXES:
        return has_packages("markitdown")
    if suffix in _DATA_SUFFIXES or suffix in _UNREADABLE_SUFFIXES or suffix in _HEIF_SUFFIXES:
        return False
    try:
        with open(path, "rb") as file:
            return looks_like_image(file.read(16))
    except OSError:
        return False


def image_row(
    image: Path, root: Path, text_files: list[Path], metadata: FolderMetadata
) -> Row | Quarantined:
    """Return the row of an image below the folder `root`, with the texts of its text files."""
    values: dict[str, Any] = {"id": image.relative_to(root).as_posix()}
    lines: list[str] = []
    for file in text_files:
        try:
            if file.suffix.lower() == ".json":
                values |= read_json_file(file)
            else:
                lines += text_lines(read_text(file))
        except (ValueError, OSError) as error:
            reason = f"The texts of {image.name} can't be read as UTF-8: {error}."
            return Quarantined(str(file), reason)
    values |= metadata.pop(image)
    texts = values.pop("texts", [])
    values["texts"] = [*lines, *(texts if isinstance(texts, list) else [texts])]
    values["image"] = str(image.absolute())
    return Row(str(image), values, root)


class _Leftovers:
    """Collects the files that are not read."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}  # suffix -> the first name
        self._counts: dict[str, int] = {}

    def add(self, path: Path) -> Quarantined | None:
        """Count a file. Return why it is rejected if it is an image."""
        suffix = path.suffix.lower()
        if suffix in _HEIF_SUFFIXES:
            missing = MissingExtra("pillow-heif", "formats", "Reading HEIC and HEIF images")
            return Quarantined(str(path), f"{missing}.")
        if suffix in _UNREADABLE_SUFFIXES:
            reason = f'Images of the type "{suffix}" can\'t be read; convert it to PNG or JPEG.'
            return Quarantined(str(path), reason)
        self._names.setdefault(suffix, [path.name])
        self._counts[suffix] = self._counts.get(suffix, 0) + 1
        return None

    def notes(self, root: Path) -> Iterator[Quarantined]:
        """Yield one note per type of file."""
        for suffix, names in sorted(self._names.items()):
            kind = f'of the type "{suffix}"' if suffix else "without a type"
            count = self._counts[suffix]
            files = f"{count:,} files {kind}, such as {names[0]}, are"
            if count == 1:
                files = f"The file {names[0]} is"
            reason = f"{files} not read: no image and not the texts of one."
            if suffix in OFFICE_SUFFIXES:
                missing = MissingExtra("markitdown", "office", "Reading DOCX, PPTX and HTML files")
                reason = f"{files} not read. {missing}."
            yield Quarantined(str(root), reason, is_note=True)
