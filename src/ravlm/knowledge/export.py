"""Export a base as plain files or WebDataset shards, with its vectors, so that nothing has to be
encoded again.

    entries.jsonl, pictures/   one row per entry, readable by `read_entries`; images by content
    00000.tar, 00001.tar ...   or: the same rows as JSON, each with its image (WebDataset)
    parts.jsonl                one row per part, in the order of the vectors
    vectors.npy                float16 (parts, dim)
    tokens.npy                 float16 (tokens, dim): of the parts of a multi-vector encoder
    manifest.json              encoder, fingerprint, dimensions

`import_` reads it back.
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
from ravlm.data.images import image_bytes, is_address
from ravlm.data.pdf import is_page, page_path, split_page_path
from ravlm.errors import InvalidInput, RavlmError, did_you_mean
from ravlm.files import atomic_write
from ravlm.knowledge.entry_store import EntryStore, to_entry
from ravlm.knowledge.images import FOLDER
from ravlm.knowledge.records import EntryRow, Identity
from ravlm.knowledge.reports import ExportReport

ExportForm = Literal["files", "webdataset"]
FORMAT = 1
ENTRIES = "entries.jsonl"
PARTS = "parts.jsonl"
VECTORS = "vectors.npy"
TOKENS = "tokens.npy"
MANIFEST = "manifest.json"
RESERVED_KEYS = ("id", "image", "text", "texts", "metadata")
"""Keys of a row that are not metadata. Nor is "regions", unless it holds something else: see
`take_regions`."""
SHARD_SIZE = 10_000
"""Entries per tar file."""


def export(
    store: EntryStore,
    identity: Identity,
    target: Path,
    form: ExportForm = "files",
    shard_size: int = SHARD_SIZE,
) -> ExportReport:
    """Write the base to the new folder `target`, completely or not at all.

    Images that no longer exist are listed in the report. Raises InvalidInput if the folder is not
    empty or an option is not allowed.
    """
    _check_options(target, form, shard_size)
    num_entries = 0
    missing: list[str] = []
    with atomic_write(target) as folder, ExitStack() as files:
        folder.mkdir(parents=True)
        entries: _EntryWriter
        if form == "files":
            entries = _FileWriter(folder, files)
        else:
            entries = _ShardWriter(folder, files, shard_size)
        parts = _PartWriter(folder, files, identity)
        for row in store.rows():
            if not entries.write(row):
                missing.append(str(row.image))
            parts.write(row)
            num_entries += 1
        parts.finish()
        counts = {"parts": parts.count, "tokens": parts.num_tokens}
        manifest = {"format": FORMAT, "form": form, **counts, **asdict(identity)}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return ExportReport(num_entries, parts.count, tuple(missing))


def _check_options(target: Path, form: str, shard_size: int) -> None:
    if form not in get_args(ExportForm):
        allowed = ", ".join(get_args(ExportForm))
        hint = did_you_mean(form, get_args(ExportForm))
        raise InvalidInput(f'form is "{form}"; allowed: {allowed}.{hint}')
    if shard_size < 1:
        raise InvalidInput(f"shard is {shard_size}; give a number of entries, at least 1.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidInput(f'"{target}" exists already; name a new folder for the export.')


class _EntryWriter(ABC):
    """Writes entries with their images."""

    @abstractmethod
    def write(self, row: EntryRow) -> bool:
        """Write an entry. Return False if its image file no longer exists."""


class _FileWriter(_EntryWriter):
    """Writes JSON lines and a folder of images."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        self.folder = folder
        (folder / FOLDER).mkdir()
        self.lines = files.enter_context(open(folder / ENTRIES, "w", encoding="utf-8"))  # noqa: SIM115

    def write(self, row: EntryRow) -> bool:
        """Write an entry. Return False if its image file no longer exists."""
        image = row.image
        is_copied = True
        if image is not None and not is_address(image):
            copied = self._copy(image, row.image_hash)
            is_copied = copied is not None
            image = copied or image
        self.lines.write(json.dumps(_source_row(row, image), ensure_ascii=False) + "\n")
        return is_copied

    def _copy(self, image: str, image_hash: str | None) -> str | None:
        """Copy the file of an image, a PDF once for all its pages.

        Return the path in the export, or None if the file no longer exists.
        """
        location = split_page_path(image)
        file = image if location is None else location[0]
        name = image_hash if location is None and image_hash else _hash(file)
        target = self.folder / FOLDER / f"{name}{Path(file).suffix.lower()}"
        if not target.exists():
            try:
                source = open(file, "rb")  # noqa: SIM115
            except OSError:
                return None
            with source, open(target, "wb") as copy:  # a full disk is no missing image
                shutil.copyfileobj(source, copy)
        reference = f"{FOLDER}/{target.name}"
        return reference if location is None else page_path(reference, location[1])


class _ShardWriter(_EntryWriter):
    """Writes tar files of `shard_size` entries each."""

    def __init__(self, folder: Path, files: ExitStack, shard_size: int) -> None:
        self.folder = folder
        self.shard_size = shard_size
        self.count = 0
        self.current = files.enter_context(ExitStack())
        self._start_shard()

    def write(self, row: EntryRow) -> bool:
        """Write an entry. Return False if its image file no longer exists."""
        if self.count and self.count % self.shard_size == 0:
            self._start_shard()
        key = f"{self.count:09}"
        self.count += 1
        data = _read_file(row.image)
        image = row.image if data is None else None  # an image in the shard needs no reference
        self._add(f"{key}.json", json.dumps(_source_row(row, image), ensure_ascii=False).encode())
        if data is not None:
            # readers recognize an image by its suffix, then by its content
            suffix = ".png" if is_page(row.image) else Path(str(row.image)).suffix.lower()
            self._add(f"{key}{suffix if suffix in image_suffixes() else '.jpg'}", data)
        return image is None or is_address(image)

    def _start_shard(self) -> None:
        self.current.close()
        name = self.folder / f"{self.count // self.shard_size:05}.tar"
        self.tar = self.current.enter_context(tarfile.open(name, "w"))  # noqa: SIM115

    def _add(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        self.tar.addfile(member, io.BytesIO(content))


def _read_file(image: str | None) -> bytes | None:
    if image is None or is_address(image):
        return None
    try:
        return image_bytes(image) if is_page(image) else Path(image).read_bytes()
    except (OSError, RavlmError):
        return None


def _hash(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()


class _VectorWriter:
    """Writes a .npy file of float16 vectors.

    Its header is rewritten when the number of vectors is known.
    """

    def __init__(self, path: Path, files: ExitStack, dim: int) -> None:
        self.dim = dim
        self.count = 0
        self.file = files.enter_context(open(path, "wb"))  # noqa: SIM115
        self._write_header()

    def write(self, vectors: bytes) -> int:
        """Write vectors and return their number."""
        count = len(vectors) // (2 * self.dim)
        self.file.write(vectors)
        self.count += count
        return count

    def finish(self) -> None:
        """Write the final number of vectors into the header."""
        self.file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        """Write the header; NumPy pads it so that any number of rows fits."""
        shape = (self.count, self.dim)
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self.file, header)


class _PartWriter:
    """Writes JSON lines for the parts, and their vectors."""

    def __init__(self, folder: Path, files: ExitStack, identity: Identity) -> None:
        self.lines = files.enter_context(open(folder / PARTS, "w", encoding="utf-8"))  # noqa: SIM115
        self.vectors = _VectorWriter(folder / VECTORS, files, identity.dim)
        self.tokens: _VectorWriter | None = None
        if identity.is_multi_vector:
            self.tokens = _VectorWriter(folder / TOKENS, files, identity.dim)

    @property
    def count(self) -> int:
        """Number of parts."""
        return self.vectors.count

    @property
    def num_tokens(self) -> int:
        """Number of token vectors."""
        return 0 if self.tokens is None else self.tokens.count

    def write(self, row: EntryRow) -> None:
        """Write the parts of an entry."""
        for part in row.parts:
            self.vectors.write(part.vector)
            values = {
                "entry": row.id,
                "modality": part.modality,
                "position": part.position,
                "passage": part.passage,
                "given": part.precomputed,
                "checksum": zlib.crc32(part.vector),
            }
            if self.tokens is not None and part.tokens is not None:
                values["tokens"] = self.tokens.write(part.tokens)
                values["token_checksum"] = zlib.crc32(part.tokens)
            self.lines.write(json.dumps(values, ensure_ascii=False) + "\n")

    def finish(self) -> None:
        """Write the final number of vectors into the headers."""
        for writer in filter(None, (self.vectors, self.tokens)):
            writer.finish()


def _source_row(row: EntryRow, image: str | None) -> dict[str, Any]:
    """Return an entry as a row of a source.

    Metadata become keys of the row; if one has a reserved name, all go under "metadata".
    """
    values: dict[str, Any] = {"id": row.id}
    if image is not None:
        values["image"] = image
    entry = to_entry(row)
    values["texts"] = list(entry.texts)
    if entry.regions:
        values["regions"] = [region.to_dict() for region in entry.regions]
    metadata = dict(entry.metadata)
    if metadata.keys() & {*RESERVED_KEYS, "regions"}:
        return values | {"metadata": metadata}
    return values | metadata
