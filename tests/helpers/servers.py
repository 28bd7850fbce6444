"""A real server in a thread, over a small base, and pictures as clients send them."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

from ravlm.generation.base import Generator
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Entry
from ravlm.serving.app import create_app
from ravlm.serving.engine import Engine
from ravlm.serving.server import Server, listen
from ravlm.serving.settings import Settings
from ravlm.serving.state import Library
from tests.helpers.fakes import COLOURS, FakeEncoder

ENTRIES = {
    "red": ("Name: red square\nColour: red\nSize: 12 cm", 1990),
    "green": ("Name: green square\nColour: green\nSize: 15 cm", 2001),
    "blue": ("Name: blue square\nColour: blue\nSize: 20 cm", 2020),
}


def build(folder: Path) -> Path:
    """A base of three pictured squares and two texts."""
    entries = [
        Entry(name, png(COLOURS[name]), (text,), {"year": year})
        for name, (text, year) in ENTRIES.items()
    ]
    entries += [
        Entry("note", None, ("a fluffy orange cat",)),
        Entry("笔记/一", None, ("一只毛茸茸的橘猫",)),
    ]
    KnowledgeBase.build(folder, entries, FakeEncoder()).close()
    return folder


def png(colour: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def url_of(data: bytes | str) -> str:
    """Bytes, or a colour's name, as a data URL."""
    data = png(COLOURS[data]) if isinstance(data, str) else data
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@dataclass
class Running:
    """A server that runs: its address, a client of it, and its engine."""

    address: str
    client: httpx2.Client
    engine: Engine
    server: Server

    def post(self, path: str, **body: Any) -> httpx2.Response:
        return self.client.post(path, json=body)


@contextmanager
def running(
    kb: Path,
    settings: Settings | None = None,
    generator: str | Generator = "extractive",
    wait: bool = True,
) -> Iterator[Running]:
    """The real server over `kb`, on a port of its own; `wait` until it is ready."""
    settings = settings or Settings(port=0)
    library = Library(kb, generator, encoder=FakeEncoder())
    headers = {} if settings.token is None else {"Authorization": f"Bearer {settings.token}"}
    with listen(settings) as listening:
        server = Server(create_app(library, settings), settings)
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
        thread.start()
        with httpx2.Client(base_url=address, headers=headers, timeout=60) as client:
            try:
                while not server.started:
                    time.sleep(0.01)
                while wait and client.get("/ready").status_code != 200:
                    time.sleep(0.01)
                yield Running(address, client, server.engine, server)
            finally:
                server.should_exit = True
                thread.join(30)
                library.close()
