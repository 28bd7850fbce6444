"""A base as plain files, or as WebDataset shards, with the vectors beside, so that nothing has to
be encoded again.

    entries.jsonl, pictures/   a row for each entry, as `read_entries` reads it too; copies named by
    content; or else 00000.tar, 00001.tar ...   the same rows as JSON, each with its picture, as
    `read_entries` and others read them parts.jsonl   a row for each part, in the order of
    vectors.npy   float16 (parts, dim) manifest.json   encoder, fingerprint, dimensions

Knows the store's rows; what reads it back is `importing`.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import zlib
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ravlm.data.formats.image_folder import image_suffixes
from ravlm.data.images import is_address
from ravlm.errors import InvalidInput, did_you_mean
from ravlm.files import atomic_write
from ravlm.knowledge.backend import Rows
from ravlm.knowledge.images import FOLDER
from ravlm.knowledge.records import EntryRow, Identity
from ravlm.knowledge.reports import ExportReport

Form = Literal["files", "webdataset"]
FORMAT = 1
ENTRIES, PARTS, VECTORS, MANIFEST = "entries.jsonl", "parts.jsonl", "vectors.npy", "manifest.json"
KEYS = ("id", "image", "text", "texts", "metadata")
"""Keys of a row that are not metadata."""
SHARD = 10_000
"""Entries in a shard."""


def export(
    rows: Rows, identity: Identity, target: Path, form: Form = "files", shard: int = SHARD
) -> ExportReport:
    """Write the base to the folder `target`, whole or not at all. A picture that is gone is named
    in the report."""
    if form not in get_args(Form):
        raise InvalidInput(
            f'form is "{form}"; allowed: {", ".join(get_args(Form))}.{did_you_mean(form, get_args(Form))}'
        )
    if shard < 1:
        raise InvalidInput(f"shard is {shard}; a number of entries from 1 on is needed.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidInput(f'"{target}" is there already; name a new folder to export to.')
    with atomic_write(target) as folder, ExitStack() as files:
        folder.mkdir(parents=True)
        entries: _Entries = (
            _Files(folder, files) if form == "files" else _Shards(folder, files, shard)
        )
        parts = _Parts(folder, files, identity.dim)
        count = 0
        missing: list[str] = []
        for row in rows.rows():
            if not entries.write(row):
                missing.append(str(row.image))
            parts.write(row)
            count += 1
        parts.finish()
        manifest = {"format": FORMAT, "form": form, "parts": parts.count, **asdict(identity)}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return ExportReport(count, parts.count, tuple(missing))


class _Entries(ABC):
    """Where entries with their pictures go."""

    @abstractmethod
    def write(self, row: EntryRow) -> bool:
        """Write an entry; whether its picture, if it has one in a file, could be copied."""


class _Files(_Entries):
    """Rows of JSON, and a folder of pictures."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        self.folder = folder
        (folder / FOLDER).mkdir()
        self.lines = files.enter_context(open(folder / ENTRIES, "w", encoding="utf-8"))  # noqa: SIM115

    def write(self, row: EntryRow) -> bool:
        """Write an entry; whether its picture, if it has one in a file, could be copied."""
        image, copied = row.image, True
        if image is not None and not is_address(image):
            name = row.image_hash or hashlib.sha256(image.encode()).hexdigest()
            target = self.folder / FOLDER / f"{name}{Path(image).suffix.lower()}"
            try:
                if not target.exists():
                    shutil.copyfile(image, target)
                image = f"{FOLDER}/{target.name}"
            except OSError:
                copied = False
        self.lines.write(json.dumps(_values(row, image), ensure_ascii=False) + "\n")
        return copied


class _Shards(_Entries):
    """Tar files of `shard` entries each."""

    def __init__(self, folder: Path, files: ExitStack, shard: int) -> None:
        self.folder, self.shard, self.count = folder, shard, 0
        self.open = files.enter_context(ExitStack())
        self._next()

    def write(self, row: EntryRow) -> bool:
        if self.count and self.count % self.shard == 0:
            self._next()
        key, image, picture = f"{self.count:09}", row.image, None
        if image is not None and not is_address(image):
            try:
                picture, image = Path(image).read_bytes(), None
            except OSError:
                picture = None
        self._add(f"{key}.json", json.dumps(_values(row, image), ensure_ascii=False).encode())
        if picture is not None:
            suffix = Path(
                str(row.image)
            ).suffix.lower()  # readers take a file for a picture by it, and look inside
            self._add(f"{key}{suffix if suffix in image_suffixes() else '.jpg'}", picture)
        self.count += 1
        return image is None or is_address(image)

    def _next(self) -> None:
        self.open.close()
        name = self.folder / f"{self.count // self.shard:05}.tar"
        self.tar = self.open.enter_context(tarfile.open(name, "w"))  # noqa: SIM115

    def _add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self.tar.addfile(member, io.BytesIO(content))


class _Parts:
    """Rows of JSON for the parts, and a file of their vectors, whose header is written when their
    number is known."""

    def __init__(self, folder: Path, files: ExitStack, dim: int) -> None:
        self.dim, self.count = dim, 0
        self.lines = files.enter_context(open(folder / PARTS, "w", encoding="utf-8"))  # noqa: SIM115
        self.vectors = files.enter_context(open(folder / VECTORS, "wb"))  # noqa: SIM115
        self._header()

    def write(self, row: EntryRow) -> None:
        """The parts of an entry."""
        for part in row.parts:
            self.vectors.write(part.vector)
            values = {
                "entry": row.id, "modality": part.modality, "position": part.position, "passage": part.passage,
                "given": part.precomputed, "checksum": zlib.crc32(part.vector),
            }  # fmt: skip
            self.lines.write(json.dumps(values, ensure_ascii=False) + "\n")
        self.count += len(row.parts)

    def finish(self) -> None:
        """Tell how many there are."""
        self.vectors.seek(0)
        self._header()

    def _header(self) -> None:
        """Numpy leaves room in it for any number of rows."""
        shape = (self.count, self.dim)
        np.lib.format.write_array_header_1_0(
            self.vectors, {"descr": "<f2", "fortran_order": False, "shape": shape}
        )


def _values(row: EntryRow, image: str | None) -> dict[str, Any]:
    """An entry as a row of a source. Its other keys are metadata; where one has the name of a key
    of its own, all go under one."""
    values = (
        {"id": row.id}
        | ({"image": image} if image is not None else {})
        | {"texts": json.loads(row.texts)}
    )
    metadata = json.loads(row.metadata)
    return values | ({"metadata": metadata} if metadata.keys() & set(KEYS) else metadata)
