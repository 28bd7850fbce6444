"""Health, readiness, metrics, batching, and an end in the middle of a stream."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator as Stream
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ravlm.generation.base import Generator, Request
from ravlm.records import Answer
from ravlm.serving.batching import DynamicBatcher
from ravlm.serving.metrics import Metrics
from ravlm.serving.settings import Settings
from tests.helpers import endpoints
from tests.helpers.servers import Running, running, url_of


class Slow(Generator):
    """Says "a b c" when `go` is set, and not before."""

    name = "slow"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.batches: list[int] = []

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        self.batches.append(len(requests))
        assert self.go.wait(30)
        return [Answer("a b c", request.evidence.hits) for request in requests]


class Endless(Generator):
    """Says "word" for ever, twenty times a second."""

    name = "endless"

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        return [Answer("word") for _ in requests]

    def stream(self, request: Request) -> Stream[str, None, Answer]:
        while True:
            time.sleep(0.05)
            yield "word "


def test_health_and_readiness(kb: Path) -> None:
    """Ready only when a request is served; until then each is told so."""
    slow = Slow()
    with running(kb, None, slow, wait=False) as server:
        assert server.client.get("/health").json() == {"status": "ok"}
        waiting = server.client.get("/ready")
        assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "1")
        assert server.post("/v1/search", text="red").status_code == 503
        slow.go.set()
        while server.client.get("/ready").status_code != 200:
            time.sleep(0.01)
        assert server.post("/v1/search", text="red").status_code == 200
        server.engine.stopping = True
        assert server.client.get("/ready").status_code == 503
        assert server.client.get("/health").status_code == 200


def samples(server: Running) -> dict[str, float]:
    """The metrics, by name and labels. Each line is of the text format."""
    text = server.client.get("/metrics").text
    line = re.compile(r'([a-z_]+(?:\{(?:[a-z]+="[^"]*",?)+\})?) ([0-9.e+-]+)')
    found = {}
    for each in text.splitlines():
        if not each.startswith("# "):
            match = line.fullmatch(each)
            assert match is not None, each
            found[match[1]] = float(match[2])
    return found


def test_metrics_count_requests_and_stages(kb: Path) -> None:
    with running(kb) as server:
        before = samples(server)
        for colour in ("red", "blue"):
            server.post("/v1/search", image=url_of(colour))
            server.post("/v1/ask", question="What size is it?", image=url_of(colour))
        server.post("/v1/search", text="x", k=0)
        after = samples(server)

    def more(name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert more('ravlm_requests_total{method="POST",route="/v1/search",status="200"}') == 2
    assert more('ravlm_requests_total{method="POST",route="/v1/search",status="400"}') == 1
    assert more('ravlm_request_seconds_count{route="/v1/ask"}') == 2
    assert more('ravlm_stage_seconds_count{stage="decode"}') == 4
    assert more('ravlm_stage_seconds_count{stage="generate"}') == 2
    assert more('ravlm_stage_seconds_count{stage="search"}') >= 4
    assert more('ravlm_stage_seconds_count{stage="encode"}') >= 4
    assert more('ravlm_batch_requests_count{lane="encode"}') == 2
    assert after["ravlm_ready"] == 1
    buckets = [
        value
        for name, value in after.items()
        if name.startswith('ravlm_request_seconds_bucket{route="/v1/ask"')
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == after['ravlm_request_seconds_count{route="/v1/ask"}']


def test_stages_within_stages_are_counted_once() -> None:
    metrics = Metrics()
    with metrics.stage("generate"):
        time.sleep(0.02)
        with metrics.stage("encode"):
            time.sleep(0.05)
    text = metrics.text()
    encode, generate = (
        float(re.search(rf'sum{{stage="{n}"}} (.*)', text)[1]) for n in ("encode", "generate")
    )  # type: ignore[index]
    assert 0.05 <= encode < 0.2
    assert 0.02 <= generate < encode


def test_what_waits_goes_together() -> None:
    """While one batch is worked on, the next gathers; keys don't mix, order stays, one alone is not
    delayed."""
    seen: list[tuple[str, list[int]]] = []

    def work(key: str, items: list[int]) -> list[int]:
        seen.append((key, items))
        time.sleep(0.05)
        return [item * 2 for item in items]

    async def ask() -> list[int]:
        lane: DynamicBatcher[int, int] = DynamicBatcher("test", work, 4, 50, Metrics())
        first = asyncio.create_task(lane.run("a", 0))
        await asyncio.sleep(0.01)
        rest = [lane.run("b" if n == 3 else "a", n) for n in range(1, 8)]
        found = [await first, *(await asyncio.gather(*rest))]
        lane.close()
        return found

    assert asyncio.run(ask()) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert seen == [("a", [0]), ("a", [1, 2, 4, 5]), ("b", [3]), ("a", [6, 7])]


def test_words_are_encoded_together_ahead_of_those_who_ask() -> None:
    """Sixteen questions at once once went through the encoder one by one."""
    import numpy as np

    from ravlm.serving.state import REMEMBERED, WatchedEncoder
    from tests.helpers.fakes import FakeEncoder

    class Counting(FakeEncoder):
        seen: list[list[str]] = []  # noqa: RUF012 - one instance

        def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
            self.seen.append(list(texts))
            return super().encode_texts(texts, batch_size)

    encoder = Counting()
    watched = WatchedEncoder(encoder, Metrics())
    watched.remember(["red", "blue"])
    assert np.array_equal(watched.encode_texts(["blue"]), FakeEncoder().encode_texts(["blue"]))
    assert np.array_equal(
        watched.encode_texts(["blue", "red"]), FakeEncoder().encode_texts(["blue", "red"])
    )
    assert encoder.seen == [["red", "blue"]]
    assert watched.encode_texts(["red", "green"]).shape == (2, 64)
    assert watched.encode_texts([]).shape == (0, 64)
    watched.remember(["green", "red"])
    assert encoder.seen[1:] == [["red", "green"], [], ["green"]]
    watched.remember([f"word {n}" for n in range(REMEMBERED)])
    assert len(watched._memory) == REMEMBERED


def test_one_that_gave_up_is_not_worked_on() -> None:
    seen: list[int] = []

    def work(key: str, items: list[int]) -> list[int]:
        seen.extend(items)
        time.sleep(0.1)
        return items

    async def ask() -> None:
        lane: DynamicBatcher[int, int] = DynamicBatcher("test", work, 1, 50, Metrics())
        first = asyncio.create_task(lane.run("a", 1))
        await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(lane.run("a", 2), 0.01)
        assert await lane.run("a", 3) == 3
        await first
        lane.close()

    asyncio.run(ask())
    assert seen == [1, 3]


def test_a_client_that_goes_away_ends_its_stream(kb: Path) -> None:
    with running(kb, None, Endless()) as server:
        body = {"question": "What is the red square?", "stream": True}
        with server.client.stream("POST", "/v1/ask", json=body) as response:
            lines = (
                response.iter_lines()
            )  # kept: with the iterator, the client would go away already
            next(lines)
            assert server.engine.streams.live == 1
        for _ in range(300):
            if server.engine.streams.live == 0:
                break
            time.sleep(0.01)
        assert server.engine.streams.live == 0


def test_streams_end_with_a_sentence_when_the_server_stops(kb: Path) -> None:
    with running(kb, Settings(port=0, grace=0.3), Endless()) as server:
        body = {"question": "What is the red square?", "stream": True}
        with server.client.stream("POST", "/v1/ask", json=body) as response:
            lines = response.iter_lines()
            assert "piece" in next(lines)
            server.server.should_exit = True
            rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert "stopping" in rest[-2]
    assert len(rest) > 3


STARTED = """
import sys
from tests.helpers.fakes import FakeEncoder
from ravlm.encoders import auto
auto.load_encoder = lambda name: FakeEncoder()
from ravlm.cli import main
sys.exit(main(sys.argv[1:]))
"""


def started(kb: Path, *more: str) -> tuple[subprocess.Popen[str], str]:
    """`ravlm serve` as a process of its own, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED, "serve", str(kb), "--port", "0", "--json", *more],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ),
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    address = json.loads(line)["address"]
    while httpx2.get(f"{address}/ready").status_code != 200:
        time.sleep(0.05)
    return process, address


def test_sigterm_in_mid_stream_ends_cleanly(kb: Path) -> None:
    """The words come to their end, [DONE] included, and the process ends with code 0."""
    words = ["a ", "red ", "square ", "with ", "four ", "corners"]
    with endpoints.Server([endpoints.stream(words, pause=0.3)]) as endpoint:
        process, address = started(kb, "--generator", f"{endpoint.address}#tiny")
        body = {
            "model": "ravlm",
            "stream": True,
            "messages": [{"role": "user", "content": "What is the red square?"}],
        }
        with httpx2.stream(
            "POST", f"{address}/v1/chat/completions", json=body, timeout=30
        ) as response:
            lines = (line for line in response.iter_lines() if line)
            said = [next(lines), next(lines)]
            process.send_signal(signal.SIGTERM)
            said += list(lines)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert said[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in said[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks).strip() == "".join(
        words
    )
    assert "Traceback" not in err
    logged = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert logged[-1]["event"] == "stopped"


def test_a_taken_port_and_a_base_that_is_not_there(kb: Path, tmp_path: Path, capsys: Any) -> None:
    from ravlm.cli import main
    from ravlm.serving.server import listen

    with listen(Settings(port=0)) as taken:
        taken.listen()
        port = str(taken.getsockname()[1])
        from ravlm.encoders import auto
        from tests.helpers.fakes import FakeEncoder

        real = auto.load_encoder
        auto.load_encoder = lambda name: FakeEncoder()  # type: ignore[assignment]
        try:
            assert main(["serve", str(kb), "--port", port]) == 1
        finally:
            auto.load_encoder = real
    assert f"port {port}" in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "nowhere")]) == 1
    assert "no knowledge base" in capsys.readouterr().err
    assert main(["serve", str(kb), "--host", "0.0.0.0"]) == 1
    assert "--token-file" in capsys.readouterr().err
    assert main(["serve", str(kb), "--port", "many"]) == 2


def test_a_missing_extra_is_named(kb: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import importlib.util

    from ravlm.cli import main

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "fastapi" else real(name, *a)
    )
    assert main(["serve", str(kb)]) == 1
    assert 'pip install "ravlm[serve]"' in capsys.readouterr().err
