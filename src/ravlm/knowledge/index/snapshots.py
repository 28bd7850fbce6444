"""Snapshots: the indexes of a base on disk, up to the change that they cover.

A snapshot is a folder, written under a temporary name and renamed. It is derived from the store and
checked against it: one that is damaged, of another base or of another history is not used. Vectors
are memory-mapped; keywords, facets and stored fields are opened on first use.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ravlm.files import atomic_write, remove_leftovers
from ravlm.knowledge.index.auto import load_index, save_index
from ravlm.knowledge.index.bm25 import KeywordIndex, KeywordSegment, Postings
from ravlm.knowledge.index.facets import (
    MAX_TEXT_LENGTH,
    FacetColumn,
    FacetIndex,
    FacetSegment,
)
from ravlm.knowledge.index.faiss_index import FaissIndex
from ravlm.knowledge.index.maxsim_index import MaxSimIndex
from ravlm.knowledge.index.stored_fields import (
    StoredFieldRow,
    StoredFields,
    read_stored_fields,
    write_stored_fields,
)
from ravlm.knowledge.index.vector_index import Segment, VectorIndexes
from ravlm.records import MODALITIES, Modality

FORMAT = 4
ANALYZER = 4
"""Version of the terms in `words-*`; terms of another version are read from the store again."""
MAX_CHECKED_BYTES = 256 * 2**20
"""Files up to this size are checked by checksum when opened; larger ones by `verify` only."""
_MANIFEST = "manifest.json"
_FACETS = "facets.json"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class ModalitySnapshot:
    """The vectors of one modality: an index, and the part and entry number of each row."""

    index: FaissIndex
    parts: np.ndarray
    entries: np.ndarray
    tokens: MaxSimIndex | None = None
    """Token vectors, if the encoder gives a part several vectors."""


class StoredFieldSource(NamedTuple):
    """Arguments of `write_stored_fields`."""

    rows: Iterable[StoredFieldRow]
    parts: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class SnapshotContents:
    """Everything that a snapshot is written from."""

    base: str
    """Random id of the base."""
    change: int
    """Last change that the snapshot covers."""
    vectors: Mapping[Modality, ModalitySnapshot]
    keywords: KeywordIndex
    facets: FacetIndex
    stored_fields: StoredFieldSource
    checksums: Sequence[tuple[int, int]]
    """(part, checksum) of the newest parts. If the store has the same ones, the history is the
    same."""


def write(derived: Path, contents: SnapshotContents) -> None:
    """Write a snapshot and remove older ones."""
    target = derived / f"vectors-{contents.change}-{uuid.uuid4().hex[:8]}"
    with atomic_write(target) as folder:
        folder.mkdir()
        _write_files(folder, contents)
    clear(derived, target)


def clear(derived: Path, keep: Path | None = None) -> bool:
    """Remove all snapshots except `keep`, and leftovers of killed processes.

    Return whether there were any snapshots to remove.
    """
    outdated = [folder for folder in derived.glob("vectors-*") if folder != keep]
    for folder in outdated:  # renamed first, so that a kill leaves no half-removed snapshot
        with suppress(FileNotFoundError):  # another process was faster
            os.replace(folder, folder.with_name(f".old-{folder.name}"))
    for leftover in derived.glob(".old-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    remove_leftovers(derived)
    return bool(outdated)


def read(
    derived: Path, empty: Callable[[], VectorIndexes], base: str, newest: int, oldest: int
) -> VectorIndexes | None:
    """Return the vectors of the newest usable snapshot of a change from `oldest` to `newest`.

    `empty` returns indexes without rows, of the base's dimension. None if no snapshot is usable.
    """
    usable = []
    for folder in derived.glob("vectors-*"):
        manifest = _read_manifest(folder)
        if manifest and manifest["base"] == base and oldest <= manifest["change"] <= newest:
            usable.append((manifest["change"], folder, manifest))
    for _, folder, manifest in sorted(usable, key=lambda snapshot: -snapshot[0]):
        indexes = _read_vectors(folder, manifest, empty())
        if indexes is not None:
            return indexes
    return None


def find_damage(derived: Path) -> list[str]:
    """Return a sentence for each damaged file of a snapshot. Reads every file in full."""
    findings = []
    for folder in sorted(derived.glob("vectors-*")):
        damage = _find_damage(folder)
        if folder.is_dir():  # else another process has just replaced this snapshot
            findings += damage
    return findings


def _find_damage(folder: Path) -> list[str]:
    manifest = _read_manifest(folder)
    if manifest is None:
        return [f'The index "{folder}" has no readable {_MANIFEST}.']
    return [
        f'The index file "{folder / name}" is damaged. Run `ravlm optimize` to rewrite it.'
        for name, expected in manifest["files"].items()
        if _size_and_checksum(folder / name) != expected
    ]


def covered_change(derived: Path) -> int:
    """Return the change that the newest snapshot covers; 0 if there is no snapshot."""
    manifests = map(_read_manifest, derived.glob("vectors-*"))
    return max((manifest["change"] for manifest in manifests if manifest), default=0)


def read_checksums(folder: Path) -> list[tuple[int, int]]:
    """Return (part, checksum) of the newest parts in the snapshot `folder`."""
    manifest = _read_manifest(folder)
    if manifest is None:
        return []
    return [(int(part), int(checksum)) for part, checksum in manifest["checksums"]]


def read_keywords(folder: Path | None) -> KeywordIndex:
    """Return the keywords of a snapshot; an empty index if it can't be read.

    An empty index is then filled from the store.
    """
    manifest = _checked_manifest(folder, "words-")
    if folder is None or manifest is None or "words" not in manifest:
        return KeywordIndex()
    if manifest.get("analyzer") != ANALYZER:
        return KeywordIndex()
    try:
        arrays = [_load_mmap(folder / f"words-{name}.npy") for name in Postings._fields]
    except (OSError, ValueError):
        return KeywordIndex()
    return KeywordIndex([KeywordSegment(Postings(*arrays))], manifest["change"], manifest["words"])


def read_fields(folder: Path | None) -> StoredFields:
    """Return the stored fields of a snapshot; none if they can't be read."""
    if folder is None or _checked_manifest(folder, "cards") is None:
        return StoredFields()
    try:
        return read_stored_fields(folder)
    except (OSError, ValueError):
        return StoredFields()


def read_facets(folder: Path | None) -> FacetIndex:
    """Return the facets of a snapshot; an empty index if they can't be read."""
    if folder is None or _checked_manifest(folder, "facets") is None:
        return FacetIndex()
    try:
        record = json.loads((folder / _FACETS).read_text(encoding="utf-8"))
        starts = _load_mmap(folder / "facets-starts.npy")
        entries = _load_mmap(folder / "facets-entries.npy")
        columns = _slice_columns(record["columns"], starts, entries)
        if record.get("max_length") != MAX_TEXT_LENGTH and _has_long_texts(columns):
            return FacetIndex()  # written before long texts were cut
        return FacetIndex([FacetSegment(1, record["last"], columns)] if record["last"] else [])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return FacetIndex()


def _has_long_texts(columns: dict[tuple[str, int], FacetColumn]) -> bool:
    values = (value for column in columns.values() for value in column.values)
    return any(isinstance(value, str) and len(value) > MAX_TEXT_LENGTH for value in values)


def _slice_columns(
    records: Sequence[tuple[str, int, list[Any]]], starts: np.ndarray, entries: np.ndarray
) -> dict[tuple[str, int], FacetColumn]:
    """Cut the concatenated arrays of all columns apart again."""
    columns = {}
    first_bound = first_entry = 0
    for key, kind, values in records:
        bounds = starts[first_bound : first_bound + len(values) + 1]
        last_entry = first_entry + int(bounds[-1])
        columns[key, kind] = FacetColumn(values, bounds, entries[first_entry:last_entry])
        first_bound += len(bounds)
        first_entry = last_entry
    return columns


def _write_files(folder: Path, contents: SnapshotContents) -> None:
    indexes, token_indexes = {}, {}
    for modality, snapshot in contents.vectors.items():
        indexes[modality] = save_index(snapshot.index, folder, modality)
        np.save(folder / f"{modality}-parts.npy", snapshot.parts)
        np.save(folder / f"{modality}-entries.npy", snapshot.entries)
        if snapshot.tokens is not None:
            token_indexes[modality] = snapshot.tokens.save(folder, modality)
    manifest: Manifest = {
        "format": FORMAT,
        "base": contents.base,
        "change": contents.change,
        "indexes": indexes,
        "token_indexes": token_indexes,
        "last_part": max((part for part, _ in contents.checksums), default=0),
        "checksums": contents.checksums,
    }
    if contents.keywords.segments:
        (segment,) = contents.keywords.segments
        manifest["words"] = contents.keywords.last_part
        manifest["analyzer"] = ANALYZER
        for name, array in segment.postings._asdict().items():
            np.save(folder / f"words-{name}.npy", array)
    _write_facets(folder, contents.facets)
    write_stored_fields(folder, *contents.stored_fields)
    manifest["files"] = {path.name: _size_and_checksum(path) for path in sorted(folder.iterdir())}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _write_facets(folder: Path, facets: FacetIndex) -> None:
    columns = [item for segment in facets.segments for item in segment.columns.items()]
    nothing = np.zeros(0, np.int64)
    starts = [column.starts for _, column in columns]
    entries = [column.entries for _, column in columns]
    np.save(folder / "facets-starts.npy", np.concatenate([*starts, nothing]))
    np.save(folder / "facets-entries.npy", np.concatenate([*entries, nothing]))
    record = {
        "last": facets.last,
        "max_length": MAX_TEXT_LENGTH,
        "columns": [[key, kind, column.values] for (key, kind), column in columns],
    }
    (folder / _FACETS).write_text(json.dumps(record), encoding="utf-8")


def _read_vectors(folder: Path, manifest: Manifest, indexes: VectorIndexes) -> VectorIndexes | None:
    """Insert the segments of a snapshot into empty `indexes`; None if it is damaged."""
    if any(_size(folder / name) != size for name, (size, _) in manifest["files"].items()):
        return None
    if any(_checked_manifest(folder, f"{modality}-") is None for modality in MODALITIES):
        return None
    try:
        for modality in MODALITIES:
            segment = _read_segment(folder, manifest, modality)
            index = segment.index
            if index.dim != indexes.dim or (segment.tokens is not None) != indexes.with_tokens:
                return None
            num_rows = [len(segment.parts), len(segment.entries)]
            if segment.tokens is not None:
                num_rows.append(len(segment.tokens))
            if any(count != len(index) for count in num_rows):
                return None
            indexes.by_modality[modality].segments.insert(0, segment)
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError):
        # gone, or unreadable for Faiss or numpy
        return None
    indexes.change = manifest["change"]
    indexes.last_part = manifest["last_part"]
    indexes.snapshot = folder
    return indexes


def _read_segment(folder: Path, manifest: Manifest, modality: Modality) -> Segment:
    index = load_index(folder, modality, manifest["indexes"][modality])
    parts = _load_mmap(folder / f"{modality}-parts.npy")
    record = manifest.get("token_indexes", {}).get(modality)  # older snapshots have none
    tokens = None if record is None else MaxSimIndex.load(folder, modality, record, index.dim)
    return Segment(index, parts, _load_mmap(folder / f"{modality}-entries.npy"), tokens)


def _checked_manifest(folder: Path | None, prefix: str) -> Manifest | None:
    """Return the manifest if all files whose names start with `prefix` have the right checksum.

    Files above `MAX_CHECKED_BYTES` are not checked.
    """
    manifest = None if folder is None else _read_manifest(folder)
    if folder is None or manifest is None:
        return None
    for name, (size, checksum) in manifest["files"].items():
        checked = name.startswith(prefix) and size <= MAX_CHECKED_BYTES
        if checked and _size_and_checksum(folder / name) != [size, checksum]:
            return None
    return manifest


def _load_mmap(path: Path) -> np.ndarray:
    """Memory-map an array, as a plain view because slices of a `memmap` are slow."""
    return np.load(path, mmap_mode="r").view(np.ndarray)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _read_manifest(folder: Path) -> Manifest | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    is_current = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    return manifest if is_current and _is_complete(manifest) else None


def _is_complete(manifest: Manifest) -> bool:
    """Return whether a manifest has the keys and types that are written."""
    types = {
        "base": str, "change": int, "indexes": dict, "last_part": int, "checksums": list,
        "files": dict,
    }  # fmt: skip
    if not all(isinstance(manifest.get(key), kind) for key, kind in types.items()):
        return False
    pairs = [*manifest["checksums"], *manifest["files"].values()]
    return all(isinstance(pair, list) and list(map(type, pair)) == [int, int] for pair in pairs)


def _size_and_checksum(path: Path) -> list[int]:
    """Return size and CRC-32 of a file; zeros if it can't be read."""
    checksum = size = 0
    try:
        with open(path, "rb") as file:
            while chunk := file.read(2**22):
                checksum = zlib.crc32(chunk, checksum)
                size += len(chunk)
    except OSError:
        return [0, 0]
    return [size, checksum]
