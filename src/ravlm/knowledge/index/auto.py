"""The list of vector index kinds: which one a base gets, and how one is built and loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ravlm.knowledge.index.binary import BinaryIndex
from ravlm.knowledge.index.exact import BytesIndex, FlatIndex
from ravlm.knowledge.index.faiss_index import FaissIndex
from ravlm.knowledge.index.hnsw import HnswIndex
from ravlm.knowledge.index.ivf import IvfIndex

INDEX_KINDS: dict[str, type[FaissIndex]] = {
    FlatIndex.kind: FlatIndex,
    BytesIndex.kind: BytesIndex,
    BinaryIndex.kind: BinaryIndex,
    IvfIndex.kind: IvfIndex,
    HnswIndex.kind: HnswIndex,
}
"""All kinds by name. `tune` measures those that have `tuned` set."""
MAX_FLAT_ROWS = 30_000
"""Up to this many rows a scan takes about a millisecond, and building an `ann` does not pay."""
MIN_ROWS = 1000
"""Below this many rows every base is scanned: there is too little to train an index on."""


def choose_kind(num_rows: int, dim: int, tuned_kind: str | None = None) -> str:
    """Return the index kind for `num_rows` vectors: the one that `tune` selected, else by size."""
    if num_rows < MIN_ROWS:
        return FlatIndex.kind
    supported = supported_kinds(dim)
    if tuned_kind in supported:
        return str(tuned_kind)
    large = num_rows > MAX_FLAT_ROWS and IvfIndex.kind in supported
    return IvfIndex.kind if large else FlatIndex.kind


def supported_kinds(dim: int) -> list[str]:
    """Return the kinds that can index vectors of `dim` dimensions."""
    return [kind for kind, index in INDEX_KINDS.items() if index.supports(dim)]


def tuned_kinds(dim: int) -> list[str]:
    """Return the kinds that `tune` measures for vectors of `dim` dimensions."""
    return [kind for kind in supported_kinds(dim) if INDEX_KINDS[kind].tuned]


def build_index(kind: str, vectors: np.ndarray) -> FaissIndex:
    """Build an index of unit vectors (n, dim); without vectors it is always flat."""
    return INDEX_KINDS[kind if len(vectors) else FlatIndex.kind].build(vectors)


def save_index(index: FaissIndex, folder: Path, name: str) -> dict[str, Any]:
    """Write an index into `folder` and return the JSON record that `load_index` needs."""
    index.save(folder, name)
    return {"kind": index.kind, "settings": dict(index.settings)}


def load_index(folder: Path, name: str, record: Mapping[str, Any]) -> FaissIndex:
    """Memory-map an index by the record that `save_index` returned.

    Raises RuntimeError, ValueError or KeyError if it can't be read.
    """
    settings = {key: int(value) for key, value in record["settings"].items()}
    return INDEX_KINDS[record["kind"]].load(folder, name, settings)
