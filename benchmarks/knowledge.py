"""What a knowledge base costs beside bare Faiss and others: python benchmarks/knowledge.py [--rows
100000] [--others]

On clustered unit vectors of 512 dimensions with captions and metadata, in one run on one thread:
durable ingest beside bare sqlite3 inserts of equal rows, index building, opening, searches one by
one and in batches beside bare Faiss with the very same index, filters, keywords. `--others`:
hnswlib, usearch, LanceDB and Milvus Lite, as far as installed (pip install hnswlib usearch
lancedb).

`--real ../shared/data`: photos and captions of Flickr8k through the starter instead, encoded once
and kept in `--base`; a sample of them is looked for, in the other modality and its own."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import resource
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.helpers.fakes import FakeEncoder

from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index import faiss_index
from ravlm.records import Entry, Modality
from ravlm.search.options import SearchOptions

DIM, TOP, QUERIES, BATCH, CHUNK = 512, 10, 640, 64, 20_000


class Encoder(FakeEncoder):
    """Encodes nothing but the canaries: all vectors are given."""

    dim = DIM

    def encode_images(self, images: Any, batch_size: int = 32) -> np.ndarray:
        return np.eye(DIM, dtype=np.float32)[: len(images)]

    def encode_texts(self, texts: Any, batch_size: int = 64) -> np.ndarray:
        return np.eye(DIM, dtype=np.float32)[: len(texts)]


class Data:
    """Clusters of about fifty; the caption's words are as unevenly frequent as a language's."""

    def __init__(self, rows: int) -> None:
        self.rows, self.rng = rows, np.random.default_rng(0)
        self.centres = self.rng.standard_normal((max(1, rows // 50), DIM), dtype=np.float32)
        words = 30_000
        self.words = np.array([f"word{i}" for i in range(words)])
        self.weights = 1 / np.arange(1, words + 1)
        self.weights /= self.weights.sum()
        self.tags: list[int] = []

    def vectors(self, n: int) -> np.ndarray:
        found = self.centres[self.rng.integers(0, len(self.centres), n)]
        found = found + self.rng.standard_normal((n, DIM), dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def captions(self, n: int) -> list[str]:
        return [
            " ".join(row)
            for row in self.words[self.rng.choice(len(self.words), (n, 11), p=self.weights)]
        ]

    def chunks(self) -> Iterator[tuple[list[Entry], np.ndarray]]:
        for start in range(0, self.rows, CHUNK):
            n = min(CHUNK, self.rows - start)
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


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def bare_sqlite(source: sqlite3.Connection, file: Path, first: int, last: int) -> float:
    """Seconds in which plain sqlite3 inserts the rows of the entries `first` to `last` into equal
    tables."""
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
        for table, some in rows.items():
            each = len(some) // (last - first + 1)
            marks = ", ".join("?" * len(some[0]))
            db.executemany(
                f"INSERT INTO {table} VALUES ({marks})", some[at * each : (at + 4096) * each]
            )
        db.execute("COMMIT")
    seconds = time.perf_counter() - start
    db.close()
    return seconds


def ingest(data: Data, folder: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """Build the base; rates are medians over chunks of 20,000, and the bare inserts take turns with
    ravlm's."""
    ours, bare, vectors = [], [], []
    with KnowledgeBase.build(folder / "kb", [], encoder=Encoder()) as base:
        source = sqlite3.connect(folder / "kb" / "store.sqlite")
        for at, (entries, rows) in enumerate(data.chunks()):
            seconds, _ = timed(
                lambda entries=entries, rows=rows: base.add(entries, vectors={"text": rows})
            )
            ours.append(len(entries) / seconds)
            if at < 5:
                first = at * CHUNK + 1
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


def share_found(found: Sequence[list[Any]], truth: np.ndarray) -> float:
    return float(
        np.mean(
            [len(set(some) & set(best.tolist())) / len(best) for some, best in zip(found, truth)]
        )
    )  # noqa: B905


def numbers(hits: list[Any]) -> list[int]:
    return [int(hit.entry.id[1:]) for hit in hits]


def names(rows: np.ndarray) -> np.ndarray:
    """The ids of entries by the rows of their vectors."""
    return np.char.add("e", rows.astype(str))


def searches(
    base: KnowledgeBase, queries: np.ndarray, truth: np.ndarray, modality: Modality = "text"
) -> dict[str, Any]:
    """One by one and in batches, turn by turn with the same index in bare Faiss. `truth`: ids of
    the ten best."""
    made = base._backend.live.vectors().by_modality[modality].segments[0].made
    index, limit = (
        made.shortcut or made.rows,
        faiss_index.parameters(made, TOP) if made.shortcut else None,
    )
    one: dict[str, list[float]] = {"bare": [], "ravlm": []}
    many: dict[str, list[float]] = {"bare": [], "ravlm": []}
    found: list[list[str]] = []
    for query in queries[:400]:
        one["bare"].append(
            timed(lambda query=query: index.search(query[None], TOP, params=limit))[0]
        )
        one["ravlm"].append(
            timed(lambda query=query: base.search(vector=query, k=TOP, modality=modality))[0]
        )
    for _ in range(3):
        found = []
        for start in range(0, len(queries), BATCH):
            some = queries[start : start + BATCH]
            asked = [{"vector": query} for query in some]
            many["bare"].append(timed(lambda some=some: index.search(some, TOP, params=limit))[0])
            seconds, hits = timed(lambda asked=asked: base.search_many(asked, TOP, modality))
            many["ravlm"].append(seconds)
            found += [[hit.entry.id for hit in some] for some in hits]
    p50 = {who: 1e3 * statistics.median(times) for who, times in one.items()}
    rate = {who: BATCH / statistics.median(times) for who, times in many.items()}
    return {
        "index": made.kind, "settings": dict(made.settings), "bytes a vector": made.row_bytes,
        "recall@10": share_found(found, truth),
        "p50 ms": p50["ravlm"], "p99 ms": 1e3 * float(np.percentile(one["ravlm"], 99)),
        "bare Faiss, p50 ms": p50["bare"], "added to bare Faiss, ms": p50["ravlm"] - p50["bare"],
        "a second, batches of 64": rate["ravlm"], "bare Faiss, a second": rate["bare"],
        "share of bare Faiss": rate["ravlm"] / rate["bare"],
    }  # fmt: skip


def filtered(
    base: KnowledgeBase, queries: np.ndarray, vectors: np.ndarray, tag: np.ndarray
) -> dict[str, Any]:
    """Recall and time of searches with a filter, and of the filter alone."""
    rows: dict[str, Any] = {}
    for name, where, mask in (
        ("10 %", "tag < 100", tag < 100), ("1 %", "tag < 10", tag < 10), ("0.1 %", "tag = 7", tag == 7),
    ):  # fmt: skip
        kept = np.flatnonzero(mask)
        truth = kept[
            faiss.knn(queries[:50], vectors[kept], TOP, metric=faiss.METRIC_INNER_PRODUCT)[1]
        ]
        base.search(vector=queries[0], k=TOP, where=where)
        times, found = [], []
        for query in queries[:50]:
            seconds, hits = timed(
                lambda query=query, where=where: base.search(vector=query, k=TOP, where=where)
            )
            times.append(1e3 * seconds)
            found.append(numbers(hits))
        rows[name] = {"recall@10": share_found(found, truth), "p50 ms": statistics.median(times)}
    from ravlm.search.filter_parser import read_filter

    tree = read_filter('tag < 500 and (kind in ["a", "b"] or not year >= 1950)')
    assert tree is not None
    facets = base._backend.live.facets()
    rows["filter alone, ms"] = 1e3 * statistics.median(
        timed(lambda: facets.entry_mask(tree))[0] for _ in range(15)
    )
    return rows


def keywords(base: KnowledgeBase, data: Data) -> dict[str, Any]:
    options = SearchOptions(method="keyword")
    asked = data.captions(200)
    first, _ = timed(lambda: base.search(text=asked[0], options=options))
    times = [
        1e3 * timed(lambda text=text: base.search(text=text, k=TOP, options=options))[0]
        for text in asked
    ]
    return {
        "first ms": 1e3 * first,
        "p50 ms": statistics.median(times),
        "p99 ms": float(np.percentile(times, 99)),
    }


def measure(rows: int, folder: Path) -> tuple[dict[str, Any], Data, np.ndarray]:
    data = Data(rows)
    vectors, figures = ingest(data, folder)
    queries = data.vectors(QUERIES)
    truth = faiss.knn(queries, vectors, TOP, metric=faiss.METRIC_INNER_PRODUCT)[1]

    def first() -> KnowledgeBase:
        base = KnowledgeBase.open(folder / "kb")
        base.search(vector=queries[0])
        return base

    opening, base = timed(first)
    with base:
        figures |= {
            "open and search once, seconds": opening,
            **searches(base, queries, names(truth)),
        }
        faiss.omp_set_num_threads(2)
        figures["two threads"] = searches(base, queries, names(truth))
        faiss.omp_set_num_threads(1)
        figures["filters"] = filtered(base, queries, vectors, np.array(data.tags))
        figures["keywords"] = keywords(base, data)
    figures["peak memory MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures, data, vectors


def real(data: Path, folder: Path) -> dict[str, Any]:
    """Photos and captions of Flickr8k: a thousand captions look for photos, and a thousand photos
    for captions."""
    from ravlm.data.readers import read_entries

    figures: dict[str, Any] = {}
    with KnowledgeBase.build(
        folder, read_entries(data / "flickr8k" / "metadata.jsonl"), encoder="starter"
    ) as base:
        seconds, _ = timed(base.optimize)
        info = base.info()
        figures |= {
            "entries": info.entries,
            "parts": dict(info.parts),
            "dim": info.dim,
            "optimize, seconds": seconds,
        }
        every = {m: base.sample(10**6, m) for m in ("image", "text")}
        for source, modality in (("text", "image"), ("text", "text"), ("image", "text")):
            queries = np.array([vector for _, _, vector in every[source][:QUERIES]])
            vectors = np.array([vector for _, _, vector in every[modality]])
            owners = np.array([entry.id for entry, _, _ in every[modality]])
            best = faiss.knn(queries, vectors, 8 * TOP, metric=faiss.METRIC_INNER_PRODUCT)[1]
            truth = np.array(
                [list(dict.fromkeys(owners[row]))[:TOP] for row in best]
            )  # an entry has five captions
            figures[f"{source} to {modality}"] = searches(base, queries, truth, modality)
    return figures


def others(vectors: np.ndarray, queries: np.ndarray, folder: Path) -> dict[str, Any]:
    """The same vectors and queries in other engines, with settings near a recall of 0.95."""
    truth = faiss.knn(queries, vectors, TOP, metric=faiss.METRIC_INNER_PRODUCT)[1]
    makers = {"hnswlib": _hnswlib, "usearch": _usearch, "lancedb": _lancedb, "pymilvus": _milvus}
    found: dict[str, Any] = {}
    for name, make in makers.items():
        try:
            importlib.import_module(name)
        except ImportError:
            found[name] = "not installed"
            continue
        seconds, ask = timed(lambda make=make: make(vectors, folder))
        times, hits = [], []
        for query in queries[:200]:
            took, some = timed(lambda query=query, ask=ask: ask(query))
            times.append(took)
            hits.append(some)
        found[name] = {
            "build, seconds": seconds, "recall@10": share_found(hits, truth),
            "p50 ms": 1e3 * statistics.median(times), "a second, one by one": 1 / statistics.mean(times),
        }  # fmt: skip
        print(name, found[name], file=sys.stderr, flush=True)
    return found


Ask = Callable[[np.ndarray], list[int]]


def _hnswlib(vectors: np.ndarray, folder: Path) -> Ask:
    import hnswlib

    index = hnswlib.Index("ip", DIM)
    index.init_index(len(vectors), ef_construction=100, M=32)
    index.set_num_threads(1)
    index.add_items(vectors)
    index.set_ef(64)
    return lambda query: index.knn_query(query, TOP)[0][0].tolist()


def _usearch(vectors: np.ndarray, folder: Path) -> Ask:
    from usearch.index import Index

    index = Index(ndim=DIM, metric="ip", dtype="f16", connectivity=32, expansion_search=64)
    index.add(np.arange(len(vectors)), vectors, threads=1)
    return lambda query: index.search(query, TOP, threads=1).keys.tolist()


def _lancedb(vectors: np.ndarray, folder: Path) -> Ask:
    import lancedb
    import pyarrow as pa

    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIM)
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
        .limit(TOP)
        .to_list()
    ]


def _milvus(vectors: np.ndarray, folder: Path) -> Ask:
    from pymilvus import MilvusClient

    client = MilvusClient(str(folder / "milvus.db"))
    client.create_collection("t", dimension=DIM, metric_type="IP")
    for start in range(0, len(vectors), 2000):
        rows = vectors[start : start + 2000]
        client.insert("t", [{"id": start + i, "vector": row} for i, row in enumerate(rows)])
    return lambda query: [hit["id"] for hit in client.search("t", [query], limit=TOP)[0]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--real", type=Path, metavar="DATA")
    parser.add_argument(
        "--base", type=Path, default=Path("runs/bench-flickr8k"), help="where --real keeps its base"
    )
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    faiss.omp_set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    try:
        if given.real:
            figures = real(given.real, given.base)
        else:
            figures, data, vectors = measure(given.rows, folder)
        if given.others:
            figures["others"] = others(vectors, data.vectors(200), folder)
    finally:
        shutil.rmtree(folder)
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    head = {"machine": platform.machine(), "avx512": "avx512f" in flags}
    figures = ({} if given.real else {"rows": given.rows}) | head | figures
    figures["load when it ended"] = Path("/proc/loadavg").read_text().split()[0] if flags else ""
    text = json.dumps(figures, indent=2)
    print(text)
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
