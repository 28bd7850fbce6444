"""Malformed requests by the thousand, against the real server: no answer is a fault of it, none is
waited for long.

`python -m tests.helpers.http_fuzzing --requests 10000` runs the long form; the suite runs a short
one."""

from __future__ import annotations

import argparse
import json
import logging
import random
import socket
import string
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from tests.helpers.servers import Running, build, running, url_of

RED = url_of("red")
GOOD: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/search", {"text": "red", "k": 3, "modality": "any", "where": {"year": {">=": 1990}}, "image": RED}),
    ("POST", "/v1/ask", {"question": "What is it?", "image": RED, "k": 2, "stream": True}),
    ("POST", "/v1/caption", {"image": RED, "where": "year > 1 and kind in [1, 2]"}),
    ("POST", "/v1/tell", {"prompt": "red", "image": RED}),
    ("POST", "/v1/entries", {"entries": [{"id": "x", "text": "x", "metadata": {"a": [1, {"b": None}]}}]}),
    ("PUT", "/v1/entries/x", {"texts": ["a", "b"], "metadata": {}}),
    ("PATCH", "/v1/entries/red", {"metadata": {"year": 1}}),
    ("POST", "/v1/entries/remove", {"ids": ["x"]}),
    ("POST", "/v1/verify", {"sample": 1}),
    ("POST", "/v1/embeddings", {"model": "ravlm", "input": ["a", {"type": "text", "text": "b"}]}),
    ("POST", "/v1/chat/completions", {"model": "ravlm", "stream": False, "messages": [
        {"role": "user", "content": [{"type": "text", "text": "red?"},
                                     {"type": "image_url", "image_url": {"url": RED}}]}]}),
]  # fmt: skip
ODD: list[Any] = [
    None, True, -1, 0, 1e308, 2**70, -(2**70), 0.5, float("nan"), float("inf"), "", " ", "\0", "\ud800",
    "\U0001f408" * 50, [], [[]], {}, {"": {}}, "data:", "data:image/png;base64,", "data:image/png;base64,%%", "file:///etc/passwd",
    "http://127.0.0.1:1/", "../x", "x" * 30_000, {"a" * 300: 1}, "year >", "((((((((((", "not " * 200 + "a = 1",
    {"$ref": "#"}, [None] * 100, {"type": "text"}, {"type": "image_url", "image_url": "x"}, "' OR 1=1 --",
]  # fmt: skip


def deep(levels: int) -> Any:
    """A list in a list in a list ..."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def changed(chance: random.Random, value: Any) -> Any:
    """A body with something in it that is not as it should be."""
    if chance.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return chance.choice(ODD) if chance.random() < 0.97 else deep(chance.choice((30, 900)))
    if isinstance(value, list):
        place = chance.randrange(len(value))
        return [changed(chance, each) if at == place else each for at, each in enumerate(value)]
    key = chance.choice(list(value))
    what = chance.random()
    if what < 0.12:
        return {name: each for name, each in value.items() if name != key}
    if what < 0.24:
        return {**value, "".join(chance.choices(string.printable, k=5)): chance.choice(ODD)}
    return {**value, key: changed(chance, value[key])}


def by_body(chance: random.Random, client: httpx2.Client) -> httpx2.Response:
    """A route's body, changed once or more, or its JSON damaged."""
    method, path, body = chance.choice(GOOD)
    for _ in range(chance.choice((1, 1, 2, 3))):
        body = changed(chance, body)
    data = json.dumps(body).encode()
    if chance.random() < 0.3:
        at = chance.randrange(len(data))
        data = data[:at] + chance.randbytes(chance.randrange(4)) + data[at + chance.randrange(3) :]
    kinds = ("application/json",) * 6 + (
        "text/plain",
        "application/x-www-form-urlencoded",
        "image/png",
        "",
    )
    kind = chance.choice(kinds)
    return client.request(
        method, path, content=data, headers={"content-type": kind} if kind else {}
    )


def by_path(chance: random.Random, client: httpx2.Client) -> httpx2.Response:
    """Odd paths, ids, queries and methods."""
    start = chance.choice(
        ("/v1/entries/", "/v1/images/", "/v1/", "/page/", "/", "/v1/models/", "/v1/entries?after=")
    )
    odd = "".join(chance.choices("%00%2e%2f/.\\?&=;:~é猫%ff%zz+# ax1", k=chance.randrange(30)))
    query = chance.choice(
        ("", "?limit=-1", "?limit=x", "?after=%00", "?where=((", "?edge=9e9", "?limit=5&limit=6")
    )
    method = chance.choice(
        ("GET", "HEAD", "PUT", "DELETE", "PATCH", "POST", "OPTIONS", "TRACE", "BREW")
    )
    return client.request(
        method, f"{start}{odd}{query}", content=chance.randbytes(chance.randrange(64))
    )


def by_wire(chance: random.Random, address: str) -> int:
    """Bytes that are no request, or half of one; gives the status of the answer, 0 where the line
    was closed."""
    host, port = address.removeprefix("http://").split(":")
    whole = (
        b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n"
        b'{"text":"red"}'
    )
    data = bytearray(whole)
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    kind = chance.random()
    if kind < 0.3:
        data = data[: chance.randrange(len(data))]
    elif kind < 0.4:
        data = bytearray(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n")
    elif kind < 0.5:
        data = bytearray(
            whole.replace(b"Content-Length: 14", b"Transfer-Encoding: chunked").replace(
                b"{", b"zz\r\n{"
            )
        )
    with socket.create_connection((host, int(port)), 20) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        try:
            answer = line.recv(64)
        except ConnectionResetError:
            return 0
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.1 ") else 0


def fuzz(server: Running, requests: int, seed: int = 0) -> Counter[int]:
    """Send that many; gives how often each status came. Raises AssertionError with what led to a
    fault."""
    chance, found = random.Random(seed), Counter[int]()
    ways: list[Callable[[], int]] = [
        lambda: by_body(chance, server.client).status_code,
        lambda: by_path(chance, server.client).status_code,
        lambda: by_wire(chance, server.address),
    ]
    for number in range(requests):
        state = chance.getstate()
        began = time.monotonic()
        (way,) = chance.choices(ways, (7, 2, 1))
        try:
            status = way()
        except (httpx2.InvalidURL, httpx2.LocalProtocolError, UnicodeError):
            continue  # the client refuses to send it
        assert status < 500, (
            f"request {number} of the seed {seed} was answered by {status}; {hash(state)}"
        )
        assert time.monotonic() - began < 10, f"request {number} of the seed {seed} hung"
        found[status] += 1
    assert server.client.get("/ready").status_code == 200
    assert server.post("/v1/search", text="red", k=1).status_code == 200
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, running(build(Path(folder) / "kb")) as server:
        began = time.monotonic()
        found = fuzz(server, options.requests, options.seed)
        spent = time.monotonic() - began
    print(
        f"{sum(found.values()):,} malformed requests in {spent:.0f} s, by status: {dict(sorted(found.items()))}"
    )


if __name__ == "__main__":
    main()
