"""Token files of Flickr8k and Flickr30k: lines of `name.jpg#0`, a tab, and a caption.

The captions of an image are consecutive lines. The file is UTF-8; images are located by
`find_image_folder`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ravlm.data.formats.locate_images import find_image_folder
from ravlm.data.lines import bounded_lines, too_long
from ravlm.data.rows import Quarantined, Row

_LINE = re.compile(r"(?P<image>[^\t]+)#\d+\t(?P<caption>.*)")


def recognizes(path: Path, head: bytes) -> bool:
    """Return whether the first line is an image name with a number, a tab and a caption."""
    first_line = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0]
    text = first_line.decode("utf-8", errors="replace").rstrip("\r")
    return _LINE.fullmatch(text) is not None


def read_rows(path: Path) -> Iterator[Row | Quarantined]:
    """Yield one row per image, with all its captions."""
    names = (line.image for line in _lines(path) if isinstance(line, _Caption))
    folder = find_image_folder(path, names)
    # A bad line forms a group of its own.
    groups = groupby(
        _lines(path), key=lambda line: line.image if isinstance(line, _Caption) else line
    )
    for _, lines in groups:
        line = next(lines)
        if isinstance(line, Quarantined):
            yield line
        else:
            texts = [line.text, *(item.text for item in lines if isinstance(item, _Caption))]
            values = {"id": line.image, "image": line.image, "texts": texts}
            yield Row(line.location, values, folder)


class _Caption(NamedTuple):
    location: str
    image: str
    text: str


def _lines(path: Path) -> Iterator[_Caption | Quarantined]:
    """Yield the captions of the file in order, and the lines that have none; skip empty lines."""
    with open(path, "rb") as file:
        for number, line in enumerate(bounded_lines(file), 1):
            location = f"{path}, line {number}"
            if line is None:
                yield Quarantined(location, too_long())
                continue
            try:
                text = line.decode("utf-8-sig").rstrip("\r\n")
            except UnicodeDecodeError as error:
                byte = f"byte {line[error.start]:#04x} at {error.start}"
                reason = f"The line is not UTF-8 ({byte}); save the file as UTF-8."
                yield Quarantined(location, reason)
                continue
            if match := _LINE.fullmatch(text):
                yield _Caption(location, match["image"], match["caption"])
            elif text.strip():
                reason = "The line does not have the form name.jpg#0, tab, caption."
                yield Quarantined(location, reason)
