"""WebDataset: a tar file, gzipped or not, or a folder of such shards.

Consecutive files with the same name up to the extension form a sample: `0001.jpg`, `0001.txt` (one
text per line) and `0001.json` (an object with the keys of a JSON Lines row) become the entry
`0001`. A shard is read sequentially, one sample in memory at a time. Files of other types are left
out and reported.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from ravlm.data.formats.image_folder import image_suffixes
from ravlm.data.images import DEFAULT_LIMITS
from ravlm.data.rows import Quarantined, Row
from ravlm.errors import BrokenData

_SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_TEXT_EXTENSIONS = ("txt", "text", "caption")
_MAX_BYTES = {"image": DEFAULT_LIMITS.max_bytes, "text": 10_000_000}
_READ_ERRORS = (tarfile.TarError, OSError, EOFError, zlib.error)


def recognizes(path: Path, head: bytes) -> bool:
    """Return whether `path` is a tar file, or a folder with shards and without images."""
    if path.is_dir():
        return bool(_shards(path)) and not _has_images(path)
    if head.startswith(b"\x1f\x8b"):  # gzip
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 512)
        except zlib.error:
            return False
    return head[257:262] == b"ustar"


def read_rows(path: Path) -> Iterator[Row | Quarantined]:
    """Yield one row per sample.

    A shard that is damaged in the middle gives the samples before the damage. Raises BrokenData for
    a file of which nothing can be read.
    """
    if not path.is_dir():
        yield from _rows_of_shard(path)
        return
    for shard in _shards(path):
        try:
            yield from _rows_of_shard(shard)
        except BrokenData as error:
            yield Quarantined(str(shard), str(error))


def _shards(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.name.endswith(_SHARD_SUFFIXES) and not file.name.startswith(".")
    )


def _has_images(folder: Path) -> bool:
    suffixes = image_suffixes()
    return any(file.suffix.lower() in suffixes for file in folder.iterdir())


def _rows_of_shard(path: Path) -> Iterator[Row | Quarantined]:
    unknown_extensions: set[str] = set()
    number = 0
    try:
        with tarfile.open(path, "r|*") as tar:
            for row in _rows_of_tar(tar, path, unknown_extensions):
                number += 1
                yield row
    except _READ_ERRORS as error:
        if number == 0:
            raise BrokenData(
                f'"{path}" begins like a tar file but can\'t be read: {error}; write it again.'
            ) from None
        reason = f"It can't be read after its first {number} samples: {error}; write it again."
        yield Quarantined(str(path), reason)
    else:
        if not _has_end_marker(path):
            reason = f"It may be truncated after its {number} samples: its end marker is missing."
            yield Quarantined(str(path), f"{reason} Write it again.")
    for extension in sorted(unknown_extensions):
        reason = "Files of this type are not images, texts or JSON; they were left out."
        yield Quarantined(f"{path}, .{extension}", reason)


def _rows_of_tar(
    tar: tarfile.TarFile, path: Path, unknown_extensions: set[str]
) -> Iterator[Row | Quarantined]:
    """Yield the samples of an open tar file. `unknown_extensions` collects what is not read."""
    members = ((*_split_name(member.name), member) for member in tar if member.isfile())
    visible = (member for member in members if not _is_hidden(member[0]))
    image_extensions = frozenset(suffix.removeprefix(".") for suffix in image_suffixes())
    for key, files in groupby(visible, key=lambda member: member[0]):
        sample = _TarSample(image_extensions, unknown_extensions)
        for _, extension, member in files:
            sample.read(tar, extension, member)
        location = f"{path}, {key}"
        if sample.errors:
            yield Quarantined(location, sample.errors[0])
        elif sample.values:
            yield Row(location, sample.row(key), path.parent)


class _TarSample:
    """The files of one name, collected as they are read."""

    def __init__(self, image_extensions: frozenset[str], unknown_extensions: set[str]) -> None:
        """`unknown_extensions` collects the extensions that are not read."""
        self.values: dict[str, Any] = {}
        self.errors: list[str] = []
        self._image_extensions = image_extensions
        self._unknown_extensions = unknown_extensions

    def read(self, tar: tarfile.TarFile, extension: str, member: tarfile.TarInfo) -> None:
        """Read one file. Only the first image of a sample is kept."""
        is_image = extension.rsplit(".", 1)[-1] in self._image_extensions
        limit = _MAX_BYTES["image" if is_image else "text"]
        if not is_image and extension not in (*_TEXT_EXTENSIONS, "json"):
            self._unknown_extensions.add(extension)
        elif member.size > limit:
            size = f'"{member.name}" has {member.size:,} bytes'
            self.errors.append(f"{size}; at most {limit:,} are read.")
        elif not is_image or "image" not in self.values:
            file = tar.extractfile(member)
            assert file is not None  # it is a regular file
            content = file.read()
            if is_image:
                self.values["image"] = content
            else:
                self._add_text(extension, content)

    def row(self, key: str) -> dict[str, Any]:
        """Return the values of the row: a file of its own takes precedence over a JSON key."""
        values = dict(self.values)
        row: dict[str, Any] = {"id": key, **values.pop("json", {})}
        if "texts" in values:
            row.pop("text", None)
        return row | values

    def _add_text(self, extension: str, content: bytes) -> None:
        try:
            text = content.decode("utf-8-sig")
            if extension != "json":
                self.values.setdefault("texts", []).extend(text.splitlines())
                return
            parsed = json.loads(text)
        except (ValueError, RecursionError) as error:
            kind = "JSON" if extension == "json" else "text"
            self.errors.append(f"The .{extension} can't be read as {kind} in UTF-8: {error}.")
            return
        if isinstance(parsed, dict):
            self.values["json"] = parsed
        else:
            kind = type(parsed).__name__
            self.errors.append(f"The .json is of type {kind}; it must be an object with keys.")


def _has_end_marker(path: Path) -> bool:
    """Return whether a shard ends with two empty blocks. A gzipped one checks its own end."""
    with open(path, "rb") as file:
        is_gzipped = file.read(2) == b"\x1f\x8b"
        file.seek(max(0, path.stat().st_size - 1024))
        return is_gzipped or not any(file.read())


def _split_name(name: str) -> tuple[str, str]:
    """Return the key of the sample, and the extension (after the first dot) in lower case."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension.lower()


def _is_hidden(key: str) -> bool:
    return key.rpartition("/")[2] in ("", "._")
