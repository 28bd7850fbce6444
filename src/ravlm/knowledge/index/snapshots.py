"""Snapshots: the indexes on disk, a folder written aside and renamed, that says which change it
covers.

Derived from the store and checked against it: one that is damaged, of another base or of another
history is not used. Vectors are memory-mapped; words, facets and cards are opened when they are
first asked for. Knows no search and no SQL."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ravlm.files import atomic_write
from ravlm.knowledge.index import bm25, facets, faiss_index, stored_fields
from ravlm.knowledge.index.bm25 import Arrays, KeywordIndex
from ravlm.knowledge.index.facets import Column, FacetIndex
from ravlm.knowledge.index.faiss_index import FaissIndex
from ravlm.knowledge.index.stored_fields import Cards
from ravlm.knowledge.index.vector_index import Segment, VectorIndexes
from ravlm.records import MODALITIES, Modality

FORMAT = 4
CHECKED_WHOLE = 256 * 2**20
"""Bytes up to which a file's checksum is taken when it is opened; larger ones are checked by
`verify`."""
STALE = 86400.0
"""Seconds after which a folder that is being written belongs to a process that was killed."""
_MANIFEST, _FACETS = "manifest.json", "facets.json"


class Shown(NamedTuple):
    """What hits will show: cards, and where parts stand, as `stored_fields.write` takes them."""

    cards: Iterable[tuple[int, str, str | None, str, str]]
    parts: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class Contents:
    """What a snapshot is made of: the state of the base of the uid `base` after the change
    `change`."""

    base: str
    change: int
    vectors: Mapping[Modality, tuple[FaissIndex, np.ndarray, np.ndarray]]
    """The index with the numbers of its parts and entries."""
    words: KeywordIndex
    facets: FacetIndex
    shown: Shown
    checksums: Sequence[tuple[int, int]]
    """(part, checksum) of the newest parts: that they are the store's tells that the history is the
    same."""


def write(derived: Path, contents: Contents) -> None:
    """Write a snapshot and clear older ones away."""
    target = derived / f"vectors-{contents.change}-{uuid.uuid4().hex[:8]}"
    with atomic_write(target) as folder:
        folder.mkdir()
        _write_into(folder, contents)
    clear(derived, target)


def clear(derived: Path, keep: Path | None = None) -> bool:
    """Remove all snapshots but `keep`, and what killed processes left; tells whether there were
    any."""
    found = [folder for folder in derived.glob("vectors-*") if folder != keep]
    for folder in found:  # renamed first, so that a kill leaves no half of one
        with suppress(FileNotFoundError):  # another process was faster
            os.replace(folder, folder.with_name(f".old-{folder.name}"))
    for left in [*derived.glob(".old-*"), *derived.glob(".aside-*")]:
        with suppress(FileNotFoundError):
            if left.name.startswith(".old-") or time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left, ignore_errors=True)
    return bool(found)


def read(
    derived: Path, empty: Callable[[], VectorIndexes], base: str, newest: int, oldest: int
) -> VectorIndexes | None:
    """The newest usable snapshot that covers a change from `oldest` to `newest`; None where there
    is none.

    `empty` gives an index without rows, of the base's dimensions.
    """
    found = []
    for folder in derived.glob("vectors-*"):
        manifest = _manifest(folder)
        if manifest and manifest["base"] == base and oldest <= manifest["change"] <= newest:
            found.append((manifest["change"], folder, manifest))
    for _, folder, manifest in sorted(found, key=lambda item: -item[0]):
        index = _read_from(folder, manifest, empty())
        if index is not None:
            return index
    return None


def find_damage(derived: Path) -> list[str]:
    """What is wrong with the snapshots, a sentence each; reads all of every file."""
    findings = []
    for folder in sorted(derived.glob("vectors-*")):
        manifest = _manifest(folder)
        if manifest is None:
            findings.append(f'The index "{folder}" has no readable {_MANIFEST}.')
            continue
        for name, expected in manifest["files"].items():
            if _measure(folder / name) != expected:
                findings.append(
                    f'The index file "{folder / name}" is damaged; `optimize` writes it anew.'
                )
    return findings


def covered_change(derived: Path) -> int:
    """The change that the newest snapshot covers; 0 where there is none."""
    return max(
        (manifest["change"] for f in derived.glob("vectors-*") if (manifest := _manifest(f))),
        default=0,
    )


def checksums(folder: Path) -> list[tuple[int, int]]:
    """(part, checksum) of the newest parts that the snapshot `folder` was made of."""
    manifest = _manifest(folder)
    return (
        [(int(part), int(checksum)) for part, checksum in manifest["checksums"]] if manifest else []
    )


def read_words(folder: Path | None) -> KeywordIndex:
    """The words of the snapshot `folder`; none where they can't be read, so that all are read from
    the store."""
    manifest = _sound(folder, "words-")
    if folder is None or manifest is None or "words" not in manifest:
        return KeywordIndex()
    try:
        arrays = Arrays(*(_mapped(folder / f"words-{name}.npy") for name in Arrays._fields))
    except (OSError, ValueError):
        return KeywordIndex()
    return KeywordIndex([bm25.KeywordSegment(arrays)], manifest["change"], manifest["words"])


def read_cards(folder: Path | None) -> Cards:
    """The cards of the snapshot `folder`; none where they can't be read, so that the store is
    asked."""
    if folder is None or _sound(folder, "cards") is None:
        return Cards()
    try:
        return stored_fields.read(folder)
    except (OSError, ValueError):
        return Cards()


def read_facets(folder: Path | None) -> FacetIndex:
    """The facets of the snapshot `folder`; none where they can't be read."""
    if folder is None or _sound(folder, "facets") is None:
        return FacetIndex()
    try:
        kept = json.loads((folder / _FACETS).read_text(encoding="utf-8"))
        starts, entries = (_mapped(folder / f"facets-{name}.npy") for name in ("starts", "entries"))
        found, at, row = {}, 0, 0
        for key, kind, values in kept["columns"]:
            bounds = starts[at : at + len(values) + 1]
            found[key, kind] = Column(values, bounds, entries[row : row + int(bounds[-1])])
            at, row = at + len(bounds), row + int(bounds[-1])
        return FacetIndex([facets.FacetSegment(1, kept["last"], found)] if kept["last"] else [])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return FacetIndex()


def _write_into(folder: Path, contents: Contents) -> None:
    kept = {}
    for modality, (made, parts, entries) in contents.vectors.items():
        kept[modality] = faiss_index.save(made, folder, modality)
        np.save(folder / f"{modality}-parts.npy", parts)
        np.save(folder / f"{modality}-entries.npy", entries)
    manifest: dict[str, Any] = {
        "format": FORMAT, "base": contents.base, "change": contents.change, "indexes": kept,
        "last_part": max((part for part, _ in contents.checksums), default=0), "checksums": contents.checksums,
    }  # fmt: skip
    if contents.words.segments:
        (block,) = contents.words.segments
        manifest["words"] = contents.words.last_part
        for name, array in zip(Arrays._fields, block.arrays, strict=True):
            np.save(folder / f"words-{name}.npy", array)
    _write_facets(folder, contents.facets)
    stored_fields.write(folder, *contents.shown)
    manifest["files"] = {path.name: _measure(path) for path in sorted(folder.iterdir())}
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _write_facets(folder: Path, facets: FacetIndex) -> None:
    found = [
        (key, kind, column)
        for block in facets.segments
        for (key, kind), column in block.columns.items()
    ]
    for name in ("starts", "entries"):
        arrays = [getattr(column, name) for _, _, column in found]
        np.save(folder / f"facets-{name}.npy", np.concatenate([*arrays, np.zeros(0, np.int64)]))
    kept = {
        "last": facets.last,
        "columns": [[key, kind, column.values] for key, kind, column in found],
    }
    (folder / _FACETS).write_text(json.dumps(kept), encoding="utf-8")


def _read_from(folder: Path, manifest: dict[str, Any], index: VectorIndexes) -> VectorIndexes | None:
    if any(_size(folder / name) != size for name, (size, _) in manifest["files"].items()):
        return None
    if any(_sound(folder, f"{modality}-") is None for modality in MODALITIES):
        return None
    try:
        for modality in MODALITIES:
            made = faiss_index.load(folder, modality, manifest["indexes"][modality])
            parts, entries = (
                _mapped(folder / f"{modality}-{name}.npy") for name in ("parts", "entries")
            )
            if made.rows.d != index.dim or not made.rows.ntotal == len(parts) == len(entries):
                return None
            index.by_modality[modality].segments.insert(0, Segment(made, parts, entries))
    except (
        OSError,
        RuntimeError,
        ValueError,
        KeyError,
    ):  # gone, or not what faiss and numpy can read
        return None
    index.change, index.last_part, index.snapshot = (
        manifest["change"],
        manifest["last_part"],
        folder,
    )
    return index


def _sound(folder: Path | None, start: str) -> dict[str, Any] | None:
    """The manifest, where the checksums of all files whose names begin so are right, very large
    ones apart."""
    manifest = None if folder is None else _manifest(folder)
    if folder is None or manifest is None:
        return None
    for name, (size, checksum) in manifest["files"].items():
        if (
            name.startswith(start)
            and size <= CHECKED_WHOLE
            and _measure(folder / name) != [size, checksum]
        ):
            return None
    return manifest


def _mapped(path: Path) -> np.ndarray:
    """A file's array, memory-mapped; a plain view of it, as slices of a `memmap` are slow."""
    return np.load(path, mmap_mode="r").view(np.ndarray)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("format") == FORMAT else None


def _measure(path: Path) -> list[int]:
    """Size and CRC-32 of a file; zeros where it can't be read."""
    checksum, size = 0, 0
    try:
        with open(path, "rb") as file:
            while piece := file.read(2**22):
                checksum, size = zlib.crc32(piece, checksum), size + len(piece)
    except OSError:
        return [0, 0]
    return [size, checksum]
