"""Well-known layouts of rows that other tools write: their keys become `image`, `text`, `texts`.

`LAYOUTS` is the only list of them. A stream notes once which layout it read, and names the keys
that look misnamed: they are metadata, and a caption would otherwise be missing without a word.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ravlm.data.formats.locate_images import find_image_folder
from ravlm.data.images import is_address
from ravlm.data.rows import CONTENT_KEYS, Quarantined, Row, near_misses

CAPTION_KEYS = ("caption", "captions", "comment", "file_name", "image_name", "TEXT")
"""Keys of the layouts below that hold texts or paths, never numbers."""
_ASSISTANTS = ("assistant", "gpt", "chatgpt", "bot", "model")
_CONTENT = frozenset(CONTENT_KEYS)
_TEXTS = frozenset(("text", "texts"))
_MAX_SEARCHES = 20
"""Rows whose missing image makes the reader look for its folder."""
_MAX_KEYS = 10_000
"""Keys that are checked for being misnamed: rows may have keys without end."""

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """How the rows of another tool are recognized and converted."""

    matches: Callable[[Values], bool]
    convert: Callable[[Values], dict[str, Any]]
    description: str
    """What was read as what."""
    one_caption_per_row: bool = False
    """Whether consecutive rows of one image are one entry."""


def _has_caption(values: Values) -> bool:
    has_caption = "caption" in values or "captions" in values
    return has_caption and "image" in values and not _TEXTS & values.keys()


def convert_captions(values: Values) -> dict[str, Any]:
    """Return `values` with `caption` and `captions`, strings or lists of them, as texts."""
    row = {key: value for key, value in values.items() if key not in ("caption", "captions")}
    captions = [values[key] for key in ("caption", "captions") if values.get(key) is not None]
    texts = [text for item in captions for text in (item if isinstance(item, list) else [item])]
    known = [row.get("text"), *_as_list(row.get("texts"))]
    texts = [text for text in texts if text not in known]
    if not texts:
        return row
    if len(texts) == 1 and not _TEXTS & row.keys():
        return row | {"text": texts[0]}
    return row | {"texts": [*_as_list(row.get("texts")), *texts]}


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _convert_conversation(values: Values) -> dict[str, Any]:
    """Return the row with the replies as texts; the whole conversation stays as metadata."""
    turns = values.get("conversations") or values.get("messages") or ()
    replies = [
        text
        for turn in turns
        if isinstance(turn, Mapping) and turn.get("from", turn.get("role")) in _ASSISTANTS
        for text in _turn_texts(turn.get("value", turn.get("content")))
    ]
    row = dict(values) | {"texts": replies}
    images = row.get("image", row.get("images"))
    if isinstance(images, list) and len(images) == 1:
        row.pop("images", None)
        row["image"] = images[0]
    return row


def _turn_texts(content: Any) -> list[Any]:
    """Return the texts of a turn: a string, or a list of parts as OpenAI writes them."""
    if isinstance(content, list):
        return [part["text"] for part in content if isinstance(part, Mapping) and "text" in part]
    return [content] if content is not None else []


def _is_conversation(values: Values) -> bool:
    turns = values.get("conversations", values.get("messages"))
    is_list = isinstance(turns, list) and bool(turns) and isinstance(turns[0], Mapping)
    return is_list and not _TEXTS & values.keys()


def _convert_download(values: Values) -> dict[str, Any]:
    """Return a row of img2dataset: the picture it downloaded, else the one at the address."""
    row = {key: value for key, value in convert_captions(values).items() if value is not None}
    return row if "image" in row else row | {"image": values["url"]}


def _convert_address(values: Values) -> dict[str, Any]:
    keys = {"url": "image", "URL": "image", "TEXT": "caption"}
    return convert_captions({keys.get(key, key): value for key, value in values.items()})


def _convert_file_name(values: Values) -> dict[str, Any]:
    row = {key: value for key, value in values.items() if key != "file_name"}
    return convert_captions(row | {"image": values["file_name"]})


def _convert_comment(values: Values) -> dict[str, Any]:
    keys = {"image_name": "image", "comment": "text"}
    items = values.items()
    return {keys.get(key, key): value for key, value in items if key != "comment_number"}


# The first layout that matches a row converts it.
LAYOUTS: dict[str, Layout] = {
    "conversations (LLaVA, ShareGPT, OpenAI messages)": Layout(
        _is_conversation, _convert_conversation, "the replies are the texts"
    ),
    "img2dataset": Layout(
        lambda values: {"key", "url", "status"} <= values.keys(),
        _convert_download,
        '"caption" is the text',
    ),
    "addresses with captions (LAION)": Layout(
        lambda values: (
            not _CONTENT & values.keys()
            and ({"url", "caption"} <= values.keys() or {"URL", "TEXT"} <= values.keys())
        ),
        _convert_address,
        "the address is the image, the caption is the text",
    ),
    "Hugging Face ImageFolder": Layout(
        lambda values: (
            "file_name" in values
            and "image" not in values
            and bool({"text", "texts", "caption", "captions"} & values.keys())
        ),
        _convert_file_name,
        '"file_name" is the image',
    ),
    "Flickr30k": Layout(
        lambda values: {"image_name", "comment"} <= values.keys() and not _CONTENT & values.keys(),
        _convert_comment,
        '"image_name" is the image, "comment" is the text',
        one_caption_per_row=True,
    ),
    "image and caption": Layout(
        _has_caption, convert_captions, '"caption" is the text', one_caption_per_row=True
    ),
}


def convert_layouts(
    rows: Iterable[Row | Quarantined], source: str, locate: bool
) -> Iterator[Row | Quarantined]:
    """Yield `rows` in our own keys, with a note on each layout and each key that looks misnamed.

    `source` is the file or folder for the notes. With `locate`, an image that a layout names
    without its folder is looked for in nearby folders.
    """
    notes = _Notes(source)
    locator = _Locator(source) if locate else None
    ids_of_images: set[bytes] = set()
    pending: Row | None = None  # collects the captions of one image
    for row in rows:
        if isinstance(row, Quarantined):
            yield row
            continue
        name = next((name for name, layout in LAYOUTS.items() if layout.matches(row.values)), None)
        if name is None:
            yield from notes.misnamed_keys(row.values)
        else:
            layout = LAYOUTS[name]
            yield from notes.layout(name, layout)
            row = replace(row, values=layout.convert(row.values))
            row = row if locator is None else locator.located(row)
            if layout.one_caption_per_row and "id" not in row.values and _image_name(row):
                if pending is not None and _same_image(pending, row):
                    pending = _with_captions(pending, row)
                    continue
                pending, row = _with_id(row, ids_of_images), pending
                if row is None:
                    continue
                yield row
                continue
        if pending is not None:
            yield pending
            pending = None
        yield row
    if pending is not None:
        yield pending


class _Notes:
    """Says each thing once per source."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._layouts: set[str] = set()
        self._keys: set[str] = set()

    def layout(self, name: str, layout: Layout) -> Iterator[Quarantined]:
        if name not in self._layouts:
            self._layouts.add(name)
            reason = f"Rows were read in the layout of {name}: {layout.description}."
            yield Quarantined(self._source, reason, is_note=True)

    def misnamed_keys(self, values: Values) -> Iterator[Quarantined]:
        """Name keys next to a content key; a row without any is rejected with the same hint."""
        new_keys = values.keys() - self._keys
        if not new_keys or len(self._keys) > _MAX_KEYS or not _CONTENT & values.keys():
            return
        self._keys |= new_keys
        for key, name in near_misses(values).items():
            if key in new_keys:
                reason = (
                    f'"{key}" was read as metadata. If it is the {name}, rename it to "{name}".'
                )
                yield Quarantined(self._source, reason, is_note=True)


class _Locator:
    """Finds the folder of images that are named without it."""

    def __init__(self, source: str) -> None:
        self._file = Path(source)
        self._folder: Path | None = None
        self._num_searches = 0

    def located(self, row: Row) -> Row:
        """Return the row with the folder in which its image exists, if that can be found."""
        name = _image_name(row)
        if not name or is_address(name) or "\0" in name or os.path.isabs(name):
            return row
        if self._folder is not None:
            return row if os.path.isfile(row.folder / name) else replace(row, folder=self._folder)
        if self._num_searches == _MAX_SEARCHES or os.path.isfile(row.folder / name):
            return row
        self._num_searches += 1
        folder = find_image_folder(self._file, [name])
        if not os.path.isfile(folder / name):
            return row
        self._folder = folder
        return replace(row, folder=folder)


def _image_name(row: Row) -> str:
    image = row.values.get("image")
    return image if isinstance(image, str) else ""


def _same_image(first: Row, second: Row) -> bool:
    def other_values(row: Row) -> dict[str, Any]:
        return {key: row.values[key] for key in row.values.keys() - {"id", *_TEXTS}}

    return other_values(first) == other_values(second)


def _with_captions(row: Row, other: Row) -> Row:
    values = {key: value for key, value in row.values.items() if key not in _TEXTS}
    texts = [text for each in (row, other) for text in _row_texts(each.values)]
    return replace(row, values=values | {"texts": texts})


def _row_texts(values: Values) -> list[Any]:
    text = values.get("text")
    return [*([] if text is None else [text]), *_as_list(values.get("texts"))]


def _with_id(row: Row, ids: set[bytes]) -> Row:
    """Return the row with its image's name as id; later rows of the image get another id."""
    name = _image_name(row)
    key = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
    if key in ids:
        return row
    ids.add(key)
    return replace(row, values={"id": name, **row.values})
