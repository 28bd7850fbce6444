"""The SSRF guard: only public addresses are fetched, and only those that were checked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ravlm.data.addresses import allow_addresses, is_public, show_address
from ravlm.data.fetch import ImageFetcher, fetch_image
from ravlm.data.images import image_bytes
from ravlm.data.parallel import parallel_map
from ravlm.errors import BrokenData, InvalidInput, NotFound, RavlmError
from tests.helpers.fakes import COLORS
from tests.helpers.servers import png


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
        "::ffff:8.8.8.8",
        "::8.8.8.8",
        "64:ff9b:1::808:808",
        "192.0.0.192",
        "192.88.99.1",
        "168.63.129.16",
        "100.100.100.200",
        "198.19.1.1",
        "203.0.113.9",
        "fec0::1",
        "3fff:fff::1",
        "5f00::1",
        "100::1",
        "2001:db8::1",
        "4000::1",
        "1fff:ffff::1",
        "nonsense",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "192.0.1.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1"],
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
        with pytest.raises(NotFound, match="private network"):
            fetch(f"http://{place}:{port}/cat.png")
    with pytest.raises(NotFound, match="private network"):
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


@contextmanager
def slow_site(*pieces: bytes, pause: float = 0.05) -> Iterator[str]:
    """Yield the address of a server that sends the first piece, then the others again and again,
    with a pause after each."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    connection.recv(4096)
                    connection.sendall(pieces[0])
                    for n in range(2000):
                        connection.sendall(pieces[1 + n % (len(pieces) - 1)])
                        time.sleep(pause)
                except OSError:
                    pass

        threading.Thread(target=run, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/cat.png?key=secret"


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: a\r\n"),
        (b"", b"H", b"T", b"T", b"P"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"),
    ],
    ids=["header lines", "status line", "interim answers", "chunks", "length of a chunk"],
)
def test_the_deadline_holds_for_the_whole_response(
    pieces: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte restarted the timeout: a header sent in drops held a thread for as long as its
    server liked (10 s of a limit of 1 s)."""
    monkeypatch.setenv("RAVLM_PRIVATE_ADDRESSES", "1")
    start = time.perf_counter()
    with slow_site(*pieces) as address, pytest.raises(RavlmError) as error:
        fetch_image(address, 10_000, seconds=0.3)
    assert time.perf_counter() - start < 8
    assert "within 0.3 seconds" in str(error.value)
    assert "secret" not in str(error.value)


def test_a_slow_name_server_is_not_waited_for() -> None:
    wait = threading.Event()
    fetch = ImageFetcher(1000, 0.2, resolve=lambda host, port: [str(wait.wait(30))])
    start = time.perf_counter()
    with pytest.raises(BrokenData, match=r"within 0\.2 seconds"):
        fetch("http://slow.example/cat.png")
    wait.set()
    assert time.perf_counter() - start < 10


def test_private_addresses_are_fetched_only_when_asked_for(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`build` asked every address that a source named: the metadata service of a cloud, or a
    printer in the office."""
    address = f"http://127.0.0.2:{site.server_address[1]}/cat.png"
    with pytest.raises(NotFound, match="RAVLM_PRIVATE_ADDRESSES=1"):
        image_bytes(address)
    assert site.requests == []
    monkeypatch.setenv("RAVLM_PRIVATE_ADDRESSES", "1")
    assert image_bytes(address) == png(COLORS["blue"])
    for policy in ("none", "public"):  # a server sets one of these, and ignores the variable
        with allow_addresses(policy), pytest.raises(NotFound):  # type: ignore[arg-type]
            list(parallel_map(image_bytes, [address], workers=1, lookahead=1))
    assert len(site.requests) == 1


def test_a_path_in_any_script_is_requested(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAVLM_PRIVATE_ADDRESSES", "1")
    image_bytes(f"http://127.0.0.2:{site.server_address[1]}/图 片%20a.png?q=ü")
    assert site.requests[0][0] == "/%E5%9B%BE%20%E7%89%87%20a.png?q=%C3%BC"


def test_proxies_of_the_environment_are_used(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library goes through a proxy where there is one; names that resolve here are checked."""
    port = site.server_address[1]
    monkeypatch.setenv("http_proxy", f"http://me:word@127.0.0.2:{port}")
    assert fetch_image("http://only-the-proxy.invalid/cat.png", 10_000, 5) == png(COLORS["blue"])
    assert site.requests == [("http://only-the-proxy.invalid/cat.png", "only-the-proxy.invalid")]
    with pytest.raises(NotFound, match="private network"):
        fetch_image("http://127.0.0.1/cat.png", 10_000, 5)
    monkeypatch.setenv("http_proxy", "socks5://127.0.0.2:1")
    with pytest.raises(InvalidInput, match="HTTP proxy"):
        fetch_image("http://only-the-proxy.invalid/cat.png", 10_000, 5)
    assert len(site.requests) == 1


def test_messages_show_no_password_and_no_query() -> None:
    assert show_address("https://a:b@c.example/d?sig=e#f") == '"https://c.example/d"'
    assert len(show_address("https://c.example/" + "d" * 9000)) < 300
