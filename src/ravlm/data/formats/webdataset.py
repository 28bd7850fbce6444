"""WebDataset: a tar file, gzipped or not, or a folder of such shards; files of one name but for the
ending are a row.

`0001.jpg`, `0001.txt` (a text a line) and `0001.json` (an object: keys as in a JSON lines file)
give the entry `0001`. Read from the front to the end, a sample at a time. Files of other kinds are
left out, and said so."""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from ravlm.data.formats.image_folder import picture_suffixes
from ravlm.data.images import DEFAULT_LIMITS
from ravlm.data.rows import Quarantined, Row
from ravlm.errors import BrokenData

_ENDINGS = (".tar", ".tar.gz", ".tgz")
_TEXTS = ("txt", "text", "caption")
_MOST = {"picture": DEFAULT_LIMITS.max_bytes, "text": 10_000_000}
_BROKEN = (tarfile.TarError, OSError, EOFError, zlib.error)


def recognises(path: Path, head: bytes) -> bool:
    """Whether the content is a tar file, or `path` is a folder with shards and no other files that
    could be rows."""
    if path.is_dir():
        return bool(_shards(path)) and not any(
            file.suffix.lower() in picture_suffixes() for file in path.iterdir()
        )
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, 512)
        except zlib.error:
            return False
    return head[257:262] == b"ustar"


def rows(path: Path) -> Iterator[Row | Quarantined]:
    """A row a sample. Raises BrokenData for a file of which nothing can be read; else a fault costs
    its rest."""
    if not path.is_dir():
        yield from _samples(path)
        return
    for shard in _shards(path):
        try:
            yield from _samples(shard)
        except BrokenData as error:
            yield Quarantined(str(shard), str(error))


def _shards(folder: Path) -> list[Path]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.name.endswith(_ENDINGS) and not file.name.startswith(".")
    )


def _samples(path: Path) -> Iterator[Row | Quarantined]:
    suffixes = {suffix.removeprefix(".") for suffix in picture_suffixes()}
    left_out: set[str] = set()
    number = 0
    try:
        with tarfile.open(path, "r|*") as tar:
            members = ((*_split(member.name), member) for member in tar if member.isfile())
            for key, parts in groupby(
                ((k, e, m) for k, e, m in members if not _hidden(k)), key=lambda part: part[0]
            ):
                values: dict[str, Any] = {}
                refused: list[str] = []
                for _, ending, member in parts:
                    kind = "picture" if ending.rsplit(".", 1)[-1] in suffixes else "text"
                    if kind == "text" and ending not in (*_TEXTS, "json"):
                        left_out.add(ending)
                    elif member.size > _MOST[kind]:
                        refused.append(
                            f'"{member.name}" has {member.size:,} bytes; at most {_MOST[kind]:,} are read.'
                        )
                    elif "image" not in values or kind == "text":
                        content = tar.extractfile(member)
                        assert content is not None  # of a file it never is
                        refused += _take(values, kind, ending, content.read())
                if not values and not refused:
                    continue
                number += 1
                place = f"{path}, {key}"
                yield (
                    Quarantined(place, refused[0])
                    if refused
                    else Row(place, _row(key, values), path.parent)
                )
    except _BROKEN as error:
        if number == 0:
            raise BrokenData(
                f'"{path}" begins like a tar file and can\'t be read: {error}; write it again.'
            ) from None
        yield Quarantined(
            str(path),
            f"It can't be read beyond its {number} first samples: {error}; write it again.",
        )
    else:
        if not _ends(path):
            yield Quarantined(
                str(path),
                f"It has no end: it may be cut behind its {number} samples; write it again.",
            )
    for ending in sorted(left_out):
        reason = (
            "Files of this kind are no picture, text or JSON; they are left out, the rows are kept."
        )
        yield Quarantined(f"{path}, .{ending}", reason)


def _ends(path: Path) -> bool:
    """Whether the shard has the two empty blocks of a tar file's end; gzip itself sees to its
    own."""
    with open(path, "rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(max(0, path.stat().st_size - 1024))
        return zipped or not any(file.read())


def _split(name: str) -> tuple[str, str]:
    """The sample's key and the ending in small letters: all behind the first stop of the file's own
    name."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, ending = file.partition(".")
    return folder + slash + stem, ending.lower()


def _hidden(key: str) -> bool:
    return key.rpartition("/")[2] in ("", "._")


def _take(values: dict[str, Any], kind: str, ending: str, content: bytes) -> list[str]:
    """Put a file's content into the sample's values; the reason where it can't be."""
    if kind == "picture":
        values["image"] = content
        return []
    try:
        text = content.decode("utf-8-sig")
        if ending != "json":
            values.setdefault("texts", []).extend(text.splitlines())
            return []
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return [
            f"The .{ending} can't be read as {'JSON' if ending == 'json' else 'text'} in UTF-8: {error}."
        ]
    if not isinstance(found, dict):
        return [f"The .json is of type {type(found).__name__}; an object with keys is needed."]
    values["json"] = found
    return []


def _row(key: str, values: dict[str, Any]) -> dict[str, Any]:
    """Values of a row: what has a file of its own comes before what the JSON says."""
    row: dict[str, Any] = {"id": key, **values.pop("json", {})}
    if "texts" in values:
        row.pop("text", None)
    return row | values
