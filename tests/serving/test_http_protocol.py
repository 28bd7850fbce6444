"""Connections: slow heads, idle ones, too many of them, and clients that never read."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from ravlm.serving.http_protocol import HttpProtocol
from ravlm.serving.server import connection_limits
from ravlm.serving.settings import RequestLimits

GET = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    """Answers "ok"; holds /wait until `go`, and sends to /flood without end."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.flooded = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while scope["path"] == "/wait" and not self.go.is_set():
            await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while scope["path"] == "/flood" and not self.go.is_set():
            self.flooded += 65_536
            await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"ok"})


@contextmanager
def serving(**limits: Any) -> Iterator[SimpleNamespace]:
    app = App()
    protocol = partial(HttpProtocol, RequestLimits(**limits))
    config = uvicorn.Config(
        app,
        http=protocol,  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        timeout_keep_alive=30,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as bound_socket:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([bound_socket])))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        address = bound_socket.getsockname()
        connections = server.server_state.connections

        def connect() -> socket.socket:
            return socket.create_connection(address, 20)

        try:
            yield SimpleNamespace(app=app, connect=connect, connections=connections)
        finally:
            app.go.set()
            server.should_exit = True
            thread.join(30)


def received(connection: socket.socket) -> bytes:
    """Return all that the server sends before it closes the connection."""
    data = b""
    with suppress(ConnectionError):
        while chunk := connection.recv(65_536):
            data += chunk
    return data


def answered(connection: socket.socket) -> bool:
    """Return whether the whole response of /wait or / arrives."""
    data = b""
    while not data.endswith(b"0\r\n\r\n"):
        data += connection.recv(1000) or b"closed\r\n0\r\n\r\n"
    return data.startswith(b"HTTP/1.1 200 ") and b"\r\nok\r\n" in data


def test_idle_connections_and_slow_heads_are_cut() -> None:
    """Connections that sent nothing, or a header a second, were never closed: 1,024 of them made
    the server unreachable."""
    with serving(head_seconds=0.3) as server:
        with server.connect() as idle, server.connect() as slow, server.connect() as late:
            slow.sendall(GET[:20])
            late.sendall(GET % b"")
            assert answered(late)
            late.sendall(b"G")  # of a second request
            assert received(idle) == b""
            assert received(slow).startswith(b"HTTP/1.1 408 ")
            assert received(late).startswith(b"HTTP/1.1 408 ")
        assert not server.connections


def test_drip_does_not_postpone_the_deadline() -> None:
    with serving(head_seconds=0.3) as server, server.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        num_headers = 0
        with suppress(ConnectionError):
            while num_headers < 300:  # all would be accepted without a deadline
                connection.sendall(b"a: b\r\n")
                num_headers += 1
                time.sleep(0.03)
        assert num_headers < 300


def test_a_request_in_progress_is_not_cut() -> None:
    with serving(head_seconds=0.2) as server, server.connect() as connection:
        connection.sendall(GET % b"wait")
        time.sleep(0.5)
        server.app.go.set()
        assert answered(connection)


def test_the_longest_idle_connection_makes_room() -> None:
    with serving(connections=4) as server:
        first = [server.connect() for _ in range(4)]
        while len(server.connections) < 4:
            time.sleep(0.01)
        first[0].sendall(GET % b"wait")  # busy ones are kept
        time.sleep(0.1)
        with server.connect() as late:
            late.sendall(GET % b"")
            assert answered(late)
            assert received(first[1]) == b""
        server.app.go.set()
        assert answered(first[0])
        for connection in first:
            connection.close()


def test_a_server_full_of_requests_refuses_connections() -> None:
    with serving(connections=2) as server:
        busy = [server.connect() for _ in range(2)]
        for connection in busy:
            connection.sendall(GET % b"wait")
        time.sleep(0.2)
        with server.connect() as late:
            assert received(late).startswith(b"HTTP/1.1 503 ")
        server.app.go.set()
        for connection in busy:
            assert answered(connection)
            connection.close()


def test_a_client_that_never_reads_is_cut_off() -> None:
    """Its response stayed in memory, and its place was taken, for as long as it liked."""
    with serving(write_seconds=0.3) as server, server.connect() as connection:
        connection.sendall(GET % b"flood")
        while not server.app.flooded:
            time.sleep(0.01)
        start = time.monotonic()
        while server.connections and time.monotonic() - start < 15:
            time.sleep(0.02)
        assert not server.connections
        assert len(received(connection)) < server.app.flooded


class FakeTransport:
    """A transport with so many unread bytes."""

    def __init__(self) -> None:
        self.unread = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize(
    ("sizes", "is_cut"),
    [
        ([900_000, 800_000, 700_000, 100, 0], False),  # slow, but steady
        ([900_000, 800_000, 790_000], True),  # a trickle
        ([70_000, 70_000], True),
        ([30_000, 1], True),
        ([30_000, 0], False),
    ],
)
def test_slow_readers_are_distinguished_from_stalled_ones(sizes: list[int], is_cut: bool) -> None:
    async def run() -> bool:
        config = uvicorn.Config(App(), log_config=None)
        state = uvicorn.server.ServerState()
        protocol = HttpProtocol(RequestLimits(), config, state, {})
        transport = FakeTransport()
        protocol.transport = transport  # type: ignore[assignment]
        transport.unread = sizes[0]
        protocol._start_write_timer()
        for size in sizes[1:]:
            transport.unread = size
            protocol._on_write_deadline()
        protocol._stop_write_timer()
        return transport.aborted

    assert asyncio.run(run()) == is_cut


def test_connections_leave_half_of_the_files_free(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    assert connection_limits(RequestLimits()).connections == 128
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_048_576, 1_048_576))
    assert connection_limits(RequestLimits()).connections == RequestLimits().connections
