"""Cost of a knowledge base compared with bare Faiss, bare SQLite and other vector engines.

    python -m benchmarks.knowledge [--rows 100000] [--others] [--real DATA] [--limit ENTRIES]

Measures, on clustered unit vectors of 512 dimensions with captions and metadata, in one run on one
thread: durable ingest (against bare sqlite3 inserts of the same rows), index building, opening,
searches one by one and in batches (against bare Faiss with the same index), filters and keywords.
`--others` adds hnswlib, usearch, LanceDB and Milvus Lite if they are installed (pip install hnswlib
usearch lancedb).

`--real DATA` uses photos and captions of Flickr8k instead, encoded once by the starter and kept in
`--base`. A sample of them is the queries, for the other modality and for their own.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np

from benchmarks.reports import write_json
from benchmarks.vector_engines import measure_engines
from ravlm.data.readers import read_entries
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index.index_cache import IndexCache
from ravlm.knowledge.local.backend import LocalBackend
from ravlm.records import MODALITIES, Entry, Hit, Modality
from ravlm.search.filter_parser import read_filter
from ravlm.search.options import SearchOptions
from tests.helpers.fakes import FakeEncoder

DIM = 512
TOP_K = 10
NUM_QUERIES = 640
BATCH_SIZE = 64
INGEST_ROWS = 20_000
DIRECTIONS: tuple[tuple[Modality, Modality], ...] = (
    ("text", "image"),
    ("text", "text"),
    ("image", "text"),
)
"""Modality of the queries, modality searched."""
T = TypeVar("T")


class Encoder(FakeEncoder):
    """Encode the canaries only: all other vectors are supplied."""

    dim = DIM

    def encode_images(
        self, images: Any, batch_size: int = 32, role: str = "document"
    ) -> np.ndarray:
        return np.eye(DIM, dtype=np.float32)[: len(images)]

    def encode_texts(self, texts: Any, batch_size: int = 64, role: str = "document") -> np.ndarray:
        return np.eye(DIM, dtype=np.float32)[: len(texts)]


class Data:
    """Clusters of about fifty vectors, with captions of Zipf-distributed words."""

    def __init__(self, rows: int) -> None:
        self.rows, self.rng = rows, np.random.default_rng(0)
        self.centers = self.rng.standard_normal((max(1, rows // 50), DIM), dtype=np.float32)
        words = 30_000
        self.words = np.array([f"word{i}" for i in range(words)])
        self.weights = 1 / np.arange(1, words + 1)
        self.weights /= self.weights.sum()
        self.tags: list[int] = []

    def vectors(self, n: int) -> np.ndarray:
        centers = self.centers[self.rng.integers(0, len(self.centers), n)]
        vectors = centers + self.rng.standard_normal((n, DIM), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def captions(self, n: int) -> list[str]:
        return [
            " ".join(row)
            for row in self.words[self.rng.choice(len(self.words), (n, 11), p=self.weights)]
        ]

    def chunks(self) -> Iterator[tuple[list[Entry], np.ndarray]]:
        for start in range(0, self.rows, INGEST_ROWS):
            n = min(INGEST_ROWS, self.rows - start)
            tags = self.rng.integers(0, 1000, n).tolist()
            self.tags += tags
            entries = [
                Entry(
                    f"e{start + i}",
                    None,
                    (text,),
                    {"tag": tags[i], "kind": "abc"[i % 3], "year": 1900 + i % 120},
                )
                for i, text in enumerate(self.captions(n))
            ]
            yield entries, self.vectors(n)


def timed(work: Callable[..., T], *args: Any, **options: Any) -> tuple[float, T]:
    """Return the seconds that a call took, and its result."""
    start = time.perf_counter()
    result = work(*args, **options)
    return time.perf_counter() - start, result


def indexes(base: KnowledgeBase) -> IndexCache:
    """Return the indexes of a base in a folder."""
    backend = base._backend
    assert isinstance(backend, LocalBackend)
    return backend.indexes


def bare_sqlite(source: sqlite3.Connection, file: Path, first: int, last: int) -> float:
    """Return the seconds that plain sqlite3 takes to insert the same rows into equal tables.

    The rows are those of the entries `first` to `last` in `source`.
    """
    fresh = not file.exists()
    db = sqlite3.connect(file, isolation_level=None)
    for pragma in (
        "page_size = 8192",
        "journal_mode = WAL",
        "synchronous = FULL",
        "cache_size = -65536",
    ):
        db.execute(f"PRAGMA {pragma}")
    if fresh:
        for (sql,) in source.execute(
            "SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE 'sqlite_%'"
        ):
            db.execute(sql)
    rows = {
        table: source.execute(
            f"SELECT * FROM {table} WHERE {column} BETWEEN ? AND ?", (first, last)
        ).fetchall()
        for table, column in (("entry", "number"), ("part", "entry"), ("facet", "entry"))
    }
    rows["facet"].sort(key=lambda row: row[3])
    start = time.perf_counter()
    for at in range(0, last - first + 1, 4096):
        db.execute("BEGIN IMMEDIATE")
        for table, values in rows.items():
            per_entry = len(values) // (last - first + 1)
            marks = ", ".join("?" * len(values[0]))
            batch = values[at * per_entry : (at + 4096) * per_entry]
            db.executemany(f"INSERT INTO {table} VALUES ({marks})", batch)
        db.execute("COMMIT")
    seconds = time.perf_counter() - start
    db.close()
    return seconds


def ingest(data: Data, folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Build the base and return its vectors and figures.

    Rates are medians over chunks of 20,000 entries; bare inserts and ravlm's take turns.
    """
    ours, bare, vectors = [], [], []
    with KnowledgeBase.build(folder / "kb", [], encoder=Encoder()) as base:
        source = sqlite3.connect(folder / "kb" / "store.sqlite")
        for at, (entries, rows) in enumerate(data.chunks()):
            seconds, _ = timed(base.add, entries, vectors={"text": rows})
            ours.append(len(entries) / seconds)
            if at < 5:
                first = at * INGEST_ROWS + 1
                bare.append(
                    len(entries)
                    / bare_sqlite(source, folder / "bare.sqlite", first, first + len(entries) - 1)
                )
            vectors.append(rows)
        source.close()
        seconds, _ = timed(base.optimize)
    file = (folder / "kb" / "store.sqlite").stat().st_size
    return np.concatenate(vectors), {
        "entries a second, durable": statistics.median(ours),
        "bare sqlite3, entries a second": statistics.median(bare),
        "share of bare sqlite3": statistics.median(o / b for o, b in zip(ours, bare, strict=False)),
        "optimize, seconds": seconds,
        "store, bytes an entry": file / data.rows,
    }


def recall_at_k(results: Sequence[list[Any]], truth: np.ndarray) -> float:
    shares = [
        len(set(result) & set(best.tolist())) / len(best)
        for result, best in zip(results, truth, strict=False)  # a sample may have fewer results
    ]
    return float(np.mean(shares))


def numbers(hits: Sequence[Hit]) -> list[int]:
    """Return the row numbers of hits: 7 for the entry "e7"."""
    return [int(hit.entry.id[1:]) for hit in hits]


def entry_ids(rows: np.ndarray) -> np.ndarray:
    return np.char.add("e", rows.astype(str))


def measure_searches(
    base: KnowledgeBase, queries: np.ndarray, truth: np.ndarray, modality: Modality = "text"
) -> dict[str, Any]:
    """Measure searches one by one and in batches, taking turns with the same index in bare Faiss.

    `truth`: the ids of the ten nearest entries of each query.
    """
    index = indexes(base).vectors().by_modality[modality].segments[0].index
    parameters = index.search_parameters(TOP_K)

    def search_faiss(batch: np.ndarray) -> Any:
        return (index.ann or index.rows).search(batch, TOP_K, params=parameters)

    def search_base(batch: np.ndarray) -> Any:
        return base.search_many([{"vector": query} for query in batch], TOP_K, modality)

    single: dict[str, list[float]] = {"bare": [], "ravlm": []}
    batched: dict[str, list[float]] = {"bare": [], "ravlm": []}
    for query in queries[:400]:
        single["bare"].append(timed(search_faiss, query[None])[0])
        single["ravlm"].append(timed(base.search, vector=query, k=TOP_K, modality=modality)[0])
    for _ in range(3):
        results: list[list[str]] = []
        for start in range(0, len(queries), BATCH_SIZE):
            batch = queries[start : start + BATCH_SIZE]
            batched["bare"].append(timed(search_faiss, batch)[0])
            seconds, hits = timed(search_base, batch)
            batched["ravlm"].append(seconds)
            results += [[hit.entry.id for hit in of_query] for of_query in hits]
    p50 = {who: 1e3 * statistics.median(times) for who, times in single.items()}
    rate = {who: BATCH_SIZE / statistics.median(times) for who, times in batched.items()}
    return {
        "index": index.kind,
        "settings": dict(index.settings),
        "bytes a vector": index.row_bytes,
        "recall@10": recall_at_k(results, truth),
        "p50 ms": p50["ravlm"],
        "p99 ms": 1e3 * float(np.percentile(single["ravlm"], 99)),
        "bare Faiss, p50 ms": p50["bare"],
        "added to bare Faiss, ms": p50["ravlm"] - p50["bare"],
        "a second, batches of 64": rate["ravlm"],
        "bare Faiss, a second": rate["bare"],
        "share of bare Faiss": rate["ravlm"] / rate["bare"],
    }


def measure_filters(
    base: KnowledgeBase, queries: np.ndarray, vectors: np.ndarray, tag: np.ndarray
) -> dict[str, Any]:
    """Measure recall and time of searches with a filter, and time of the filter alone."""
    rows: dict[str, Any] = {}
    for name, where, mask in (
        ("10 %", "tag < 100", tag < 100),
        ("1 %", "tag < 10", tag < 10),
        ("0.1 %", "tag = 7", tag == 7),
    ):
        matching = np.flatnonzero(mask)
        if not len(matching):  # a thousand tags: few rows have only some of them
            continue
        k = min(TOP_K, len(matching))
        truth = matching[
            faiss.knn(queries[:50], vectors[matching], k, metric=faiss.METRIC_INNER_PRODUCT)[1]
        ]
        base.search(vector=queries[0], k=TOP_K, where=where)
        times, results = [], []
        for query in queries[:50]:
            seconds, hits = timed(base.search, vector=query, k=TOP_K, where=where)
            times.append(1e3 * seconds)
            results.append(numbers(hits))
        rows[name] = {"recall@10": recall_at_k(results, truth), "p50 ms": statistics.median(times)}
    tree = read_filter('tag < 500 and (kind in ["a", "b"] or not year >= 1950)')
    assert tree is not None
    facets = indexes(base).facets()
    rows["filter alone, ms"] = 1e3 * statistics.median(
        timed(facets.entry_mask, tree)[0] for _ in range(15)
    )
    return rows


def measure_keywords(base: KnowledgeBase, data: Data) -> dict[str, Any]:
    options = SearchOptions(method="keyword")
    captions = data.captions(200)
    first, _ = timed(base.search, text=captions[0], options=options)
    times = [1e3 * timed(base.search, text=text, k=TOP_K, options=options)[0] for text in captions]
    return {
        "first ms": 1e3 * first,
        "p50 ms": statistics.median(times),
        "p99 ms": float(np.percentile(times, 99)),
    }


def measure(rows: int, folder: Path) -> tuple[dict[str, Any], Data, np.ndarray]:
    data = Data(rows)
    vectors, figures = ingest(data, folder)
    queries = data.vectors(NUM_QUERIES)
    truth = faiss.knn(queries, vectors, TOP_K, metric=faiss.METRIC_INNER_PRODUCT)[1]

    def open_and_search() -> KnowledgeBase:
        base = KnowledgeBase.open(folder / "kb")
        base.search(vector=queries[0])
        return base

    opening, base = timed(open_and_search)
    with base:
        figures |= {
            "open and search once, seconds": opening,
            **measure_searches(base, queries, entry_ids(truth)),
        }
        faiss.omp_set_num_threads(2)
        figures["two threads"] = measure_searches(base, queries, entry_ids(truth))
        faiss.omp_set_num_threads(1)
        figures["filters"] = measure_filters(base, queries, vectors, np.array(data.tags))
        figures["keywords"] = measure_keywords(base, data)
    figures["peak memory MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures, data, vectors


def measure_flickr8k(data: Path, folder: Path, limit: int | None) -> dict[str, Any]:
    """Search Flickr8k: photos by captions, captions by captions, and captions by photos."""
    figures: dict[str, Any] = {}
    entries = islice(read_entries(data / "flickr8k" / "metadata.jsonl"), limit)
    with KnowledgeBase.build(folder, entries, encoder="starter") as base:
        seconds, _ = timed(base.optimize)
        info = base.info()
        figures |= {
            "entries": info.entries,
            "parts": dict(info.parts),
            "dim": info.dim,
            "optimize, seconds": seconds,
        }
        sample = {modality: base.sample(10**6, modality) for modality in MODALITIES}
        for source, modality in DIRECTIONS:
            queries = np.array([vector for _, _, vector in sample[source][:NUM_QUERIES]])
            vectors = np.array([vector for _, _, vector in sample[modality]])
            owners = np.array([entry.id for entry, _, _ in sample[modality]])
            best = faiss.knn(queries, vectors, 8 * TOP_K, metric=faiss.METRIC_INNER_PRODUCT)[1]
            # An entry has five captions: keep the first ten distinct entries.
            truth = np.array([list(dict.fromkeys(owners[row]))[:TOP_K] for row in best])
            figures[f"{source} to {modality}"] = measure_searches(base, queries, truth, modality)
    return figures


def main() -> None:
    """Parse the options, measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--real", type=Path, metavar="DATA")
    parser.add_argument(
        "--base", type=Path, default=Path("runs/bench-flickr8k"), help="where --real keeps its base"
    )
    parser.add_argument("--limit", type=int, help="entries of --real, for a short run")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        if options.real:
            figures = measure_flickr8k(options.real, options.base, options.limit)
        else:
            figures, data, vectors = measure(options.rows, folder)
            if options.others:
                figures["others"] = measure_engines(vectors, data.vectors(200), folder)
    finally:
        shutil.rmtree(folder)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    head = {"machine": platform.machine(), "avx512": "avx512f" in flags}
    figures = ({} if options.real else {"rows": options.rows}) | head | figures
    figures["load when it ended"] = Path("/proc/loadavg").read_text().split()[0] if flags else ""
    print(json.dumps(figures, indent=1))
    write_json(figures, options.json)


if __name__ == "__main__":
    main()
