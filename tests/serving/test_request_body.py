"""Request bodies: not read where none is taken, limited over all requests, JSON of bounded size."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError
from starlette.testclient import TestClient

from ravlm.serving import schemas
from ravlm.serving.json_limits import MAX_FILTER, MAX_METADATA, json_size
from ravlm.serving.metrics import Metrics
from ravlm.serving.request_body import BodyLimit, json_route
from ravlm.serving.settings import RequestLimits


class Client:
    """Sends one request to a `BodyLimit`, chunk by chunk."""

    def __init__(self, limit: BodyLimit, method: str, path: str, chunks: list[bytes]) -> None:
        self.limit = limit
        self.scope = {"type": "http", "method": method, "path": path, "headers": []}
        self.chunks = list(chunks)
        self.num_read = 0
        self.messages: list[Any] = []

    async def receive(self) -> Any:
        await asyncio.sleep(0)
        if not self.chunks:
            return {"type": "http.disconnect"}
        self.num_read += 1
        chunk = self.chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(self.chunks)}

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    async def run(self) -> int:
        await self.limit(self.scope, self.receive, self.send)
        return int(self.messages[0]["status"]) if self.messages else 0


class App:
    """Remembers the bodies it got; waits for `go` before it answers."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        self.bodies.append(message["body"])
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})


def limited(app: Any, ready: bool = True, **limits: Any) -> BodyLimit:
    engine: Any = SimpleNamespace(
        limits=RequestLimits(**limits),
        metrics=Metrics(),
        ready=ready,
        unready_reason="The server is starting.",
    )
    return BodyLimit(app, engine)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("OPTIONS", "/v1/search"),
        ("GET", "/v1/entries"),
        ("DELETE", "/v1/entries/x"),
        ("HEAD", "/"),
        ("POST", "/health"),
        ("PUT", "/page/x"),
        ("POST", "/docs"),
    ],
)
def test_a_body_that_no_route_takes_is_not_read(method: str, path: str) -> None:
    """Without a token, 60 requests to /health or of the method OPTIONS, each with a body of 31 MB,
    held 1.87 GB."""

    async def run() -> None:
        app = App()
        client = Client(limited(app), method, path, [b"x" * 1000] * 100)
        assert await client.run() == 200
        assert client.num_read == 0
        assert app.bodies == [b""]

    asyncio.run(run())


def test_no_body_is_read_while_the_server_starts() -> None:
    async def run() -> None:
        client = Client(limited(App(), ready=False), "POST", "/v1/search", [b"x"] * 9)
        assert await client.run() == 503
        assert client.num_read == 0

    asyncio.run(run())


def test_all_bodies_together_are_limited() -> None:
    async def run() -> None:
        app = App()
        limit = limited(app, body=1000, bodies=2500)
        app.go.clear()
        first = [Client(limit, "POST", "/v1/search", [b"x" * 400] * 2) for _ in range(3)]
        waiting = [asyncio.create_task(client.run()) for client in first]
        while len(app.bodies) < 3:
            await asyncio.sleep(0)
        late = Client(limit, "POST", "/v1/search", [b"x" * 200])
        assert await late.run() == 429
        assert (b"retry-after", b"1") in late.messages[0]["headers"]
        small = Client(limit, "PUT", "/v1/images/x", [b"x" * 99])
        is_small = asyncio.create_task(small.run())
        app.go.set()
        assert await asyncio.gather(*waiting, is_small) == [200] * 4
        assert limit._num_bytes == 0
        assert await Client(limit, "POST", "/v1/search", [b"x" * 600] * 2).run() == 413
        assert await Client(limit, "POST", "/v1/search", []).run() == 0  # disconnected
        assert limit._num_bytes == 0
        assert app.bodies == [b"x" * 800] * 3 + [b"x" * 99]

    asyncio.run(run())


def json_client() -> TestClient:
    app = FastAPI()
    app.router.route_class = json_route(RequestLimits().json_marks)

    @app.post("/search")
    async def search(body: schemas.SearchBody) -> dict[str, Any]:
        return {"text": body.text}

    return TestClient(app)


def test_millions_of_keys_are_refused_before_they_are_parsed() -> None:
    """Unknown keys of 31 MB stopped the event loop for 34 s."""
    client = json_client()
    keys = ",".join(f'"k{n}":0' for n in range(520_000))
    bodies = [
        "{" + keys + "}",
        '{"text":"a","where":[' + "[]," * 1_100_000 + "1]}",
        "[" * 2_100_000,
        '{"where":"' + '\\"' * 2_100_000 + '"}',
    ]
    for body in bodies:
        data = body.encode()
        start = time.process_time()
        response = client.post(
            "/search", content=data, headers={"content-type": "application/json"}
        )
        assert (response.status_code, "too many keys" in response.text) == (400, True)
        assert time.process_time() - start < 10


def test_large_bodies_of_few_values_are_parsed() -> None:
    """Images are long strings: they pass, and the loop goes on while they are parsed."""
    client = json_client()
    response = client.post("/search", json={"text": "red", "image": "x" * 3_000_000})
    assert response.json() == {"text": "red"}
    broken = client.post(
        "/search",
        content=b'{"text": "' + b"x" * 100_000,
        headers={"content-type": "application/json"},
    )
    assert broken.status_code == 422  # the application of the server answers 400


def test_filters_are_limited() -> None:
    """A filter of 32 MB took 90 s."""
    adapter = TypeAdapter(schemas.Filter)
    valid: list[Any] = [
        "a = 1",
        {"split": "train"},
        {"kind": {"$in": ["bird"] * 1000}},
        "x" * MAX_FILTER,
        None,
    ]
    for where in valid:
        assert adapter.validate_python(where) == where
    large: list[Any] = [
        "x" * 1_000_000,
        {"a": "x" * 30_000},
        {"kind": {"$in": list(range(30_000))}},
    ]
    for where in large:
        start = time.process_time()
        with pytest.raises(ValidationError, match="at most 20000 characters"):
            adapter.validate_python(where)
        assert time.process_time() - start < 10


def test_metadata_are_limited() -> None:
    """Each key is a column of the facets, which every process reads that opens the base."""
    few: Any = {f"key{n}": [n, {"a": None}] for n in range(99)}
    assert schemas.EntryBody(text="a", metadata=few).metadata == few
    large: list[Any] = [
        {f"key{n}": n for n in range(201)},
        {"nested": {str(n): {"a": n} for n in range(101)}},
        {"long": "x" * 70_000},
        {"many": list(range(40_000))},
        {str(n): 0 for n in range(100_000)},
    ]
    for metadata in large:
        with pytest.raises(ValidationError, match="at most 200 keys and 64000 characters"):
            schemas.EntryPatch(metadata=metadata)


def test_json_size_is_close_to_the_length() -> None:
    values: list[Any] = [
        {"kind": "bird", "years": [1990, 2001], "nested": {"a": [True, None, "x"]}},
        [[[]]] * 50,
        "text",
    ]
    for value in values:
        length = len(json.dumps(value, separators=(",", ":")))
        size, _ = json_size(value, 10_000)
        assert 0.6 * length <= size <= 1.4 * length
    deep: Any = []
    for _ in range(30_000):
        deep = [deep]
    assert json_size(deep, MAX_METADATA)[0] > MAX_METADATA
    assert json_size({"a": {"b": 1, "c": 2}}, 100)[1] == 3
