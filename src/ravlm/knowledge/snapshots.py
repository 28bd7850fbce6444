"""Snapshots: the vector index on disk, a folder written aside and renamed, that says which change it covers.

Derived from the store and checked against it: one that is damaged, of another base or of another history is not used.
Knows no search.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ravlm.checkpoint import written_aside
from ravlm.knowledge.vectors import LOAD, Block, Index
from ravlm.records import MODALITIES

FORMAT = 1
CHECKED_WHOLE = 256 * 2**20
"""Bytes up to which a file's checksum is taken when it is opened; larger ones are checked by `verify`."""
STALE = 3600.0
"""Seconds after which a folder that is being written belongs to a process that was killed."""
_MANIFEST, _ROWS = "manifest.json", "rows.npz"


def write(derived: Path, index: Index, base: str) -> None:
    """Write `index` as the snapshot of the base of this uid, and clear older ones away."""
    target = derived / f"vectors-{index.change}-{uuid.uuid4().hex[:8]}"
    with written_aside(target) as folder:
        folder.mkdir()
        _write_into(folder, index, base)
    clear(derived, target)


def clear(derived: Path, keep: Path | None = None) -> bool:
    """Remove all snapshots but `keep`, and what killed processes left; tells whether there were any."""
    found = [folder for folder in derived.glob("vectors-*") if folder != keep]
    for folder in found:  # renamed first, so that a kill leaves no half of one
        with suppress(FileNotFoundError):  # another process was faster
            os.replace(folder, folder.with_name(f".old-{folder.name}"))
    for left in [*derived.glob(".old-*"), *derived.glob(".aside-*")]:
        with suppress(FileNotFoundError):
            if left.name.startswith(".old-") or time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left, ignore_errors=True)
    return bool(found)


def read(derived: Path, empty: Callable[[], Index], base: str, newest: int, oldest: int) -> Index | None:
    """The newest usable snapshot that covers a change from `oldest` to `newest`; None where there is none.

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


def damage(derived: Path) -> list[str]:
    """What is wrong with the snapshots, a sentence each; reads all of every file."""
    findings = []
    for folder in sorted(derived.glob("vectors-*")):
        manifest = _manifest(folder)
        if manifest is None:
            findings.append(f'The index "{folder}" has no readable {_MANIFEST}.')
            continue
        for name, expected in manifest["files"].items():
            if _measure(folder / name) != expected:
                findings.append(f'The index file "{folder / name}" is damaged; `optimize` writes it anew.')
    return findings


def covered_change(derived: Path) -> int:
    """The change that the newest snapshot covers; 0 where there is none."""
    return max((manifest["change"] for f in derived.glob("vectors-*") if (manifest := _manifest(f))), default=0)


def _write_into(folder: Path, index: Index, base: str) -> None:
    import faiss

    rows: dict[str, np.ndarray] = {}
    for modality, found in index.of.items():
        block, parts = Block.empty(index.dim), found.parts()
        for start in range(0, len(parts), LOAD):
            some = parts[start : start + LOAD]
            block.extend(some, found.entries(some), found.vectors(some))
        rows |= {f"{modality}_parts": block.parts, f"{modality}_entries": block.entries}
        faiss.write_index(block.index, str(folder / f"{modality}.faiss"))
    np.savez(folder / _ROWS, **rows)  # type: ignore[arg-type]
    files = {path.name: _measure(path) for path in sorted(folder.iterdir())}
    manifest = {
        "format": FORMAT, "base": base, "change": index.change, "last_part": index.last_part,
        "files": files,
    }  # fmt: skip
    (folder / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _read_from(folder: Path, manifest: dict[str, Any], index: Index) -> Index | None:
    import faiss

    try:
        for name, (size, checksum) in manifest["files"].items():
            if (folder / name).stat().st_size != size:
                return None
            if size <= CHECKED_WHOLE and _measure(folder / name) != [size, checksum]:
                return None
        with np.load(folder / _ROWS, allow_pickle=False) as rows:
            for modality in MODALITIES:
                vectors = faiss.read_index(str(folder / f"{modality}.faiss"), faiss.IO_FLAG_MMAP_IFC)
                block = Block(vectors, rows[f"{modality}_parts"], rows[f"{modality}_entries"])
                if vectors.d != index.dim or vectors.ntotal != len(block.parts):
                    return None
                index.of[modality].blocks.insert(0, block)
    except (OSError, RuntimeError, ValueError, KeyError):  # gone, or not what faiss and numpy can read
        return None
    index.change, index.last_part = manifest["change"], manifest["last_part"]
    return index


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
