"""A real server in a thread over a small base, and images as clients send them."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

from ravlm.generation.base import Generator, Request
from ravlm.knowledge.base import KnowledgeBase
from ravlm.records import Answer, AnswerStream, Entry
from ravlm.serving.app import create_app
from ravlm.serving.engine import Engine
from ravlm.serving.server import Server, listen
from ravlm.serving.settings import Settings
from ravlm.serving.state import ServedModel
from tests.helpers.fakes import COLORS, FakeEncoder

ENTRIES = {
    "red": ("Name: red square\nColour: red\nSize: 12 cm", 1990),
    "green": ("Name: green square\nColour: green\nSize: 15 cm", 2001),
    "blue": ("Name: blue square\nColour: blue\nSize: 20 cm", 2020),
}


def build(folder: Path) -> Path:
    """Build a base of three squares with images and two texts."""
    entries = [
        Entry(name, png(COLORS[name]), (text,), {"year": year})
        for name, (text, year) in ENTRIES.items()
    ]
    entries += [
        Entry("note", None, ("a fluffy orange cat",)),
        Entry("笔记/一", None, ("一只毛茸茸的橘猫",)),
    ]
    KnowledgeBase.build(folder, entries, FakeEncoder()).close()
    return folder


def png(color: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, "PNG")
    return buffer.getvalue()


def url_of(data: bytes | str) -> str:
    """Return image bytes, or a square of a named color, as a data URL."""
    data = png(COLORS[data]) if isinstance(data, str) else data
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


class BlockingGenerator(Generator):
    """Answers "a b c" once `go` is set, and waits until then."""

    name = "blocking"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.batches: list[int] = []

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        self.batches.append(len(requests))
        assert self.go.wait(30)
        return [Answer("a b c", request.evidence.hits) for request in requests]


class EndlessGenerator(Generator):
    """Streams "word" twenty times a second and never ends."""

    name = "endless"

    def generate(self, requests: Sequence[Request]) -> list[Answer]:
        return [Answer("word") for _ in requests]

    def stream(self, request: Request) -> AnswerStream:
        while True:
            time.sleep(0.05)
            yield "word "


@dataclass
class Running:
    """A running server: its address, a client, its engine."""

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
    """Run the real server over `kb` on a free port; `wait` until it is ready."""
    settings = settings or Settings(port=0)
    served_model = ServedModel(kb, generator, encoder=FakeEncoder())
    headers = {} if settings.token is None else {"Authorization": f"Bearer {settings.token}"}
    with listen(settings) as bound_socket:
        server = Server(create_app(served_model, settings), settings)
        address = f"http://127.0.0.1:{bound_socket.getsockname()[1]}"
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound_socket])))
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
                served_model.close()
