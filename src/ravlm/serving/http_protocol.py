"""HTTP/1.1 with deadlines: uvicorn's protocol, which lets a client take any time for its headers.

A connection without a request in progress is closed when the next request's head does not arrive in
time, and the longest idle one makes room when there are too many. A client that does not read its
response is cut off.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from ravlm.serving.settings import RequestLimits

_MIN_READ = 65_536
"""Bytes of a waiting response that a client must read within `write_seconds`."""
_TIMEOUT = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-length: 0\r\n\r\n"
)


class HttpProtocol(H11Protocol):
    """One connection. `limits` holds its deadlines; the other arguments are uvicorn's."""

    def __init__(self, limits: RequestLimits, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._idle_since = 0.0
        self._num_head_bytes = 0
        self._unread = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """Whether no request is in progress."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        if len(self.connections) > self._limits.connections and not self._make_room():
            self._close(_FULL)
            return
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.idle:
            self._num_head_bytes += len(data)
        super().data_received(data)
        if not self.idle:
            self._stop_head_timer()
        elif self._head_timer is None and not self.transport.is_closing():
            self._start_head_timer()

    def on_response_complete(self) -> None:
        self._idle_since = self.loop.time()
        super().on_response_complete()
        if self.transport.is_closing() and self._write_timer is None:
            self._start_write_timer()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_unread()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_write_timer()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_write_timer()

    def _make_room(self) -> bool:
        """Close the connection that has been idle longest; return whether there is one."""
        idle = [
            connection
            for connection in self.connections
            if isinstance(connection, HttpProtocol) and connection.idle and connection is not self
        ]
        if not idle:
            return False
        oldest = min(idle, key=lambda connection: connection._idle_since)
        self.connections.discard(oldest)
        oldest.transport.abort()
        return True

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_seconds, self._on_head_deadline)

    def _stop_head_timer(self) -> None:
        self._num_head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_deadline(self) -> None:
        self._head_timer = None
        if self.idle and not self.transport.is_closing():
            self._close(_TIMEOUT if self._num_head_bytes else b"")

    def _start_write_timer(self) -> None:
        self._stop_write_timer()
        self._unread = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(
            self._limits.write_seconds, self._on_write_deadline
        )

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _on_write_deadline(self) -> None:
        num_read = self._unread - self.transport.get_write_buffer_size()
        if num_read < min(_MIN_READ, self._unread):
            self.transport.abort()
        elif self.transport.get_write_buffer_size():
            self._start_write_timer()

    def _close(self, response: bytes) -> None:
        """Send a last response, if the client takes it at once, and close the connection."""
        self.transport.write(response)
        self.transport.close()
        self._abort_unread()

    def _abort_unread(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
