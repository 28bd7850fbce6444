"""The SSRF guard: only public addresses are fetched, and only those that were checked."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ravlm.errors import BrokenData, InvalidInput, NotFound
from ravlm.serving.safe_fetch import ImageFetcher, is_public
from ravlm.serving.settings import Settings
from tests.helpers.fakes import COLORS
from tests.helpers.servers import png, running


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "100.64.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "nonsense",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers["Host"]))  # type: ignore[attr-defined]
        place = {"/away": "http://inside.example:%d/cat.png", "/round": "/round"}.get(self.path)
        self.send_response(302 if place else 200)
        if place:
            self.send_header("Location", place.replace("%d", str(self.server.server_address[1])))
        self.end_headers()
        if not place:
            self.wfile.write(png(COLORS["blue"]) * (400 if self.path == "/large" else 1))

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Any:
    with ThreadingHTTPServer(("127.0.0.2", 0), Site) as server:
        server.requests = []  # type: ignore[attr-defined]
        threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        yield server
        server.shutdown()


def test_a_fetch_connects_to_the_checked_address(site: Any) -> None:
    """Names are resolved once: a name that first points to a public host and then to this machine
    is not fetched."""
    names = {
        "outside.example": ["127.0.0.2"],
        "inside.example": ["127.0.0.1"],
        "both.example": ["127.0.0.2", "10.1.1.1"],
    }
    fetch = ImageFetcher(
        50_000, resolve=lambda host, port: names[host], public=lambda ip: ip == "127.0.0.2"
    )
    port = site.server_address[1]
    assert fetch(f"http://outside.example:{port}/cat.png?a=b") == png(COLORS["blue"])
    assert site.requests == [("/cat.png?a=b", f"outside.example:{port}")]
    for place in ("inside.example", "both.example"):
        with pytest.raises(InvalidInput, match="private network"):
            fetch(f"http://{place}:{port}/cat.png")
    with pytest.raises(InvalidInput, match="private network"):
        fetch(f"http://outside.example:{port}/away")
    assert [path for path, _ in site.requests] == ["/cat.png?a=b", "/away"]
    with pytest.raises(NotFound, match="redirects"):
        fetch(f"http://outside.example:{port}/round")
    with pytest.raises(BrokenData, match="50,000"):
        fetch(f"http://outside.example:{port}/large")
    for bad in (
        "ftp://outside.example/x",
        "http://name:word@outside.example/",
        "http:///x",
        "http://[::1",
        "gopher://x",
    ):
        with pytest.raises(InvalidInput):
            fetch(bad)


def test_addresses_are_refused_unless_allowed(kb: Path, site: Any) -> None:
    port = site.server_address[1]
    inside = [
        f"http://127.0.0.2:{port}/cat.png",
        f"http://localhost:{port}/cat.png",
        f"http://[::ffff:7f00:2]:{port}/x",
    ]
    with running(kb) as server:
        assert (
            "no addresses" in server.post("/v1/caption", image=inside[0]).json()["error"]["message"]
        )
    with running(kb, Settings(port=0, fetch_images=True)) as server:
        for address in inside:
            refused = server.post("/v1/caption", image=address)
            assert refused.status_code == 400
            assert "private network" in refused.json()["error"]["message"]
        body = {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": inside[0]}},
            ],
        }
        assert (
            server.post("/v1/chat/completions", model="ravlm", messages=[body]).status_code == 400
        )
    assert site.requests == []
