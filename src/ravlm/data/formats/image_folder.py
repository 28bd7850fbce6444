"""A folder of pictures, with those below it. Knows nothing of what is in a picture.

The id is the picture's path below the folder. Texts come from the .txt of the same name beside it
(boat.jpg, boat.txt): one text a line, empty lines skipped; without such a file there are none.
Names that begin with a dot are passed over."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ravlm.data.rows import Quarantined, Row
from ravlm.errors import NotFound

_NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}
_STARTS = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n",
    b"GIF8",
    b"BM",
    b"II*\x00",
    b"MM\x00*",
    b"\x00\x00\x00\x0cjP",
)


def recognises(path: Path, head: bytes) -> bool:
    """Whether `path` is a folder."""
    return path.is_dir()


def rows(path: Path) -> Iterator[Row | Quarantined]:
    """A row a picture, in the order of names. Raises NotFound where there is no picture at all."""
    suffixes, found = picture_suffixes(), False
    closed: list[OSError] = []
    for folder, below, names in os.walk(path, onerror=closed.append):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            picture = Path(folder, name)
            if name.startswith(".") or not _is_picture(picture, suffixes):
                continue
            found = True
            yield _row(picture, path)
    for error in closed:
        yield Quarantined(str(error.filename), f"The folder can't be read: {error.strerror}.")
    if not found and not closed:
        raise NotFound(
            f'The folder "{path}" has no pictures in it or below; name one that has, or a file of rows.'
        )


def picture_suffixes() -> frozenset[str]:
    """The suffixes, in small letters, of every format that Pillow reads."""
    from PIL import Image

    known = Image.registered_extensions().items()
    return frozenset(
        suffix for suffix, name in known if name in Image.OPEN and name not in _NO_PICTURES
    )


def begins_like_a_picture(head: bytes) -> bool:
    """Whether a file's first 16 bytes are those of a common picture format."""
    return (
        head.startswith(_STARTS)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"))
    )


def _is_picture(path: Path, suffixes: frozenset[str]) -> bool:
    suffix = path.suffix.lower()
    if suffix in suffixes:
        return True
    if suffix in (".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet"):
        return False
    try:
        with open(path, "rb") as file:
            return begins_like_a_picture(file.read(16))
    except OSError:
        return False


def _row(picture: Path, top: Path) -> Row | Quarantined:
    texts: list[str] = []
    beside = picture.with_suffix(".txt")
    if beside.is_file():
        try:
            texts = beside.read_text(encoding="utf-8-sig").splitlines()
        except (UnicodeDecodeError, OSError) as error:
            return Quarantined(
                str(beside), f"The texts of {picture.name} can't be read as UTF-8: {error}."
            )
    identity = picture.relative_to(top).as_posix()
    return Row(
        str(picture), {"id": identity, "image": str(picture.absolute()), "texts": texts}, top
    )
