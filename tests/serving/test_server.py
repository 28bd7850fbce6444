"""The server process: readiness, disconnecting clients, shutdown in the middle of a stream."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ravlm.cli import main
from ravlm.encoders import auto
from ravlm.serving.server import listen
from ravlm.serving.settings import Settings
from tests.helpers import endpoints
from tests.helpers.fakes import FakeEncoder
from tests.helpers.servers import BlockingGenerator, EndlessGenerator, running


def test_health_and_readiness(kb: Path) -> None:
    """The server is ready once it has served a request; until then every request gets 503."""
    generator = BlockingGenerator()
    with running(kb, None, generator, wait=False) as server:
        assert server.client.get("/health").json() == {"status": "ok"}
        waiting = server.client.get("/ready")
        assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "1")
        assert server.post("/v1/search", text="red").status_code == 503
        generator.go.set()
        while server.client.get("/ready").status_code != 200:
            time.sleep(0.01)
        assert server.post("/v1/search", text="red").status_code == 200
        server.engine.stopping = True
        assert server.client.get("/ready").status_code == 503
        assert server.client.get("/health").status_code == 200


def test_a_disconnected_client_ends_its_stream(kb: Path) -> None:
    with running(kb, None, EndlessGenerator()) as server:
        body = {"question": "What is the red square?", "stream": True}
        with server.client.stream("POST", "/v1/ask", json=body) as response:
            lines = (
                response.iter_lines()
            )  # kept: with the iterator, the client would go away already
            next(lines)
            assert server.engine.streams.num_active == 1
        for _ in range(300):
            if server.engine.streams.num_active == 0:
                break
            time.sleep(0.01)
        assert server.engine.streams.num_active == 0


def test_streams_end_with_an_error_when_the_server_stops(kb: Path) -> None:
    with running(kb, Settings(port=0, grace=0.3), EndlessGenerator()) as server:
        body = {"question": "What is the red square?", "stream": True}
        with server.client.stream("POST", "/v1/ask", json=body) as response:
            lines = response.iter_lines()
            assert "piece" in next(lines)
            server.server.should_exit = True
            events = [line for line in lines if line]
    assert events[-1] == "data: [DONE]"
    assert "stopping" in events[-2]
    assert len(events) > 3


MAIN_WITH_FAKE_ENCODER = """
import sys
from tests.helpers.fakes import FakeEncoder
from ravlm.encoders import auto
auto.load_encoder = lambda name: FakeEncoder()
from ravlm.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start_process(kb: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Start `ravlm serve` as a process; return it and its address."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            MAIN_WITH_FAKE_ENCODER,
            "serve",
            str(kb),
            "--port",
            "0",
            "--json",
            *arguments,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
        cwd=Path(__file__).resolve().parents[2],
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    address = json.loads(line)["address"]
    while httpx2.get(f"{address}/ready").status_code != 200:
        time.sleep(0.05)
    return process, address


def test_sigterm_in_mid_stream_ends_cleanly(kb: Path) -> None:
    """The stream is completed, [DONE] included, and the process exits with code 0."""
    words = ["a ", "red ", "square ", "with ", "four ", "corners"]
    with endpoints.Server([endpoints.stream(words, pause=0.3)]) as endpoint:
        process, address = start_process(kb, "--generator", f"{endpoint.address}#tiny")
        body = {
            "model": "ravlm",
            "stream": True,
            "messages": [{"role": "user", "content": "What is the red square?"}],
        }
        with httpx2.stream(
            "POST", f"{address}/v1/chat/completions", json=body, timeout=30
        ) as response:
            lines = (line for line in response.iter_lines() if line)
            events = [next(lines), next(lines)]
            process.send_signal(signal.SIGTERM)
            events += list(lines)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in events[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks).strip() == "".join(
        words
    )
    assert "Traceback" not in err
    logged = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert logged[-1]["event"] == "stopped"


def test_a_port_in_use_and_a_missing_base(kb: Path, tmp_path: Path, capsys: Any) -> None:
    with listen(Settings(port=0)) as bound_socket:
        bound_socket.listen()
        port = str(bound_socket.getsockname()[1])
        original = auto.load_encoder
        auto.load_encoder = lambda name: FakeEncoder()  # type: ignore[assignment]
        try:
            assert main(["serve", str(kb), "--port", port]) == 1
        finally:
            auto.load_encoder = original
    assert f"port {port}" in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "nowhere")]) == 1
    assert "no knowledge base" in capsys.readouterr().err
    assert main(["serve", str(kb), "--host", "0.0.0.0"]) == 1
    assert "--token-file" in capsys.readouterr().err
    assert main(["serve", str(kb), "--port", "many"]) == 2


def test_a_missing_extra_is_named(kb: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import importlib.util

    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *a: None if name == "fastapi" else original(name, *a),
    )
    assert main(["serve", str(kb)]) == 1
    assert 'pip install "ravlm[serve]"' in capsys.readouterr().err
