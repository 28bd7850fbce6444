"""The server as a process: uvicorn over the application, JSON logs, and an end that lets answers
finish.

SIGTERM or Ctrl-C: no new connection, answers under way have the time of grace, then the process
ends with code 0."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from ravlm.errors import Busy
from ravlm.serving.app import create_app
from ravlm.serving.engine import Engine
from ravlm.serving.logs import log, start_logging
from ravlm.serving.settings import Settings
from ravlm.serving.state import ServedModel

_KEPT_ALIVE = 30
_OPEN_CONNECTIONS = 2048


class Server(uvicorn.Server):
    """uvicorn's server, whose engine is told when the end begins."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        grace = int(settings.grace) + 2  # what is streamed ends itself before uvicorn cuts it off
        super().__init__(
            uvicorn.Config(
                app, settings.host, settings.port, log_config=None, access_log=False, server_header=False,
                timeout_graceful_shutdown=grace, timeout_keep_alive=_KEPT_ALIVE, backlog=_OPEN_CONNECTIONS,
            )
        )  # fmt: skip
        self.engine: Engine = app.state.engine

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the end."""
        super().handle_exit(sig, frame)
        self.engine.stopping = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers finish, in the time of grace."""
        self.engine.stop()
        await super().shutdown(sockets)


def address_of(settings: Settings, port: int) -> str:
    """The address that people open."""
    host = settings.host if settings.host not in ("0.0.0.0", "::") else "127.0.0.1"  # noqa: S104 - only compared
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listen(settings: Settings) -> socket.socket:
    """A socket at the host and port. Raises Busy where the port is taken."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    found = socket.socket(
        family, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # else asyncio leaves small packets waiting
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((settings.host.strip("[]"), settings.port))
    except OSError as error:
        found.close()
        raise Busy(
            f"The server can't listen at {settings.host}, port {settings.port}: {error.strerror or error}. "
            "Another program may hold the port; choose one with --port."
        ) from None
    return found


def serve(library: ServedModel, settings: Settings, started: Callable[[str], None]) -> None:
    """Serve until a signal comes; `started` is told the address as soon as connections are
    taken."""
    with listen(settings) as listening:
        start_logging()
        server = Server(create_app(library, settings), settings)
        address = address_of(settings, listening.getsockname()[1])
        for kind in (
            signal.SIGTERM,
            signal.SIGINT,
        ):  # uvicorn raises them again at the end: code 0 is wanted then
            signal.signal(kind, lambda *_: setattr(server, "should_exit", True))
        started(address)
        asyncio.run(server.serve(sockets=[listening]))
    log("stopped")
    if server.engine.busy:  # a thread is in the middle of an answer that nobody waits for
        sys.stdout.flush()
        os._exit(0)
    library.close()
