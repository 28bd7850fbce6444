"""The kinds of vector index: how one is made of a modality's vectors, asked, and kept in files.

Each has `rows`, all vectors in order, half precision or a byte a dimension, that can be scanned
exactly; the faster kinds have a shortcut to the best rows beside. An index is never changed after
it was made: what a query may spend is handed to Faiss with the query. Knows no store and no
metadata."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ravlm.knowledge.index.kmeans import centres

KINDS = {
    "flat": "all vectors in half precision, compared one by one",
    "bytes": "all vectors with a byte a dimension, compared one by one",
    "ivf": "cells of near vectors, four bits for each four dimensions, the best compared again with a byte a dimension",
    "hnsw": "a graph of near vectors with a byte a dimension",
}
FLAT_ROWS = 30_000
"""Up to which a scan takes about a millisecond, and no shortcut is worth its making."""
MIN_ROWS = 1000
"""From which on a kind that learns from the vectors has something to learn from; fewer are
scanned."""
PIECE = 65_536
"""Rows that are handed to Faiss at a time."""
_TRAINED = 131_072
"""Rows at most that the range of each dimension, and the codes, are learnt from."""
_PER_CELL = 40
"""Rows for each cell at least."""
_LINKS, _EFFORT = 32, 100


@dataclass(frozen=True)
class FaissIndex:
    """An index of one kind. `settings`: what each query may spend, by name (see `parameters`)."""

    kind: str
    rows: Any
    """A Faiss scalar quantizer with all rows."""
    shortcut: Any = None
    """What finds the best rows fast; None for the kinds that scan."""
    settings: Mapping[str, int] = field(default_factory=dict)
    cells: Any = None
    """ivf: the part of the shortcut that is kept in a file of its own, and must live as long as
    it."""

    @property
    def row_bytes(self) -> float:
        """Bytes of memory for each vector."""
        each = float(self.rows.sa_code_size())
        if self.kind == "ivf":
            each += self.cells.code_size + 8
        elif self.kind == "hnsw":
            each += 4 * (2 * _LINKS + 1) + 8
        return each


def _faiss() -> Any:
    import faiss  # its type hints lack half of it

    return faiss


def chosen_kind(rows: int, dim: int, measured: str | None = None) -> str:
    """The kind for so many vectors: the one that was chosen by measurement, where one was, else by
    size."""
    if rows < MIN_ROWS:
        return "flat"
    return measured or ("ivf" if rows > FLAT_ROWS and "ivf" in possible_kinds(dim) else "flat")


def possible_kinds(dim: int) -> list[str]:
    """The kinds that there are for vectors of `dim` dimensions."""
    return [kind for kind in KINDS if kind != "ivf" or _cut(dim)]


def empty_rows(dim: int) -> Any:
    """Rows in half precision, none yet."""
    faiss = _faiss()
    return faiss.IndexScalarQuantizer(
        dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )


def make(kind: str, vectors: np.ndarray) -> FaissIndex:
    """An index of unit vectors (n, dim) of any float type, memory-mapped perhaps: they are read
    piece by piece."""
    faiss = _faiss()
    n, dim = vectors.shape
    if kind == "flat" or not n:
        return FaissIndex("flat", _filled(empty_rows(dim), vectors))
    rows = faiss.IndexScalarQuantizer(
        dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    rows.train(_spread(vectors, _TRAINED))
    if kind == "hnsw":
        graph = faiss.IndexHNSW(rows, _LINKS)
        graph.hnsw.efConstruction = _EFFORT
        return FaissIndex(kind, rows, _filled(graph, vectors), {"effort": _EFFORT})
    _filled(rows, vectors)
    if kind == "bytes":
        return FaissIndex(kind, rows)
    count = cell_count(n)
    cells = faiss.index_factory(
        dim, f"IVF{count},PQ{dim // _cut(dim)}x4fs", faiss.METRIC_INNER_PRODUCT
    )
    cells.quantizer.add(centres(vectors, count))
    cells.train(_spread(vectors, _TRAINED))  # what is left to learn: the codes
    _filled(cells, vectors)
    return FaissIndex(
        kind, rows, faiss.IndexRefine(cells, rows), {"cells": 32, "candidates": 80}, cells
    )


def cell_count(rows: int) -> int:
    """About four times the root of the number of rows, a power of two, with rows enough to learn
    them from."""
    count = 2 ** round(math.log2(4 * math.sqrt(rows)))
    while count > 1 and count * _PER_CELL > max(rows, _PER_CELL):
        count //= 2
    return count


def _cut(dim: int) -> int:
    """Dimensions that share a code of four bits: about four; 0 where none of the usual numbers
    divides `dim`."""
    return next((size for size in (4, 3, 5, 2, 6, 8) if dim % size == 0), 0)


def _spread(vectors: np.ndarray, most: int) -> np.ndarray:
    rows = np.linspace(0, len(vectors) - 1, min(most, len(vectors))).astype(np.int64)
    return np.ascontiguousarray(vectors[np.unique(rows)], np.float32)


def _filled(index: Any, vectors: np.ndarray) -> Any:
    for start in range(0, len(vectors), PIECE):
        index.add(np.ascontiguousarray(vectors[start : start + PIECE], np.float32))
    return index


def parameters(made: FaissIndex, n: int) -> Any:
    """What Faiss is told with a query for the n best rows by the shortcut.

    `cells`: how many are looked into, `candidates`: rows compared again, at least three for each
    that is wanted; `effort`: nodes of the graph that are kept in view."""
    faiss = _faiss()
    if made.kind == "hnsw":
        return faiss.SearchParametersHNSW(efSearch=max(made.settings["effort"], n))
    within = faiss.SearchParametersIVF(nprobe=made.settings["cells"])
    found = faiss.IndexRefineSearchParameters(
        k_factor=max(3.0, made.settings["candidates"] / n), base_index_params=within
    )
    found.within = within  # Faiss keeps a bare pointer
    return found


def choices(kind: str) -> list[dict[str, int]]:
    """The settings worth measuring."""
    if kind == "ivf":
        cells = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
        return [{"cells": c, "candidates": r} for r in (40, 80, 160, 320) for c in cells]
    return (
        [{"effort": effort} for effort in (16, 32, 64, 128, 256, 512)] if kind == "hnsw" else [{}]
    )


def save(made: FaissIndex, folder: Path, name: str) -> dict[str, Any]:
    """Write it into `folder`; what is returned, as JSON types, is what `load` needs."""
    faiss = _faiss()
    if made.kind != "hnsw":  # whose graph holds the rows
        faiss.write_index(made.rows, str(folder / f"{name}-rows.faiss"))
    if made.shortcut is not None:
        faiss.write_index(made.cells or made.shortcut, str(folder / f"{name}-{made.kind}.faiss"))
    return {"kind": made.kind, "settings": dict(made.settings)}


def load(folder: Path, name: str, kept: Mapping[str, Any]) -> FaissIndex:
    """Memory-map what `save` wrote. Raises RuntimeError, ValueError or KeyError where it is no such
    thing."""
    faiss = _faiss()

    def read(what: str) -> Any:
        return faiss.read_index(str(folder / f"{name}-{what}.faiss"), faiss.IO_FLAG_MMAP_IFC)

    kind, settings = kept["kind"], {key: int(value) for key, value in kept["settings"].items()}
    if kind not in KINDS:
        raise ValueError(f"There is no kind of index {kind}.")
    if kind == "hnsw":
        graph = read(kind)
        return FaissIndex(kind, faiss.downcast_index(graph.storage), graph, settings)
    rows = read("rows")
    if kind != "ivf":
        return FaissIndex(kind, rows)
    cells = read(kind)
    return FaissIndex(kind, rows, faiss.IndexRefine(cells, rows), settings, cells)
