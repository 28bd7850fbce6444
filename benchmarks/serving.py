"""Compare the server with direct calls of the library.

    python -m benchmarks.serving [--seconds 5] [--load 60] [--kb FOLDER]

A process of its own serves the knowledge base of the demo (or `--kb`) with the starter. For search,
embeddings and questions the script measures sequential calls of the library in this process, then
HTTP requests by 1, 8 and 32 clients, each of which waits for a response before its next request.
Next to the wall-clock time it reports CPU time, which other work on the machine hardly affects: of
this process for library calls, of the server for requests. No text is sent twice. `--load` runs 50
clients for that many seconds, all verbs mixed, and reports failed requests and the server's memory
at each tenth of the time. Clients and server share the machine."""

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

from benchmarks.reports import write_json
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
    """Build the knowledge base of `ravlm demo`."""
    command = [sys.executable, "-m", "ravlm.cli", "demo", "--out", str(folder / "demo"), "--json"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "demo" / "kb"


def calls(kb: Path) -> dict[str, tuple[list[Call], list[Callable[[], object]]]]:
    """Return for each verb the requests, and the same calls of the library."""
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
    questions = [
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
            [("/v1/ask", {"question": question}) for question in questions],
            [lambda question=question: model.ask(question) for question in questions],  # type: ignore[misc]
        ),
        "ask about a picture": (
            [("/v1/ask", {"question": QUESTIONS[0], "image": url}) for url in urls],
            [lambda data=data: model.ask(QUESTIONS[0], data) for data in pictures],  # type: ignore[misc]
        ),
    }


@contextmanager
def served(kb: Path) -> Iterator[tuple[int, psutil.Process]]:
    """Start a server, wait until it is ready, and yield its port and process."""
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
    """One persistent connection that sends prepared bytes, so it costs little CPU time itself."""

    async def ask(self, port: int, request: bytes) -> int:
        """Send a request, read the whole response, and return its status."""
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
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + data


async def drive(
    port: int, requests: Sequence[bytes], clients: int, seconds: float
) -> tuple[list[float], Counter[int]]:
    """Return the latencies and statuses of all requests within `seconds`."""
    numbers, latencies, statuses = count(), [], Counter[int]()
    end = time.perf_counter() + seconds

    async def one() -> None:
        client = Client()
        while time.perf_counter() < end:
            start_time = time.perf_counter()
            try:
                status = await client.ask(port, requests[next(numbers) % len(requests)])
            except (OSError, asyncio.IncompleteReadError):
                status, client = 0, Client()
            latencies.append(time.perf_counter() - start_time)
            statuses[status] += 1

    await asyncio.gather(*(one() for _ in range(clients)))
    return latencies, statuses


def figures(latencies: Sequence[float], seconds: float, cpu_seconds: float) -> dict[str, float]:
    """Return median and 95th percentile in ms, requests per second, and CPU ms per request; the
    requests took `cpu_seconds` in total."""
    twentieths = statistics.quantiles(latencies, n=20)
    num_requests = len(latencies)
    return {
        "p50": round(statistics.median(latencies) * 1e3, 2),
        "p95": round(twentieths[18] * 1e3, 2),
        "per_second": round(num_requests / seconds, 2),
        "processor": round(cpu_seconds / num_requests * 1e3, 2),
    }


def cpu_time(process: psutil.Process) -> float:
    """Return the CPU seconds of a process."""
    times = process.cpu_times()
    return times.user + times.system


def bare(work: Sequence[Callable[[], object]], seconds: float) -> dict[str, float]:
    """Measure sequential calls of the library."""
    for call in work[:5]:
        call()
    latencies: list[float] = []
    start_time, cpu_seconds = time.perf_counter(), time.process_time()
    while time.perf_counter() - start_time < seconds:
        start = time.perf_counter()
        work[len(latencies) % len(work)]()
        latencies.append(time.perf_counter() - start)
    return figures(latencies, time.perf_counter() - start_time, time.process_time() - cpu_seconds)


def load(
    port: int, process: psutil.Process, requests: Sequence[bytes], seconds: float
) -> dict[str, Any]:
    """Run 50 clients; return the statuses, and the memory in MiB at each tenth of the time."""
    latencies: list[float] = []
    statuses, memory, cpu_seconds = Counter[int](), [], cpu_time(process)
    for tenth in range(10):
        start = tenth * len(requests) // 10
        tenth_latencies, tenth_statuses = asyncio.run(
            drive(port, [*requests[start:], *requests[:start]], 50, seconds / 10)
        )
        latencies += tenth_latencies
        statuses += tenth_statuses
        memory.append(round(process.memory_info().rss / 2**20))
    return {"statuses": dict(statuses), "MiB": memory} | figures(
        latencies, seconds, cpu_time(process) - cpu_seconds
    )


def main() -> None:
    """Parse the options, measure and print."""
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
        results: dict[str, Any] = {}
        ready: dict[str, list[bytes]] = {}
        for verb, (questions, work) in calls(kb).items():
            ready[verb] = [as_bytes(call) for call in questions]
            results[verb] = {"library": bare(work, options.seconds)}
        with served(kb) as (port, process):
            for verb, requests in ready.items():
                asyncio.run(drive(port, requests[-100:], 4, 1))
                for index, clients in enumerate(CLIENTS):
                    start, cpu_seconds = index * len(requests) // len(CLIENTS), cpu_time(process)
                    latencies, statuses = asyncio.run(
                        drive(port, requests[start:], clients, options.seconds)
                    )
                    assert set(statuses) == {200}, statuses
                    cpu_seconds = cpu_time(process) - cpu_seconds
                    results[verb][f"{clients} clients"] = figures(
                        latencies, options.seconds, cpu_seconds
                    )
                for name, row in results[verb].items():
                    cells = "  ".join(f"{what} {value:8.1f}" for what, value in row.items())
                    print(f"{verb:20} {name:12} {cells}", flush=True)
            if options.load:
                mixed = list(
                    chain.from_iterable(
                        islice(zip(*map(cycle, ready.values()), strict=True), 5_000)
                    )
                )
                results["load of 50 clients"] = load(port, process, mixed, options.load)
                print(f"load of 50 clients for {options.load:g} s: {results['load of 50 clients']}")
        write_json(results, options.json)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
