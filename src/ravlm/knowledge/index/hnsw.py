"""HNSW: a navigable graph over the vectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ravlm.knowledge.index.faiss_index import (
    FaissIndex,
    add_in_chunks,
    import_faiss,
    read_index,
    trained_rows,
    write_index,
)

NUM_LINKS = 32
"""Neighbors of a node per level (HNSW's M)."""
CONSTRUCTION_EFFORT = 100
"""Nodes kept as candidates while building (efConstruction)."""


class HnswIndex(FaissIndex):
    """Faiss HNSW over rows of one byte per dimension.

    Setting: `effort`, the nodes kept as candidates while searching (efSearch).
    """

    kind: ClassVar[str] = "hnsw"
    defaults: ClassVar[Mapping[str, int]] = {"effort": CONSTRUCTION_EFFORT}

    @classmethod
    def build(cls, vectors: np.ndarray) -> HnswIndex:
        faiss = import_faiss()

        rows = trained_rows(vectors)
        graph = faiss.IndexHNSW(rows, NUM_LINKS)
        graph.hnsw.efConstruction = CONSTRUCTION_EFFORT
        return cls(rows, add_in_chunks(graph, vectors))  # which fills `rows` too

    @classmethod
    def candidates(cls) -> list[dict[str, int]]:
        return [{"effort": effort} for effort in (16, 32, 64, 128, 256, 512)]

    @property
    def ann_bytes(self) -> float:
        return float(4 * (2 * NUM_LINKS + 1) + 8)

    def search_parameters(self, n: int) -> Any:
        faiss = import_faiss()

        return faiss.SearchParametersHNSW(efSearch=max(self.settings["effort"], n))

    def save(self, folder: Path, name: str) -> None:
        write_index(self.ann, folder, name, self.kind)  # the graph's file holds the rows

    @classmethod
    def load(cls, folder: Path, name: str, settings: Mapping[str, int]) -> HnswIndex:
        faiss = import_faiss()

        graph = read_index(folder, name, cls.kind)
        return cls(faiss.downcast_index(graph.storage), graph, settings)
