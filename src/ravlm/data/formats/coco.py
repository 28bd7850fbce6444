"""COCO captions: a JSON object with the lists `images` (`id`, `file_name`) and `annotations`
(`image_id`, `caption`).

The file is parsed item by item, twice: first the captions, which are held in memory, then the
images. Every other key of an image is metadata. Images are located by `find_image_folder`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from ravlm.data.formats.locate_images import find_image_folder
from ravlm.data.lines import MAX_LINE
from ravlm.data.rows import CONTENT_KEYS, Quarantined, Row, entry_id
from ravlm.errors import BrokenData

_LISTS = ("images", "annotations")
_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:\s*\[)?')
_CHUNK = 1 << 20  # characters read at a time
_TAIL = 16  # a parse error this close to the end of the buffer means that the item continues


def recognizes(path: Path, head: bytes) -> bool:
    """Return whether the content is an object with one of the two lists.

    An object with a key of our own rows is the first row of a JSON Lines file instead. If neither
    is in `head`, because categories or licenses come first, the file is read up to the first list.
    """
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")
    if not text.lstrip().startswith("{"):
        return False
    keys, is_complete = _top_level_keys(text)
    if any(key in keys for key in (*CONTENT_KEYS, "file_name")):
        return False
    if any(keys.get(name) for name in _LISTS):
        return True
    return not is_complete and _has_list_further_on(path)


def _has_list_further_on(path: Path) -> bool:
    """Return whether the outermost object of the file has one of the two lists."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for parser, key in _members(file, path):
                if key in _LISTS:
                    return parser.peek() == "["
                if key in (*CONTENT_KEYS, "file_name"):
                    return False
                for _ in _values(parser):
                    pass
    except BrokenData:
        pass
    return False


def read_rows(path: Path) -> Iterator[Row | Quarantined]:
    """Yield one row per image, with all its captions.

    Raises BrokenData for a file that is truncated or not JSON.
    """
    captions: dict[str, list[str]] = {}
    num_others = 0  # boxes and outlines
    for location, item in _items(path, "annotations"):
        image_id = _id_text(item.get("image_id")) if isinstance(item, dict) else ""
        if not image_id:
            reason = "The annotation names no image; it must be an object with an image_id."
            yield Quarantined(location, reason)
        elif isinstance(item.get("caption"), str):
            captions.setdefault(image_id, []).append(item["caption"])
        elif "caption" in item:
            yield Quarantined(location, "The caption is not a string.")
        else:
            num_others += 1
    if num_others and not captions:
        reason = f"None of the {num_others:,} annotations has a caption; boxes are not read."
        yield Quarantined(f"{path}, annotations", reason, is_note=True)
    folder = find_image_folder(path, _file_names(path))
    for location, item in _items(path, "images"):
        yield _row(location, item, captions, folder)
    for image_id, texts in captions.items():
        number = f"{len(texts)} caption" + ("s" if len(texts) > 1 else "")
        reason = f"There is no image with the id {image_id}, which has {number}."
        yield Quarantined(f"{path}, annotations", reason)


def _row(
    location: str, item: Any, captions: dict[str, list[str]], folder: Path
) -> Row | Quarantined:
    """Return the row of an image, and remove its captions from `captions`."""
    if not isinstance(item, dict) or not isinstance(item.get("file_name"), str):
        return Quarantined(location, 'The image has no "file_name".')
    image_id = item.get("id")
    texts = captions.pop(_id_text(image_id), [])
    content = {"id": image_id, "image": item["file_name"], "texts": texts}
    reserved = ("id", "file_name", *CONTENT_KEYS)
    metadata = {name: value for name, value in item.items() if name not in reserved}
    return Row(location, content | metadata, folder)


def _id_text(value: Any) -> str:
    """Return an id of either list as text: one may have 7 where the other has "7"."""
    try:
        return entry_id(value)
    except BrokenData:
        return ""


def _file_names(path: Path) -> Iterator[str]:
    for _, item in _items(path, "images"):
        if isinstance(item, dict):
            yield str(item.get("file_name"))


def _top_level_keys(text: str) -> tuple[dict[str, bool], bool]:
    """Return the keys of the outermost object as far as `text` goes, and whether it ends there.

    The value of a key tells whether it is a list.
    """
    keys: dict[str, bool] = {}
    depth = position = 0
    while position < len(text):
        if text[position] == '"':
            match = _KEY.match(text, position)
            if match is None:
                break
            if depth == 1 and text[match.end(1) + 1 :].lstrip()[:1] == ":":
                keys.setdefault(match[1], match[2] is not None)
            position = match.end(1) + 1
            continue
        depth += (text[position] in "{[") - (text[position] in "}]")
        if depth == 0 and text[position] == "}":
            return keys, True
        position += 1
    return keys, False


def _items(path: Path, list_name: str) -> Iterator[tuple[str, Any]]:
    """Yield the items of one list, each with its location for messages."""
    with open(path, encoding="utf-8-sig") as file:
        for parser, key in _members(file, path):
            for number, item in enumerate(_values(parser), 1):
                if key == list_name:
                    yield f"{path}, {list_name} {number}", item


def _members(file: TextIO, path: Path) -> Iterator[tuple[_JsonParser, str]]:
    """Yield the keys of the outermost object; the caller reads each value from the parser."""
    parser = _JsonParser(file, path)
    parser.expect("{")
    while parser.peek() != "}":
        key = parser.value()
        parser.expect(":")
        yield parser, key
        parser.expect(",", closing="}")


def _values(parser: _JsonParser) -> Iterator[Any]:
    """Yield the items of the next value if it is a list, else the value."""
    if parser.peek() != "[":
        yield parser.value()
        return
    parser.expect("[")
    while parser.peek() != "]":
        yield parser.value()
        parser.expect(",", closing="]")
    parser.expect("]")


class _JsonParser:
    """Parse JSON values from a file one after another, with one chunk in memory."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._buffer = ""
        self._position = 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """Return the next character that is not white space."""
        while True:
            while self._position < len(self._buffer):
                if not self._buffer[self._position].isspace():
                    return self._buffer[self._position]
                self._position += 1
            self._require_more("it ends too early")

    def expect(self, character: str, closing: str = "") -> None:
        """Skip `character`. `closing`, the end of the list or object, is accepted as well."""
        actual = self.peek()
        if actual == character:
            self._position += 1
        elif actual != closing or not closing:
            self._fail(f'expected "{character}" but found "{actual}"')

    def value(self) -> Any:
        """Parse the next value."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                near_end = error.pos >= len(self._buffer) - _TAIL
                if not near_end and not error.msg.startswith("Unterminated"):
                    self._fail(str(error))
                self._require_more(str(error))
                continue
            except RecursionError:
                self._fail("it is nested too deeply")
            may_continue = end == len(self._buffer) and not isinstance(value, dict | list | str)
            if may_continue and self._read_chunk():
                continue  # a number may go on in the next chunk
            self._position = end
            return value

    def _read_chunk(self) -> bool:
        """Append the next chunk to the buffer. Return False at the end of the file."""
        try:
            chunk = self._file.read(_CHUNK)
        except UnicodeDecodeError as error:
            self._fail(f"{error}; save the file as UTF-8")
        self._buffer = self._buffer[self._position :] + chunk
        self._position = 0
        return bool(chunk)

    def _require_more(self, reason: str) -> None:
        if len(self._buffer) - self._position > MAX_LINE or not self._read_chunk():
            self._fail(reason)

    def _fail(self, reason: str) -> NoReturn:
        raise BrokenData(f'"{self._path}" begins like COCO captions but can\'t be read: {reason}.')
