"""WebDataset: a tar file, gzipped or not, or a folder of such shards.

Consecutive files with the same name up to the first dot form a sample: `0001.jpg`, `0001.txt` (one
text per line) and `0001.json` (an object with the keys of a JSON Lines row) become the entry
`0001`. If all have several dots (`scan.01.png`, `scan.02.png`), the last dot separates name and
type. An entry has one image: `0001.jpg` wins over `0001.depth.jpg`, and every further image is
rejected by name; a PDF counts as one and becomes an entry per page. Images are files of the shard
or web addresses, never paths outside of it. A shard is read sequentially, one sample in memory at a
time. Files of other types are left out and reported.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from ravlm.data.formats.image_folder import image_suffixes
from ravlm.data.formats.tar_stream import READ_ERRORS, TarStream, open_tar
from ravlm.data.images import DEFAULT_LIMITS, is_address
from ravlm.data.pdf import PDF_SUFFIX
from ravlm.data.rows import Quarantined, Row, text_lines
from ravlm.errors import BrokenData

_SHARD_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_TEXT_EXTENSIONS = ("txt", "text", "caption")
_MAX_FILES = 64
"""Files of one name that are held in memory to find out which dot separates name and type."""
_MAX_BYTES = {"image": DEFAULT_LIMITS.max_bytes, "text": 10_000_000}
_MAX_HELD_BYTES = 2 * DEFAULT_LIMITS.max_bytes
"""Bytes of files that are held for the same purpose."""
_MAX_EXTENSIONS = 1000
"""Extensions of files that are left out and reported."""


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
    """Yield one row per sample. Raises as `read_samples` does."""
    for row in read_samples(path):
        image = row.values.get("image") if isinstance(row, Row) else None
        if isinstance(image, str) and not is_address(image):
            reason = f'Its "image" is the path "{image[:200]}"; an image must be in the shard.'
            yield Quarantined(row.location, reason)
        else:
            yield row


def read_samples(path: Path) -> Iterator[Row | Quarantined]:
    """Yield one row per sample, with an image as bytes or as its JSON names it.

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
    suffixes = _image_suffixes()
    return any(file.suffix.lower() in suffixes for file in folder.iterdir())


def _image_suffixes() -> frozenset[str]:
    """Return the suffixes of images; the pages of a PDF are images, too."""
    return image_suffixes() | {PDF_SUFFIX}


def _rows_of_shard(path: Path) -> Iterator[Row | Quarantined]:
    unknown_extensions: set[str] = set()
    number = 0
    try:
        with open_tar(path) as tar:
            for row in _rows_of_tar(tar, path, unknown_extensions):
                number += 1
                yield row
    except READ_ERRORS as error:
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


@dataclass(frozen=True)
class _File:
    """A file of a shard. Its name is split twice: at the first dot and at the last one."""

    name: str
    content: bytes
    error: str

    @property
    def stem(self) -> str:
        """The name up to its first dot."""
        return _split_name(self.name)[0]

    @property
    def extension(self) -> str:
        """The part after the first dot, in lower case."""
        return _split_name(self.name)[1]

    @property
    def long_stem(self) -> str:
        """The name up to its last dot."""
        folder, slash, file = self.name.rpartition("/")
        return folder + slash + (file.rpartition(".")[0] or file)

    @property
    def type(self) -> str:
        """The part after the last dot, in lower case."""
        return self.extension.rpartition(".")[2]


def _rows_of_tar(
    tar: TarStream, path: Path, unknown_extensions: set[str]
) -> Iterator[Row | Quarantined]:
    """Yield the samples of an open tar file. `unknown_extensions` collects what is not read."""
    images = frozenset(suffix.removeprefix(".") for suffix in _image_suffixes())
    types = images | {*_TEXT_EXTENSIONS, "json"}
    members = _members(tar, types, unknown_extensions)
    for stem, group in groupby(members, key=lambda member: _split_name(member.name)[0]):
        files = (_read_file(tar, member, images) for member in group)
        for key, sample_files, has_plain in _samples(stem, files, images):
            sample = _TarSample(key, images, unknown_extensions, has_plain)
            for file in sample_files:
                sample.add(file)
            if sample.errors:
                yield Quarantined(f"{path}, {key}", sample.errors[0])
            elif sample.values:
                yield Row(f"{path}, {key}", sample.row(), path.parent)
            for name in sample.other_images:
                reason = f'"{key}" has another image, and an entry has one; it was left out.'
                yield Quarantined(f"{path}, {name}", reason)


def _members(
    tar: TarStream, types: frozenset[str], unknown_extensions: set[str]
) -> Iterator[tarfile.TarInfo]:
    """Yield the visible files of the known types, without reading them."""
    for member in tar:
        stem, extension = _split_name(member.name)
        if not member.isfile() or _is_hidden(stem):
            continue
        if extension.rpartition(".")[2] in types:
            yield member
        elif len(unknown_extensions) < _MAX_EXTENSIONS:
            unknown_extensions.add(extension)


def _read_file(tar: TarStream, member: tarfile.TarInfo, images: frozenset[str]) -> _File:
    name = member.name.removeprefix("./")
    is_image = _split_name(name)[1].rpartition(".")[2] in images
    limit = _MAX_BYTES["image" if is_image else "text"]
    if member.size > limit:
        size = f'"{member.name}" has {member.size:,} bytes'
        return _File(name, b"", f"{size}; at most {limit:,} are read.")
    return _File(name, tar.read(member), "")


def _samples(
    stem: str, group: Iterable[_File], images: frozenset[str]
) -> Iterator[tuple[str, Iterable[_File], bool]]:
    """Yield key, files, and whether a file has a plain extension, of each sample of one stem.

    There is one if a file has a single dot (0001.depth.png and 0001.txt), or if there is at most
    one image to go with the texts. Else the last dot separates.
    """
    files: list[_File] = []
    rest = iter(group)
    has_plain = is_cut = False
    num_bytes = 0
    for file in rest:
        files.append(file)
        num_bytes += len(file.content)
        has_plain = "." not in file.extension
        is_cut = len(files) == _MAX_FILES or num_bytes > _MAX_HELD_BYTES
        if has_plain or is_cut:
            break
    is_sample = has_plain
    if not is_sample and not is_cut:
        stems = {file.long_stem for file in files}
        is_sample = len(stems) > 1 and sum(file.type in images for file in files) < 2
    if is_sample:
        yield stem, chain(files, rest), has_plain
        return
    for key, members in groupby(chain(files, rest), key=lambda file: file.long_stem):
        yield key, members, True


class _TarSample:
    """The files of one entry, collected as they are read."""

    def __init__(
        self, key: str, images: frozenset[str], unknown_extensions: set[str], has_plain: bool
    ) -> None:
        """`unknown_extensions` collects the extensions that are not read.

        With `has_plain`, texts of compound extensions (0001.labels.txt) are among them.
        """
        self.values: dict[str, Any] = {}
        self.errors: list[str] = []
        self.other_images: list[str] = []
        self._key = key
        self._images = images
        self._unknown_extensions = unknown_extensions
        self._has_plain = has_plain
        self._image: _File | None = None
        self._text_bytes = 0

    def add(self, file: _File) -> None:
        """Add a file. Of several images, the first with a plain extension counts, or the first."""
        if file.type in self._images:
            self._add_image(file)
        elif self._has_plain and not self._is_plain(file):
            self._unknown_extensions.add(file.extension)
        elif file.error:
            self.errors.append(file.error)
        elif file.type == "json":
            self._add_json(file)
        else:
            self._add_text(file)

    def row(self) -> dict[str, Any]:
        """Return the values of the row: a file of its own takes precedence over a JSON key."""
        values = dict(self.values)
        row: dict[str, Any] = {"id": self._key, **values.pop("json", {})}
        if "texts" in values:
            row.pop("text", None)
        return row | values

    def _is_plain(self, file: _File) -> bool:
        return file.name[len(self._key) :].count(".") == 1

    def _add_image(self, file: _File) -> None:
        image = self._image
        if image is not None and (self._is_plain(image) or not self._is_plain(file)):
            self.other_images.append(file.name)
            return
        if image is not None:
            self.other_images.append(image.name)
            self.errors = [error for error in self.errors if error != image.error]
        self._image = file
        if file.error:
            self.errors.append(file.error)
        self.values["image"] = file.content

    def _add_text(self, file: _File) -> None:
        self._text_bytes += len(file.content)
        if self._text_bytes > _MAX_BYTES["text"]:
            self.errors = [f"Its texts have more than {_MAX_BYTES['text']:,} bytes."]
            self.values.pop("texts", None)
            return
        try:
            lines = text_lines(file.content.decode("utf-8-sig"))
        except ValueError as error:
            self.errors.append(f"The .{file.type} can't be read as text in UTF-8: {error}.")
        else:
            self.values.setdefault("texts", []).extend(lines)

    def _add_json(self, file: _File) -> None:
        if "json" in self.values:
            self._unknown_extensions.add(file.extension)
            return
        try:
            parsed = json.loads(file.content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            self.errors.append(f"The .json can't be read as JSON in UTF-8: {error}.")
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
