"""What a request may cost: sizes, times and queue lengths."""

from __future__ import annotations

import socket
import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ravlm.serving.settings import RequestLimits, Settings
from tests.helpers.fakes import COLORS
from tests.helpers.servers import (
    BlockingGenerator,
    EndlessGenerator,
    Running,
    png,
    running,
    url_of,
)


@pytest.fixture(scope="module")
def small_server(built: Path) -> Any:
    limits = RequestLimits(
        body=200_000, image_bytes=100_000, pixels=100_000, body_seconds=0.5, seconds=20
    )
    with running(built, Settings(port=0, limits=limits)) as server:
        yield server


def test_large_bodies_and_images(small_server: Running) -> None:
    assert small_server.post("/v1/search", text="x" * 200_001).status_code == 413
    chunks = (b" " * 50_000 for _ in range(10))  # chunked: no length is announced
    chunked = small_server.client.post(
        "/v1/search", content=chunks, headers={"content-type": "application/json"}
    )
    assert chunked.status_code == 413
    large = small_server.post("/v1/search", image=url_of(b"\0" * 110_000))
    assert (large.status_code, "100,000" in large.text) == (400, True)
    wide = small_server.post("/v1/search", image=url_of(png((9, 9, 9), (1000, 101))))
    assert (wide.status_code, "pixels" in wide.text) == (400, True)
    assert (
        small_server.post("/v1/search", image=url_of(png((9, 9, 9), (1000, 99)))).status_code == 200
    )


def test_decompression_bombs_and_programs(small_server: Running) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    bomb = b"\x89PNG\r\n\x1a\n" + chunk
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    for data in (bomb, postscript, svg, b"", b"\0", png(COLORS["red"])[:60]):
        refused = small_server.post("/v1/caption", image=url_of(data))
        assert refused.status_code == 400
        assert len(refused.text) < 500


def test_a_slow_body_is_cut_off(small_server: Running) -> None:
    host, port = small_server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(
            f"POST /v1/search HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99\r\n\r\n{{".encode()
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
    assert small_server.client.get("/ready").status_code == 200


def test_a_full_queue_is_429(kb: Path) -> None:
    generator = BlockingGenerator()
    with running(
        kb, Settings(port=0, limits=RequestLimits(waiting=2, batch=1)), generator, wait=False
    ) as server:
        generator.go.set()
        while server.client.get("/ready").status_code != 200:
            pass
        generator.go.clear()
        responses: list[httpx2.Response] = []
        ask = {"question": "What is the red square?"}
        threads = [
            threading.Thread(
                target=lambda: responses.append(server.client.post("/v1/ask", json=ask))
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        while sum(response.status_code == 429 for response in responses) < 5:
            assert len(responses) <= 5
        generator.go.set()
        for thread in threads:
            thread.join()
        assert sorted(response.status_code for response in responses) == [200] * 3 + [429] * 5
        late = next(response for response in responses if response.status_code == 429)
        assert late.headers["retry-after"] == "1"
        assert late.json()["error"]["type"] == "rate_limit_error"


def test_too_many_streams_are_429(kb: Path) -> None:
    body = {"question": "What is the red square?", "stream": True}
    with (
        running(
            kb, Settings(port=0, grace=0.1, limits=RequestLimits(waiting=1)), EndlessGenerator()
        ) as server,
        server.client.stream("POST", "/v1/ask", json=body) as response,
    ):
        assert response.status_code == 200
        late = server.post("/v1/ask", **body)
        assert (late.status_code, late.headers["retry-after"]) == (429, "1")


def test_slow_answers_are_504(kb: Path) -> None:
    generator = BlockingGenerator()
    with running(
        kb, Settings(port=0, limits=RequestLimits(seconds=0.5)), generator, wait=False
    ) as server:
        generator.go.set()
        while server.client.get("/ready").status_code != 200:
            pass
        generator.go.clear()
        assert server.post("/v1/ask", question="What is the red square?").status_code == 504
        with server.client.stream(
            "POST", "/v1/ask", json={"question": "red square?", "stream": True}
        ) as response:
            assert response.status_code == 504
        generator.go.set()
        assert server.post("/v1/ask", question="What is the red square?").status_code == 200
