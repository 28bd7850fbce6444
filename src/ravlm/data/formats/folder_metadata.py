"""Texts and metadata of the images of a folder, in files next to them.

Hugging Face's ImageFolder: metadata.jsonl, metadata.csv or metadata.parquet, one row per image with
its path in `file_name` (or `image`, our own key), relative to the file's own folder. img2dataset:
0001.jpg, 0001.json.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ravlm.data.formats import csv, jsonl, parquet
from ravlm.data.layouts import convert_captions
from ravlm.data.lines import MAX_LINE
from ravlm.data.rows import Quarantined, Row

_READERS = {"metadata.jsonl": jsonl, "metadata.csv": csv, "metadata.parquet": parquet}
_TEXT_KEYS = frozenset(("text", "texts", "caption", "captions"))
_TEXT_SUFFIXES = (".txt", ".text", ".caption")


class FolderMetadata:
    """The rows of all metadata files of a folder, by the path of their image."""

    file_names = tuple(_READERS)

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def read(self, folder: Path, names: list[str]) -> Iterator[Quarantined]:
        """Read the metadata files of `folder`. Yield what they have of rejected rows and notes."""
        for name in sorted(_READERS.keys() & set(names)):
            rows = 0
            for row in _READERS[name].read_rows(folder / name):
                if isinstance(row, Quarantined):
                    yield row
                    continue
                file_name = _image_name(row)
                if not file_name:
                    reason = 'The row names no image; it needs "file_name" or "image".'
                    yield Quarantined(row.location, reason)
                    continue
                rows += 1
                self._rows[_key(folder / file_name)] = row
            reason = f"{rows:,} rows were read as the texts and metadata of images: "
            reason += "Hugging Face ImageFolder."
            yield Quarantined(str(folder / name), reason, is_note=True)

    def pop(self, image: Path) -> dict[str, Any]:
        """Return the values of the row of an image, {} if there is none."""
        row = self._rows.pop(_key(image), None)
        if row is None:
            return {}
        values = {key: value for key, value in row.values.items() if key != "file_name"}
        values.pop("image", None)
        return convert_captions(values)

    def unused(self) -> Iterator[Quarantined]:
        """Yield the rows whose image does not exist."""
        for row in self._rows.values():
            reason = f'There is no image "{_image_name(row)}" in the folder.'
            yield Quarantined(row.location, reason)


def sidecars(folder: Path, names: list[str], images: list[str]) -> dict[str, list[Path]]:
    """Return the text files of `images` by the name that both have without the suffix.

    The suffix may be in upper case. A .json file is one of them if it has a text; annotations of
    other tools are not.
    """
    stems = {Path(name).stem for name in images}
    files: dict[str, list[Path]] = {}
    for name in names:
        path = folder / name
        if path.stem not in stems:
            continue
        suffix = path.suffix.lower()
        if suffix in _TEXT_SUFFIXES or (suffix == ".json" and read_json_file(path)):
            files.setdefault(path.stem, []).append(path)
    return files


def read_json_file(path: Path) -> dict[str, Any]:
    """Return the object in a file as the values of a row, {} if it has no text."""
    try:
        values = json.loads(read_text(path))
    except (ValueError, RecursionError, OSError):
        return {}
    if not isinstance(values, dict) or not _TEXT_KEYS & values.keys():
        return {}
    values.pop("image", None)
    return {key: value for key, value in convert_captions(values).items() if value is not None}


def read_text(path: Path) -> str:
    """Return the text of a small file. Raises ValueError if it is too large or not UTF-8."""
    with open(path, encoding="utf-8-sig") as file:
        text = file.read(MAX_LINE + 1)
    if len(text) > MAX_LINE:
        raise ValueError(f"it is longer than {MAX_LINE:,} characters")
    return text


def _image_name(row: Row) -> str:
    names = (row.values.get(key) for key in ("file_name", "image"))
    return next((name for name in names if isinstance(name, str)), "")


def _key(path: Path) -> str:
    return os.path.normpath(path)
