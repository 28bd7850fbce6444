"""Token files of Flickr8k and Flickr30k: `name.jpg#0`, a tab, a caption; the captions of a picture
follow one another.

UTF-8. Knows no picture folder: see `beside`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from ravlm.data.formats.locate_images import folder_of_pictures
from ravlm.data.rows import Quarantined, Row

_LINE = re.compile(r"(?P<image>[^\t]+)#\d+\t(?P<caption>.*)")


def recognises(path: Path, head: bytes) -> bool:
    """Whether the first line is a picture's name with a number, and a caption."""
    first = (
        head.removeprefix(b"\xef\xbb\xbf")
        .split(b"\n", 1)[0]
        .decode("utf-8", errors="replace")
        .rstrip("\r")
    )
    return _LINE.fullmatch(first) is not None


def rows(path: Path) -> Iterator[Row | Quarantined]:
    """A row a picture, with all its captions."""
    folder = folder_of_pictures(path, (image for _, image, _ in _lines(path) if image))
    for image, lines in groupby(_lines(path), key=lambda line: line[1] or line[0]):
        number, name, caption = next(lines)
        place = f"{path}, line {number}"
        if name is None:
            yield Quarantined(place, caption)
        else:
            texts = [caption, *(caption for _, _, caption in lines)]
            yield Row(place, {"id": image, "image": image, "texts": texts}, folder)


def _lines(path: Path) -> Iterator[tuple[int, str | None, str]]:
    """(line number, picture's name, caption); without a name the reason why there is none. Empty
    lines are skipped."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig").rstrip("\r\n")
            except UnicodeDecodeError as error:
                place = f"byte {line[error.start]:#04x} at {error.start}"
                yield number, None, f"The line is not UTF-8 ({place}); save the file as UTF-8."
                continue
            if match := _LINE.fullmatch(text):
                yield number, match["image"], match["caption"]
            elif text.strip():
                yield number, None, "The line is not of the form name.jpg#0, tab, caption."
