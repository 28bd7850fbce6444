"""From a row of any source to an `Entry` or a `Pair`: ids, texts, image paths and rejected rows.

The source formats stand in formats/. Images are not opened here: only their existence is checked.
"""

from __future__ import annotations

import hashlib
import json
import numbers
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ravlm.data.images import is_address
from ravlm.data.lines import MAX_LINE
from ravlm.data.pdf import image_file, page_path
from ravlm.errors import BrokenData, InvalidInput, NotFound, did_you_mean
from ravlm.records import Entry, Pair, PdfPage
from ravlm.regions import Region

RESERVED_KEYS = ("id", "image", "text", "texts")
"""Keys of a row that are not metadata."""
CONTENT_KEYS = RESERVED_KEYS[1:]
"""A row needs at least one of these to become an entry."""
MAX_KEYS = 10_000
"""Keys of a row, wide tables of attributes included; each becomes a filter of the base."""
_MIN_SIMILARITY = 0.8
"""Of a key to a content key, to be suggested as a misspelling: "imge", but not "image_id"."""
_LINE_END = re.compile(r"\r\n|\n")
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DOT_SEGMENT = re.compile(r"(?:^|/)\.\.?(?:/|$)")
# Names that other tools use: suggested in messages. layouts.py reads well-known combinations.
_SYNONYMS = {
    "image": frozenset({
        "picture", "photo", "img", "file", "file_name", "filename", "filepath", "path",
        "image_path", "image_file", "image_name", "image_url", "img_path", "url",
    }),
    "text": frozenset({"caption", "description", "sentence", "title", "label", "alt"}),
    "texts": frozenset({"captions", "descriptions", "sentences"}),
}  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_TEXT_WORDS = frozenset({"text", "caption", "description", "sentence"})
_IMAGE_WORDS = frozenset({"image", "img", "photo", "picture"})
_PATH_WORDS = frozenset({"path", "file", "filename", "filepath", "name", "url"})


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
    is_note: bool = False
    """Whether nothing was rejected: the reason tells how the source was read."""

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}"


def first_refused(quarantine: Sequence[Quarantined]) -> str:
    """Return a sentence, with a space before it, about the first rejected row; "" if there is
    none."""
    refused = [row for row in quarantine if not row.is_note]
    return f" The first of {len(refused)} refused: {refused[0]}" if refused else ""


def to_entry(row: Row) -> Entry:
    """Return the entry of a row.

    A row without an id gets one that is derived from its content. Raises BrokenData, InvalidInput
    or NotFound with the reason to reject the row.
    """
    regions, values = take_regions(row.values)
    if len(values) > MAX_KEYS:
        raise BrokenData(f"The row has {len(values):,} keys; at most {MAX_KEYS:,} are read.")
    texts = _texts(values)
    image = _image(values.get("image"), row.folder)
    if image is None and not texts and not regions:
        raise BrokenData(f"The row has neither an image nor a text.{_key_hint(values)}")
    metadata = {key: value for key, value in values.items() if key not in RESERVED_KEYS}
    content = [_hashable_image(values.get("image")), texts, metadata]
    content += [[region.to_dict() for region in regions]] if regions else []
    try:
        content_json = json.dumps(content, ensure_ascii=False, sort_keys=True)
        digest = hashlib.sha256(content_json.encode()).hexdigest()
        id_ = entry_id(values.get("id")) or digest[:32]
        id_.encode()
    except (TypeError, ValueError, RecursionError) as error:
        # not JSON, half of a surrogate pair, or objects in objects without end
        raise BrokenData(f"The row can't be written as JSON in UTF-8: {error}.") from None
    return Entry(id_, image, texts, metadata, regions)


def take_regions(values: Mapping[str, Any]) -> tuple[tuple[Region, ...], Mapping[str, Any]]:
    """Return the regions of a row, and its other values.

    A key "regions" without objects that have a text or a box is metadata. Raises InvalidInput for
    a region that is not one.
    """
    rows = values.get("regions")
    if not isinstance(rows, list) or not rows or not all(map(_is_region, rows)):
        return (), values
    others = {key: value for key, value in values.items() if key != "regions"}
    return tuple(map(Region.from_dict, rows)), others


def _is_region(value: Any) -> bool:
    return isinstance(value, Mapping) and ("text" in value or "box" in value)


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


def near_misses(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the keys of a row that look like a misnamed content key that it lacks, and its name.

    >>> near_misses({"image_path": "cat.jpg", "text": "a cat", "year": 2011})
    {'image_path': 'image'}
    """
    has_text = "text" in values or "texts" in values
    missing = [
        name for name in CONTENT_KEYS if not (has_text if "text" in name else name in values)
    ]
    renamed = {}
    for key, value in values.items():
        if key in RESERVED_KEYS or not (isinstance(value, str) or _is_text_list(value)):
            continue
        lower = key.lower()
        names = [name for name in missing if lower == name or lower in _SYNONYMS[name]]
        names += get_close_matches(lower, missing, n=1, cutoff=_MIN_SIMILARITY)
        words = {word.lower() for word in _WORD.findall(key)}
        if words & _IMAGE_WORDS and words & _PATH_WORDS:
            names += [name for name in missing if name == "image"]
        elif words & _TEXT_WORDS:
            names += [name for name in missing if name == "text"]
        if names:
            renamed[key] = names[0]
    return renamed


def _is_text_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def check_column_names(names: Sequence[str], path: Path) -> None:
    """Raise InvalidInput if two columns have the same name: one of them would be lost."""
    for name, count in Counter(filter(None, names)).items():
        if count > 1:
            raise InvalidInput(f'"{path}" has two columns called "{name}"; rename one of them.')


def text_lines(text: str) -> list[str]:
    """Return the lines of a text file; only \\n and \\r\\n end a line.

    `str.splitlines` would also split at U+2028, U+0085 and form feeds, which occur within captions.
    """
    return _LINE_END.split(text)


def entry_id(value: Any) -> str:
    """Return an id as the string under which it is stored everywhere; None becomes "".

    Blanks at the ends are kept. Raises BrokenData for other types than strings and numbers, and for
    ids that could not be named in an address or on a line of their own: blank ones, those with
    control characters, and those with the path segments "." and "..".
    """
    if value is None:
        return ""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number and not isinstance(value, str):
        raise BrokenData(f"The id is {_quote(value)}; it must be a string or a number.")
    return _checked_id(id_text(value))


def id_text(value: Any) -> str:
    """Return the string by which an id is looked up.

    A whole number is written without a point: pandas makes 1.0 of 1 in a column with gaps.
    """
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, numbers.Real) and float(value).is_integer():
        return str(int(float(value)))
    return str(value)


def id_texts(ids: str | Iterable[str]) -> list[str]:
    """Return one id, or several, as the strings by which they are looked up."""
    return [ids] if isinstance(ids, str) else [id_text(id_) for id_ in ids]


def _checked_id(id_: str) -> str:
    if id_ and not id_.strip():
        raise BrokenData(f"The id {id_!r} is blank; give it a name, or leave it out.")
    if control := _CONTROL_CHARACTER.search(id_):
        raise BrokenData(
            f"The id {_quote(repr(id_))} has the control character "
            f"U+{ord(control[0]):04X}; remove it."
        )
    if _DOT_SEGMENT.search(id_):
        raise BrokenData(
            f'The id "{id_}" has the path segment "." or "..", which addresses can\'t name; '
            "choose another id."
        )
    return id_


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
        if len(item) > MAX_LINE:
            raise BrokenData(f"A text has {len(item):,} characters; at most {MAX_LINE:,} are read.")
    return tuple(item for _, item in candidates if item.strip())


def _image(value: Any, folder: Path) -> str | bytes | PdfPage | None:
    if value is None or value == "":
        return None
    if isinstance(value, PdfPage):
        return value
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
        exists = os.path.isfile(image_file(path))
    except ValueError:  # a NUL character in the name
        exists = False
    if not exists:
        raise NotFound(f"There is no image {_quote(path)}; the row was skipped.")
    return path


def _not_an_image_source(value: Any) -> BrokenData:
    return BrokenData(f'"image" is {_quote(value)}; it must be a path or an http(s) address.')


def _hashable_image(image: Any) -> Any:
    if isinstance(image, PdfPage):
        return page_path(image.document.sha256, image.page)
    return hashlib.sha256(image).hexdigest() if isinstance(image, bytes) else image


def _quote(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    return text if len(text) <= 200 else text[:200] + "..."
