"""Run the application with uvicorn: JSON logs, and a shutdown that lets answers finish.

On SIGTERM or Ctrl-C the server accepts no new connection, running answers get the grace period,
then the process exits with code 0, even if a thread is still at work."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import FrameType

import prometheus_client
import uvicorn
from fastapi import FastAPI

from ravlm.errors import Busy
from ravlm.serving.app import create_app
from ravlm.serving.engine import Engine
from ravlm.serving.http_protocol import HttpProtocol
from ravlm.serving.logs import log, start_logging
from ravlm.serving.settings import RequestLimits, Settings
from ravlm.serving.state import ServedModel

_KEEP_ALIVE_SECONDS = 30
_BACKLOG = 2048


class Server(uvicorn.Server):
    """A uvicorn server that tells the engine when shutdown begins."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        config = uvicorn.Config(
            app,
            settings.host,
            settings.port,
            log_config=None,
            access_log=False,
            server_header=False,
            http=partial(HttpProtocol, connection_limits(settings.limits)),  # type: ignore[arg-type]
            ws="none",
            timeout_graceful_shutdown=int(settings.grace) + 1,  # streams end themselves before it
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            backlog=_BACKLOG,
        )
        super().__init__(config)
        self.engine: Engine = app.state.engine

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the shutdown."""
        super().handle_exit(sig, frame)
        self.engine.stopping = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers finish within the grace period."""
        self.engine.stop()
        await super().shutdown(sockets)


def connection_limits(limits: RequestLimits) -> RequestLimits:
    """Return `limits` with at most half as many connections as this process may open files."""
    try:
        import resource
    except ImportError:  # Windows
        return limits
    max_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if max_files == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=min(limits.connections, max(1, max_files // 2)))


def address_of(settings: Settings, port: int) -> str:
    """Return the address to open in a browser."""
    is_any_host = settings.host in ("0.0.0.0", "::")  # noqa: S104 - only compared
    host = "127.0.0.1" if is_any_host else settings.host
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(settings: Settings) -> socket.socket:
    """Return a socket bound to the host and port. Raises Busy if the port is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With IPPROTO_TCP asyncio sets TCP_NODELAY; else small packets are delayed.
    bound_socket = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound_socket.bind((settings.host.strip("[]"), settings.port))
    except OSError as error:
        bound_socket.close()
        raise Busy(
            f"The server can't listen on host {settings.host}, port {settings.port}: "
            f"{error.strerror or error}. Another program may use the port; choose one with --port."
        ) from None
    return bound_socket


def serve(served_model: ServedModel, settings: Settings, on_started: Callable[[str], None]) -> None:
    """Serve until a signal arrives. `on_started` gets the address once connections are accepted."""
    prometheus_client.disable_created_metrics()  # timestamps that double the number of series
    with listen(settings) as bound_socket:
        start_logging()
        server = Server(create_app(served_model, settings), settings)
        address = address_of(settings, bound_socket.getsockname()[1])
        # uvicorn raises the signals again at the end; these handlers keep the exit code at 0.
        for signal_number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signal_number, lambda *_: setattr(server, "should_exit", True))
        on_started(address)
        asyncio.run(server.serve(sockets=[bound_socket]))
    log("stopped")
    if server.engine.busy:  # a thread still computes an answer that no client waits for
        sys.stdout.flush()
        os._exit(0)
    served_model.close()
