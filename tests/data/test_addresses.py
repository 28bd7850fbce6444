"""Pictures at http(s) addresses: bounded in size and time, and no other scheme."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ravlm.data.images import ImageLimits, load_image
from ravlm.errors import BrokenData, InvalidInput, NotFound, RavlmError
from tests.data.test_images import encoded, is_red, photo


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A local server: /red.png, /moved, /slow, /endless, /elsewhere (redirects to a file)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            moved = {"/moved": "/red.png", "/elsewhere": "file:///etc/hostname"}
            self.send_response(
                302 if self.path in moved else 404 if self.path == "/nothing" else 200
            )
            if self.path in moved:
                self.send_header("Location", moved[self.path])
            self.end_headers()
            with suppress(OSError):  # the reader has had enough
                if self.path == "/red.png":
                    self.wfile.write(encoded(photo(), "PNG"))
                for _ in range(200 if self.path in ("/slow", "/endless") else 0):
                    self.wfile.write(bytes(10 if self.path == "/slow" else 100_000))
                    time.sleep(0.05 if self.path == "/slow" else 0)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("RAVLM_PRIVATE_ADDRESSES", "1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_address(address: str) -> None:
    assert is_red(load_image(f"{address}/red.png"), 5, 5)
    assert is_red(load_image(f"{address}/moved"), 5, 5)
    with pytest.raises(NotFound, match="answered 404"):
        load_image(f"{address}/nothing")


def test_address_is_bounded_in_size_and_time(address: str) -> None:
    with pytest.raises(BrokenData, match="more than the 500,000 bytes"):
        load_image(f"{address}/endless", limits=ImageLimits(max_bytes=500_000))
    start = time.perf_counter()
    with pytest.raises(BrokenData, match=r"within 0\.3 seconds"):
        load_image(f"{address}/slow", limits=ImageLimits(seconds=0.3))
    assert time.perf_counter() - start < 5


def test_only_http_is_fetched(address: str) -> None:
    for other in (
        "ftp://a.example/b.png",
        "file:///etc/hostname",
        "data:image/png;base64,AAAA",
        "s3://bucket/key",
    ):
        with pytest.raises(InvalidInput, match="allowed: http, https, or a path"):
            load_image(other)
    with pytest.raises(RavlmError):
        load_image(f"{address}/elsewhere")
    with pytest.raises(NotFound, match="can't be fetched"):
        load_image("http://127.0.0.1:9/closed.png", limits=ImageLimits(seconds=2))
    with pytest.raises(RavlmError):
        load_image("http://")
