"""The server beside the bare library: python benchmarks/serving.py [--seconds 5] [--load 60] [--kb
FOLDER]

A base of the demo's photos (or `--kb`) with the starter is served by a process of its own. For
search, embeddings and questions: the calls of the library in this process, one after another; then
requests over HTTP by 1, 8 and 32 clients that each send the next one when the last is answered.
Beside the time on the clock stands the processor's, which other work on the machine leaves alone:
of this process for the library's calls, of the server's for requests. No words are asked twice.
`--load`: 50 clients for so many seconds, all verbs mixed; what was lost, and the server's memory at
each tenth of the time. Clients and server share the machine."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, count, cycle, islice, product
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

from ravlm import KnowledgeBase, RetrievalAugmentedVLM

CLIENTS = (1, 8, 32)
QUESTIONS = (
    "What colour is it?",
    "What is it?",
    "Where is it?",
    "Who made it?",
    "What kind of thing is it?",
)
PLACES = (
    "at night",
    "in the rain",
    "on a table",
    "by the sea",
    "in a garden",
    "from above",
    "in winter",
    "up close",
)
ROUNDS = 50
Call = tuple[str, dict[str, Any]]


def make_base(folder: Path) -> Path:
    """The base of `ravlm demo`."""
    command = [sys.executable, "-m", "ravlm.cli", "demo", "--out", str(folder / "demo"), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "demo" / "kb"


def calls(kb: Path) -> dict[str, tuple[list[Call], list[Callable[[], object]]]]:
    """For each verb: requests, and the same calls of the library."""
    base = KnowledgeBase.open(kb)
    model = RetrievalAugmentedVLM(base)
    entries = base.page(200).entries
    names = [
        text.splitlines()[0].partition(":")[2].strip()
        for entry in entries
        for text in entry.texts[:1]
    ]
    rounds = list(product(range(ROUNDS), PLACES, QUESTIONS, filter(None, names)))
    words = [
        f"{name} {place}, photo {number}"
        for number, place, question, name in rounds[:: len(QUESTIONS)]
    ]
    asked = [
        f"{question[:-1]}: the {name} {place} of photo {number}?"
        for number, place, question, name in rounds
    ]
    pictures = [Path(str(entry.image)).read_bytes() for entry in entries if entry.image is not None]
    urls = [f"data:image/jpeg;base64,{base64.b64encode(data).decode()}" for data in pictures]
    encoder = base.encoder
    return {
        "search": (
            [("/v1/search", {"text": text, "k": 5}) for text in words],
            [lambda text=text: base.search(text=text, k=5) for text in words],  # type: ignore[misc]
        ),
        "embeddings": (
            [("/v1/embeddings", {"model": "ravlm", "input": text}) for text in words],
            [lambda text=text: encoder.encode_texts([text]) for text in words],  # type: ignore[misc]
        ),
        "ask": (
            [("/v1/ask", {"question": question}) for question in asked],
            [lambda question=question: model.ask(question) for question in asked],  # type: ignore[misc]
        ),
        "ask about a picture": (
            [("/v1/ask", {"question": QUESTIONS[0], "image": url}) for url in urls],
            [lambda data=data: model.ask(QUESTIONS[0], data) for data in pictures],  # type: ignore[misc]
        ),
    }


@contextmanager
def served(kb: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The port and process of a server that is ready."""
    command = [sys.executable, "-m", "ravlm.cli", "serve", str(kb), "--port", "0", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    port = int(json.loads(server.stdout.readline())["address"].rpartition(":")[2])
    while True:
        try:
            urlopen(f"http://127.0.0.1:{port}/ready").close()
            break
        except OSError:
            time.sleep(0.1)
    try:
        yield port, psutil.Process(server.pid)
    finally:
        server.terminate()
        assert server.wait(60) == 0


class Client:
    """One connection that is kept open; sends bytes that are ready, so that it costs little beside
    the server."""

    async def ask(self, port: int, request: bytes) -> int:
        """The status of the answer; the body is read to its end."""
        if not hasattr(self, "reader"):
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = next(
            line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        await self.reader.readexactly(int(length.split(b":")[1]))
        return int(head[9:12])


def as_bytes(call: Call) -> bytes:
    path, body = call
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    return f"{head}\r\n\r\n".encode() + data


async def drive(
    port: int, requests: Sequence[bytes], clients: int, seconds: float
) -> tuple[list[float], Counter[int]]:
    """Latencies and statuses of all that was asked in so many seconds."""
    numbers, latencies, statuses = count(), [], Counter[int]()
    end = time.perf_counter() + seconds

    async def one() -> None:
        client = Client()
        while time.perf_counter() < end:
            began = time.perf_counter()
            try:
                status = await client.ask(port, requests[next(numbers) % len(requests)])
            except (OSError, asyncio.IncompleteReadError):
                status, client = 0, Client()
            latencies.append(time.perf_counter() - began)
            statuses[status] += 1

    await asyncio.gather(*(one() for _ in range(clients)))
    return latencies, statuses


def figures(latencies: Sequence[float], seconds: float, spent: float) -> dict[str, float]:
    """Median and 95th percentile in milliseconds, how many a second, and the processor's
    milliseconds for each, of `spent` seconds."""
    cuts, done = statistics.quantiles(latencies, n=20), len(latencies)
    return {
        "p50": round(statistics.median(latencies) * 1e3, 2),
        "p95": round(cuts[18] * 1e3, 2),
        "per_second": round(done / seconds, 2),
        "processor": round(spent / done * 1e3, 2),
    }


def spent_by(process: psutil.Process) -> float:
    """Seconds of the processor that a process has had."""
    times = process.cpu_times()
    return times.user + times.system


def bare(work: Sequence[Callable[[], object]], seconds: float) -> dict[str, float]:
    """The library's calls, one after another."""
    for each in work[:5]:
        each()
    latencies: list[float] = []
    began, spent = time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        start = time.perf_counter()
        work[len(latencies) % len(work)]()
        latencies.append(time.perf_counter() - start)
    return figures(latencies, time.perf_counter() - began, time.process_time() - spent)


def load(
    port: int, process: psutil.Process, requests: Sequence[bytes], seconds: float
) -> dict[str, Any]:
    """50 clients: what was lost, and the memory at each tenth of the time."""
    latencies: list[float] = []
    statuses, memory, spent = Counter[int](), [], spent_by(process)
    for tenth in range(10):
        start = tenth * len(requests) // 10
        found, more = asyncio.run(
            drive(port, [*requests[start:], *requests[:start]], 50, seconds / 10)
        )
        latencies += found
        statuses += more
        memory.append(round(process.memory_info().rss / 2**20))
    return {"statuses": dict(statuses), "MiB": memory} | figures(
        latencies, seconds, spent_by(process) - spent
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kb", type=Path)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--load", type=float, default=60)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp())
    try:
        kb = options.kb or make_base(scratch)
        found: dict[str, Any] = {}
        ready: dict[str, list[bytes]] = {}
        for verb, (asked, work) in calls(kb).items():
            ready[verb] = [as_bytes(call) for call in asked]
            found[verb] = {"library": bare(work, options.seconds)}
        with served(kb) as (port, process):
            for verb, requests in ready.items():
                asyncio.run(drive(port, requests[-100:], 4, 1))
                for place, clients in enumerate(CLIENTS):
                    start, spent = place * len(requests) // len(CLIENTS), spent_by(process)
                    latencies, statuses = asyncio.run(
                        drive(port, requests[start:], clients, options.seconds)
                    )
                    assert set(statuses) == {200}, statuses
                    spent = spent_by(process) - spent
                    found[verb][f"{clients} clients"] = figures(latencies, options.seconds, spent)
                for name, row in found[verb].items():
                    cells = "  ".join(f"{what} {value:8.1f}" for what, value in row.items())
                    print(f"{verb:20} {name:12} {cells}", flush=True)
            if options.load:
                mixed = list(
                    chain.from_iterable(
                        islice(zip(*map(cycle, ready.values()), strict=True), 5_000)
                    )
                )
                found["load of 50 clients"] = load(port, process, mixed, options.load)
                print(f"load of 50 clients for {options.load:g} s: {found['load of 50 clients']}")
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
