"""COCO's captions: a JSON object with the lists `images` (`id`, `file_name`) and `annotations`
(`image_id`, `caption`).

Read item by item, twice: first the captions, which are held, then the images. Every other key of an
image is metadata. Knows no picture folder: see `beside`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

from ravlm.data.formats.locate_images import folder_of_pictures
from ravlm.data.rows import CONTENT, Quarantined, Row
from ravlm.errors import BrokenData

_LISTS = ("images", "annotations")
_KEY = re.compile(r'"((?:[^"\\]|\\.)*)"(\s*:\s*\[)?')
_PIECE = 1 << 20  # characters read at a time
_LONGEST = 1 << 28  # of one item
_CUT = 16  # an error so near to the end of what was read means that the item goes on


def recognises(path: Path, head: bytes) -> bool:
    """Whether the content is an object with one of the two lists, and no row of our own keys."""
    keys = _keys(head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace"))
    return any(keys.get(name) for name in _LISTS) and not any(
        key in keys for key in (*CONTENT, "file_name")
    )


def rows(path: Path) -> Iterator[Row | Quarantined]:
    """A row an image, with all its captions. Raises BrokenData for a file that ends too early or is
    no JSON."""
    captions: dict[int | str, list[str]] = {}
    for place, item in _items(path, "annotations"):
        image = item.get("image_id") if isinstance(item, dict) else None
        if not isinstance(image, int | str):
            yield Quarantined(
                place, "The annotation names no image: it needs an object with a number image_id."
            )
        elif isinstance(item.get("caption"), str):
            captions.setdefault(image, []).append(item["caption"])
        elif "caption" in item:  # without one it is a box or an outline
            yield Quarantined(place, "The caption is no string.")
    folder = folder_of_pictures(path, _names(path))
    for place, item in _items(path, "images"):
        if not isinstance(item, dict) or not isinstance(item.get("file_name"), str):
            yield Quarantined(place, 'The image has no "file_name".')
        else:
            key = item.get("id")
            texts = captions.pop(key, []) if isinstance(key, int | str) else []
            more = {
                name: value
                for name, value in item.items()
                if name not in ("id", "file_name", *CONTENT)
            }
            yield Row(
                place, {"id": key, "image": item["file_name"], "texts": texts, **more}, folder
            )
    for key, texts in captions.items():
        many = f"{len(texts)} caption" + ("s" if len(texts) > 1 else "")
        yield Quarantined(
            f"{path}, annotations", f"There is no image with the id {key!r}, which has {many}."
        )


def _names(path: Path) -> Iterator[str]:
    for _, item in _items(path, "images"):
        if isinstance(item, dict):
            yield str(item.get("file_name"))


def _keys(text: str) -> dict[str, bool]:
    """The keys of the outermost object as far as `text` goes, and whether the value of each is a
    list."""
    found: dict[str, bool] = {}
    depth = at = 0
    while at < len(text):
        if text[at] == '"':
            match = _KEY.match(text, at)
            if match is None:
                break
            if depth == 1 and text[match.end(1) + 1 :].lstrip()[:1] == ":":
                found.setdefault(match[1], match[2] is not None)
            at = match.end(1) + 1
            continue
        depth += (text[at] in "{[") - (text[at] in "}]")
        if depth == 0 and text[at] == "}":
            break
        at += 1
    return found


def _items(path: Path, wanted: str) -> Iterator[tuple[str, Any]]:
    """The items of the list `wanted`, each with its place for messages."""
    with open(path, encoding="utf-8-sig") as file:
        source = _Source(file, path)
        source.take("{")
        while source.peek() != "}":
            key = source.value()
            source.take(":")
            if source.peek() == "[":
                source.take("[")
                number = 0
                while source.peek() != "]":
                    number += 1
                    item = source.value()
                    if key == wanted:
                        yield f"{path}, {wanted} {number}", item
                    source.take(",", before="]")
                source.take("]")
            else:
                source.value()
            source.take(",", before="}")


class _Source:
    """JSON values out of a file, one after another, a piece of it in memory."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self._file, self._path, self._text, self._at = file, path, "", 0
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no white space."""
        while True:
            while self._at < len(self._text):
                if not self._text[self._at].isspace():
                    return self._text[self._at]
                self._at += 1
            self._more("it ends too early")

    def take(self, character: str, before: str = "") -> None:
        """Pass over `character`; what closes the list or object, `before`, may stand in its
        place."""
        found = self.peek()
        if found == character:
            self._at += 1
        elif found != before or not before:
            self._refuse(f'"{character}" is expected where "{found}" stands')

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if error.pos < len(self._text) - _CUT and not error.msg.startswith("Unterminated"):
                    self._refuse(str(error))
                self._more(str(error))
                continue
            except RecursionError:
                self._refuse("it is nested too deep")
            if end == len(self._text) and not isinstance(value, dict | list | str) and self._grow():
                continue  # a number may go on in the next piece
            self._at = end
            return value

    def _grow(self) -> bool:
        try:
            piece = self._file.read(_PIECE)
        except UnicodeDecodeError as error:
            self._refuse(f"{error}; save the file as UTF-8")
        self._text, self._at = self._text[self._at :] + piece, 0
        return bool(piece)

    def _more(self, reason: str) -> None:
        if len(self._text) - self._at > _LONGEST or not self._grow():
            self._refuse(reason)

    def _refuse(self, reason: str) -> NoReturn:
        raise BrokenData(
            f"\"{self._path}\" begins like COCO's captions and can't be read: {reason}."
        )
