"""From a row of any source to an `Entry` or a `Pair`: ids, texts, image paths and rejected rows.

The source formats stand in formats/. Images are not opened here: only their existence is checked.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ravlm.data.images import is_address
from ravlm.errors import BrokenData, InvalidInput, NotFound, did_you_mean
from ravlm.records import Entry, Pair

RESERVED_KEYS = ("id", "image", "text", "texts")
"""Keys of a row that are not metadata."""
CONTENT_KEYS = RESERVED_KEYS[1:]
"""A row needs at least one of these to become an entry."""
# Names that other tools use: suggested in the error, not accepted.
_SYNONYMS = {
    "image": frozenset({
        "picture", "photo", "img", "file", "file_name", "filename", "filepath", "path",
        "image_path", "url",
    }),
    "text": frozenset({"caption", "description", "sentence", "title", "label", "alt"}),
    "texts": frozenset({"captions", "descriptions", "sentences"}),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One row of a source.

    `values` holds `id`, `image`, `text` or `texts`, and metadata in JSON types under every other
    key.
    """

    location: str
    """Where the row stands, for messages: "photos.jsonl, line 3"."""
    values: Mapping[str, Any]
    folder: Path
    """The folder that a relative `image` starts from."""


@dataclass(frozen=True)
class Quarantined:
    """A part of a source that was rejected, with its location and the reason."""

    location: str
    reason: str

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}"


def to_entry(row: Row) -> Entry:
    """Return the entry of a row.

    A row without an id gets one that is derived from its content. Raises BrokenData, InvalidInput
    or NotFound with the reason to reject the row.
    """
    values = row.values
    texts = _texts(values)
    image = _image(values.get("image"), row.folder)
    if image is None and not texts:
        raise BrokenData(f"The row has neither an image nor a text.{_key_hint(values)}")
    metadata = {key: value for key, value in values.items() if key not in RESERVED_KEYS}
    content = [_hashable_image(values.get("image")), texts, metadata]
    try:
        content_json = json.dumps(content, ensure_ascii=False, sort_keys=True)
        digest = hashlib.sha256(content_json.encode()).hexdigest()
        entry_id = _id(values.get("id")) or digest[:32]
        entry_id.encode()
    except (TypeError, ValueError) as error:  # not JSON, or half of a surrogate pair
        raise BrokenData(f"The row can't be written as JSON in UTF-8: {error}.") from None
    return Entry(entry_id, image, texts, metadata)


def to_pair(row: Row) -> Pair:
    """Return the pair of a row, which needs an image and a text. Raises as `to_entry` does."""
    entry = to_entry(row)
    if entry.image is None or not entry.texts:
        missing = "image" if entry.image is None else "text"
        hint = _key_hint(row.values)
        raise BrokenData(f"A pair needs an image and a text, but the row has no {missing}.{hint}")
    return Pair(entry.image, entry.texts, entry.id, entry.metadata)


def missing_keys_error(values: Mapping[str, Any], source: str) -> InvalidInput:
    """Return the error for a source whose rows have none of the content keys."""
    names = ", ".join(f'"{key}"' for key in list(values)[:12])
    requirement = 'each row needs at least one of "image", "text", "texts"'
    return InvalidInput(f"{source} has the keys {names}; {requirement}.{_key_hint(values)}")


def _key_hint(values: Mapping[str, Any]) -> str:
    """Return a sentence that suggests how to rename the first key that looks misnamed, or ""."""
    for key in values:
        for name, synonyms in _SYNONYMS.items():
            if key not in RESERVED_KEYS and (key.lower() == name or key.lower() in synonyms):
                return f' Rename "{key}" to "{name}".'
    for key in values:
        if key not in RESERVED_KEYS and (hint := did_you_mean(key.lower(), CONTENT_KEYS)):
            return f' "{key}" is unknown.{hint}'
    return ""


def _id(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise BrokenData(f"The id is {_quote(value)}; it must be a string or a number.")


def _texts(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts of both keys that are not blank."""
    text, texts = values.get("text"), values.get("texts")
    candidates = [] if text is None else [("text", text)]
    if isinstance(texts, list | tuple):
        candidates += [("texts", item) for item in texts]
    elif texts is not None:
        candidates.append(("texts", texts))
    for key, item in candidates:
        if not isinstance(item, str):
            allowed = "a string" if key == "text" else "a list of strings"
            raise BrokenData(f'"{key}" is or contains {_quote(item)}; it must be {allowed}.')
    return tuple(item for _, item in candidates if item.strip())


def _image(value: Any, folder: Path) -> str | bytes | None:
    if value is None or value == "":
        return None
    if isinstance(value, bytes):
        return value or None
    if not isinstance(value, str):
        raise _not_an_image_source(value)
    if is_address(value):
        if not value.lower().startswith(("http://", "https://")):
            raise _not_an_image_source(value)
        return value
    path = os.path.join(os.path.abspath(folder), value)
    try:
        exists = os.path.isfile(path)
    except ValueError:  # a NUL character in the name
        exists = False
    if not exists:
        raise NotFound(f"There is no image {_quote(path)}; the row was skipped.")
    return path


def _not_an_image_source(value: Any) -> BrokenData:
    return BrokenData(f'"image" is {_quote(value)}; it must be a path or an http(s) address.')


def _hashable_image(image: Any) -> Any:
    return hashlib.sha256(image).hexdigest() if isinstance(image, bytes) else image


def _quote(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 200 else text[:200] + "..."
