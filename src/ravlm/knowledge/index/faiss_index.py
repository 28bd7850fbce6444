"""Base classes of the vector index kinds.

An index is immutable. `build` makes it from the unit vectors of one modality, and a snapshot keeps
it in files that are memory-mapped. Every index has `rows`, a Faiss scalar quantizer with all
vectors, which can be scanned exactly under any filter. The faster kinds add `ann`, an approximate
nearest neighbor index over the same rows. To add a kind see docs/how-to/index.md.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

CHUNK_ROWS = 65_536
"""Rows handed to Faiss at a time."""
MAX_TRAINING_ROWS = 131_072
"""Rows from which the value range of each dimension, and the codes, are learned."""
WRITE_BYTES = 2**22
"""Bytes of an index written at a time."""

SearchResult = tuple[np.ndarray, np.ndarray]
"""Scores float32 (q, n) and row numbers int64 (q, n), best first; row -1 where fewer were found."""
IndexT = TypeVar("IndexT", bound="FaissIndex")


class FaissIndex(ABC):
    """An index over unit vectors, searched by inner product (cosine).

    A subclass sets `kind` and implements `build`. An approximate kind passes `ann` to `__init__`,
    overrides `search_parameters` and names the settings worth measuring in `candidates`.
    """

    kind: ClassVar[str]
    """Name in `INDEX_KINDS`, in snapshots and in the report of `tune`."""
    tuned: ClassVar[bool] = True
    """Whether `tune` builds and measures this kind."""
    defaults: ClassVar[Mapping[str, int]] = {}
    """Settings of a new index: what a query may spend, by name."""

    def __init__(
        self, rows: Any, ann: Any = None, settings: Mapping[str, int] | None = None
    ) -> None:
        self.rows = rows
        self.ann = ann
        self.settings = dict(self.defaults if settings is None else settings)

    @classmethod
    @abstractmethod
    def build(cls: type[IndexT], vectors: np.ndarray) -> IndexT:
        """Build an index of unit vectors (n, dim), n > 0, of any float type.

        `vectors` may be memory-mapped and larger than memory: read it in chunks.
        """

    @classmethod
    def supports(cls, dim: int) -> bool:
        """Return whether this kind can index vectors of `dim` dimensions."""
        return True

    @classmethod
    def candidates(cls) -> list[dict[str, int]]:
        """Return the settings that tuning measures."""
        return [{}]

    @property
    def dim(self) -> int:
        """Dimensions of a vector."""
        return int(self.rows.d)

    @property
    def row_bytes(self) -> float:
        """Bytes of memory per vector."""
        return float(self.rows.sa_code_size()) + self.ann_bytes

    @property
    def ann_bytes(self) -> float:
        """Bytes of memory per vector that `ann` adds to `rows`."""
        return 0.0

    def __len__(self) -> int:
        return int(self.rows.ntotal)

    def with_settings(self: IndexT, settings: Mapping[str, int]) -> IndexT:
        """Return the same index with other settings. Both share their vectors."""
        clone = copy.copy(self)
        clone.settings = dict(settings)
        return clone

    def search_parameters(self, n: int) -> Any:
        """Return the Faiss parameters of an `ann` search for the best n rows."""
        return None

    def search(self, queries: np.ndarray, n: int) -> SearchResult:
        """Return the best n rows per query (q, dim): by the `ann` if there is one, else exact."""
        if self.ann is None:
            return self.scan(queries, n)
        return self.ann.search(queries, n, params=self.search_parameters(n))

    def scan(self, queries: np.ndarray, n: int, mask: np.ndarray | None = None) -> SearchResult:
        """Return the best n rows per query (q, dim) of all that `mask` (rows,) keeps, exactly."""
        if mask is None:
            return self.rows.search(queries, n)
        faiss = import_faiss()

        bits = np.packbits(mask, bitorder="little")
        selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
        parameters = faiss.SearchParameters()
        parameters.sel = selector  # a bare pointer: `bits` and `selector` must outlive the search
        return self.rows.search(queries, n, params=parameters)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """Return the stored vectors of row numbers (m,), float32 (m, dim)."""
        return self.rows.reconstruct_batch(np.ascontiguousarray(rows, np.int64))

    def quantized(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors (m, dim) as this index would store them, float32.

        Components beyond the value range that was learned from a sample are clipped to it.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        return self.rows.sa_decode(self.rows.sa_encode(vectors))

    def save(self, folder: Path, name: str) -> None:
        """Write `rows` to `<name>-rows.faiss` in `folder`."""
        write_index(self.rows, folder, name, "rows")

    @classmethod
    def load(cls: type[IndexT], folder: Path, name: str, settings: Mapping[str, int]) -> IndexT:
        """Memory-map what `save` wrote.

        Raises RuntimeError, ValueError or KeyError if the files are not such an index.
        """
        return cls(read_index(folder, name, "rows"), settings=settings)


class RefinedIndex(FaissIndex):
    """An index of compressed codes whose best candidates are compared again by their `rows`.

    A subclass implements `build` and returns `cls(rows, coarse)`, where `coarse` is any Faiss index
    of the same vectors. The setting `candidates` is the number of rows compared again; it is raised
    to three per result.
    """

    defaults: ClassVar[Mapping[str, int]] = {"candidates": 80}

    def __init__(self, rows: Any, coarse: Any, settings: Mapping[str, int] | None = None) -> None:
        faiss = import_faiss()

        super().__init__(rows, faiss.IndexRefine(coarse, rows), settings)
        self.coarse = coarse  # must live as long as `ann`, which keeps a bare pointer

    @classmethod
    def candidates(cls) -> list[dict[str, int]]:
        return [{"candidates": count} for count in (40, 80, 160, 320)]

    @property
    def ann_bytes(self) -> float:
        return float(self.coarse.sa_code_size())

    def coarse_parameters(self) -> Any:
        """Return the Faiss parameters of the search in `coarse`."""
        return None

    def search_parameters(self, n: int) -> Any:
        faiss = import_faiss()

        parameters = faiss.IndexRefineSearchParameters(
            k_factor=max(3.0, self.settings["candidates"] / n)
        )
        coarse = self.coarse_parameters()
        if coarse is not None:
            parameters.base_index_params = coarse
            parameters.coarse = coarse  # Faiss keeps a bare pointer
        return parameters

    def save(self, folder: Path, name: str) -> None:
        super().save(folder, name)
        write_index(self.coarse, folder, name, self.kind)

    @classmethod
    def load(cls, folder: Path, name: str, settings: Mapping[str, int]) -> RefinedIndex:
        rows = read_index(folder, name, "rows")
        return cls(rows, read_index(folder, name, cls.kind), settings)


def import_faiss() -> Any:
    """Return the module `faiss`, untyped: it lacks half of its type hints."""
    import faiss

    return faiss


def new_rows(dim: int, quantizer: str) -> Any:
    """Return empty rows; `quantizer` is a Faiss type: "QT_fp16", "QT_8bit", "QT_4bit" ..."""
    faiss = import_faiss()

    kind = getattr(faiss.ScalarQuantizer, quantizer)
    return faiss.IndexScalarQuantizer(dim, kind, faiss.METRIC_INNER_PRODUCT)


def trained_rows(vectors: np.ndarray, quantizer: str = "QT_8bit") -> Any:
    """Return empty rows whose value ranges are learned from `vectors` (n, dim)."""
    rows = new_rows(vectors.shape[1], quantizer)
    rows.train(training_sample(vectors))
    return rows


def training_sample(vectors: np.ndarray) -> np.ndarray:
    """Return at most `MAX_TRAINING_ROWS` evenly spaced vectors, float32."""
    rows = evenly_spaced(len(vectors), MAX_TRAINING_ROWS)
    return np.ascontiguousarray(vectors[rows], np.float32)


def evenly_spaced(num_rows: int, count: int) -> np.ndarray:
    """Return up to `count` row numbers, evenly spaced over all rows."""
    if not num_rows:
        return np.zeros(0, np.int64)
    return np.unique(np.linspace(0, num_rows - 1, min(count, num_rows)).astype(np.int64))


def add_in_chunks(index: Any, vectors: np.ndarray) -> Any:
    """Add all vectors (n, dim) to a Faiss index, a chunk at a time, and return it."""
    for start in range(0, len(vectors), CHUNK_ROWS):
        index.add(np.ascontiguousarray(vectors[start : start + CHUNK_ROWS], np.float32))
    return index


def write_index(index: Any, folder: Path, name: str, suffix: str) -> None:
    """Write a Faiss index to `<name>-<suffix>.faiss`."""
    faiss = import_faiss()

    # Faiss's own writer reports no error if the last bytes don't fit on the disk
    with open(folder / f"{name}-{suffix}.faiss", "wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write, WRITE_BYTES))


def read_index(folder: Path, name: str, suffix: str) -> Any:
    """Memory-map the Faiss index in `<name>-<suffix>.faiss`."""
    faiss = import_faiss()

    return faiss.read_index(str(folder / f"{name}-{suffix}.faiss"), faiss.IO_FLAG_MMAP_IFC)
