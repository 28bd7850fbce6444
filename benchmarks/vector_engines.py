"""Other vector engines on the same vectors and queries, with settings near a recall of 0.95.

Used by `python -m benchmarks.knowledge --others`.
"""

from __future__ import annotations

import importlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import faiss
import numpy as np

TOP_K = 10

Search: TypeAlias = Callable[[np.ndarray], list[int]]
"""A query (dim,) to the row numbers of its nearest neighbors."""


def measure_engines(vectors: np.ndarray, queries: np.ndarray, folder: Path) -> dict[str, Any]:
    """Return build time, recall and latency of each engine that is installed."""
    truth = faiss.knn(queries, vectors, TOP_K, metric=faiss.METRIC_INNER_PRODUCT)[1]
    figures: dict[str, Any] = {}
    for name, build in ENGINES.items():
        try:
            importlib.import_module(name)
        except ImportError:
            figures[name] = "not installed"
            continue
        start = time.perf_counter()
        search = build(vectors, folder)
        build_seconds = time.perf_counter() - start
        times, recalls = [], []
        for query, expected in zip(queries[:200], truth, strict=False):
            start = time.perf_counter()
            result = search(query)
            times.append(time.perf_counter() - start)
            recalls.append(len(set(result) & set(expected.tolist())) / TOP_K)
        figures[name] = {
            "build, seconds": build_seconds,
            "recall@10": float(np.mean(recalls)),
            "p50 ms": 1e3 * statistics.median(times),
            "a second, one by one": 1 / statistics.mean(times),
        }
        print(name, figures[name], file=sys.stderr, flush=True)
    return figures


def _hnswlib(vectors: np.ndarray, folder: Path) -> Search:
    import hnswlib

    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), ef_construction=100, M=32)
    index.set_num_threads(1)
    index.add_items(vectors)
    index.set_ef(64)
    return lambda query: index.knn_query(query, TOP_K)[0][0].tolist()


def _usearch(vectors: np.ndarray, folder: Path) -> Search:
    from usearch.index import Index

    index = Index(
        ndim=vectors.shape[1], metric="ip", dtype="f16", connectivity=32, expansion_search=64
    )
    index.add(np.arange(len(vectors)), vectors, threads=1)
    return lambda query: index.search(query, TOP_K, threads=1).keys.tolist()


def _lancedb(vectors: np.ndarray, folder: Path) -> Search:
    import lancedb
    import pyarrow as pa

    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    table = lancedb.connect(folder / "lance").create_table(
        "t", pa.table({"id": range(len(vectors)), "vector": column})
    )
    table.create_index(metric="cosine", num_partitions=256, num_sub_vectors=128)
    return lambda query: [
        row["id"]
        for row in table.search(query)
        .nprobes(20)
        .refine_factor(4)
        .select(["id"])
        .limit(TOP_K)
        .to_list()
    ]


def _milvus(vectors: np.ndarray, folder: Path) -> Search:
    from pymilvus import MilvusClient

    client = MilvusClient(str(folder / "milvus.db"))
    client.create_collection("t", dimension=vectors.shape[1], metric_type="IP")
    for start in range(0, len(vectors), 2000):
        rows = vectors[start : start + 2000]
        client.insert("t", [{"id": start + i, "vector": row} for i, row in enumerate(rows)])
    return lambda query: [hit["id"] for hit in client.search("t", [query], limit=TOP_K)[0]]


ENGINES: dict[str, Callable[[np.ndarray, Path], Search]] = {
    "hnswlib": _hnswlib,
    "usearch": _usearch,
    "lancedb": _lancedb,
    "pymilvus": _milvus,
}
"""Module that must be installed -> function that builds an index and returns its search."""
