"""A row of any source to an Entry or a Pair: ids, texts, where the picture lies, and what is
refused, with the reason.

Knows no file format (see sources/) and opens no picture: that a file is there is checked, what is
in it is not."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravlm.data.images import is_address
from ravlm.errors import BrokenData, InvalidInput, NotFound, nearest
from ravlm.records import Entry, Pair

KEYS = ("id", "image", "text", "texts")
"""Keys of a row that are no metadata."""
CONTENT = KEYS[1:]
"""Those that make an entry: a row needs one of them."""
# What other tools call them: named in the error, not accepted.
_ELSEWHERE = {
    "image": (
        "picture",
        "photo",
        "img",
        "file",
        "file_name",
        "filename",
        "filepath",
        "path",
        "image_path",
        "url",
    ),
    "text": ("caption", "description", "sentence", "title", "label", "alt"),
    "texts": ("captions", "descriptions", "sentences"),
}


@dataclass(frozen=True)
class Row:
    """One row of a source: `id`, `image`, `text` or `texts`, and metadata (JSON types) under every
    other key."""

    place: str
    """Where it stands, for people: "photos.jsonl, line 3"."""
    values: Mapping[str, Any]
    folder: Path
    """Where a relative `image` starts."""


@dataclass(frozen=True)
class Quarantined:
    """What was refused, where it stands, and why."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def to_entry(row: Row) -> Entry:
    """The entry of a row. Raises BrokenData, InvalidInput or NotFound with the reason to refuse
    it."""
    values = row.values
    texts = _texts(values)
    image = _image(values.get("image"), row.folder)
    if image is None and not texts:
        raise BrokenData(f"The row has neither a picture nor a text.{_hint(values)}")
    metadata = {key: value for key, value in values.items() if key not in KEYS}
    try:
        content = json.dumps(
            [_reference(values.get("image")), texts, metadata], ensure_ascii=False, sort_keys=True
        )
        digest = hashlib.sha256(content.encode()).hexdigest()
        identity = _id(values.get("id")) or digest[:32]
        identity.encode()
    except (TypeError, ValueError) as error:  # not JSON, or half a character
        raise BrokenData(f"The row can't be written as JSON in UTF-8: {error}.") from None
    return Entry(identity, image, texts, metadata)


def to_pair(row: Row) -> Pair:
    """The pair of a row, which needs a picture and a text. Raises as `to_entry` does."""
    entry = to_entry(row)
    if entry.image is None or not entry.texts:
        lacking = "picture" if entry.image is None else "text"
        raise BrokenData(
            f"A pair needs a picture and a text, and the row has no {lacking}.{_hint(row.values)}"
        )
    return Pair(entry.image, entry.texts, entry.id, entry.metadata)


def wrong_keys(keys: Mapping[str, Any], source: str) -> InvalidInput:
    """The error of a source whose rows have none of the keys that are needed."""
    found = ", ".join(f'"{key}"' for key in list(keys)[:12])
    needed = 'at least one of "image", "text", "texts" is needed'
    return InvalidInput(f"{source} has the keys {found}; {needed}.{_hint(keys)}")


def _hint(keys: Mapping[str, Any]) -> str:
    for key in keys:
        for ours, others in _ELSEWHERE.items():
            if key not in KEYS and key.lower() in (ours, *others):
                return f' Rename "{key}" to "{ours}".'
    for key in keys:
        if key not in KEYS and (hint := nearest(key.lower(), CONTENT)):
            return f' "{key}" is unknown.{hint}'
    return ""


def _id(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise BrokenData(f"The id is {_shown(value)}; a string or a number is needed.")


def _texts(values: Mapping[str, Any]) -> tuple[str, ...]:
    found: list[str] = []
    for key in ("text", "texts"):
        value = values.get(key)
        several = (
            value
            if key == "texts" and isinstance(value, list | tuple)
            else []
            if value is None
            else [value]
        )
        for text in several:
            if not isinstance(text, str):
                allowed = "a string" if key == "text" else "a list of strings"
                raise BrokenData(f'"{key}" is or holds {_shown(text)}; {allowed} is needed.')
            if text.strip():
                found.append(text)
    return tuple(found)


def _image(value: Any, folder: Path) -> str | bytes | None:
    if value is None or value == "":
        return None
    if isinstance(value, bytes):
        return value or None
    if not isinstance(value, str):
        raise BrokenData(f'"image" is {_shown(value)}; a path or an http(s) address is needed.')
    if is_address(value):
        if not value.lower().startswith(("http://", "https://")):
            raise BrokenData(f'"image" is {_shown(value)}; a path or an http(s) address is needed.')
        return value
    path = os.path.join(os.path.abspath(folder), value)
    try:
        there = os.path.isfile(path)
    except ValueError:  # a NUL character in the name
        there = False
    if not there:
        raise NotFound(f"There is no picture {_shown(path)}; nothing of the row was taken.")
    return path


def _reference(image: Any) -> Any:
    return hashlib.sha256(image).hexdigest() if isinstance(image, bytes) else image


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 200 else text[:200] + "..."
