"""Send thousands of malformed requests to the real server: none may cause a 5xx or hang.

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
VALID_REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "POST",
        "/v1/search",
        {"text": "red", "k": 3, "modality": "any", "where": {"year": {">=": 1990}}, "image": RED},
    ),
    ("POST", "/v1/ask", {"question": "What is it?", "image": RED, "k": 2, "stream": True}),
    ("POST", "/v1/caption", {"image": RED, "where": "year > 1 and kind in [1, 2]"}),
    ("POST", "/v1/tell", {"prompt": "red", "image": RED}),
    (
        "POST",
        "/v1/entries",
        {"entries": [{"id": "x", "text": "x", "metadata": {"a": [1, {"b": None}]}}]},
    ),
    ("PUT", "/v1/entries/x", {"texts": ["a", "b"], "metadata": {}}),
    ("PATCH", "/v1/entries/red", {"metadata": {"year": 1}}),
    ("POST", "/v1/entries/remove", {"ids": ["x"]}),
    ("POST", "/v1/verify", {"sample": 1}),
    ("POST", "/v1/embeddings", {"model": "ravlm", "input": ["a", {"type": "text", "text": "b"}]}),
    (
        "POST",
        "/v1/chat/completions",
        {
            "model": "ravlm",
            "stream": False,
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "red?"},
                        {"type": "image_url", "image_url": {"url": RED}},
                    ],
                }
            ],
        },
    ),
]
ODD_VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1e308,
    2**70,
    -(2**70),
    0.5,
    float("nan"),
    float("inf"),
    "",
    " ",
    "\0",
    "\ud800",
    "\U0001f408" * 50,
    [],
    [[]],
    {},
    {"": {}},
    "data:",
    "data:image/png;base64,",
    "data:image/png;base64,%%",
    "file:///etc/passwd",
    "http://127.0.0.1:1/",
    "../x",
    "x" * 30_000,
    {"a" * 300: 1},
    "year >",
    "((((((((((",
    "not " * 200 + "a = 1",
    {"$ref": "#"},
    [None] * 100,
    {"type": "text"},
    {"type": "image_url", "image_url": "x"},
    "' OR 1=1 --",
]


def deep(levels: int) -> Any:
    """Return a list nested `levels` deep."""
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


def mutate(chance: random.Random, value: Any) -> Any:
    """Return a body with one value, key or nesting damaged."""
    if chance.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return (
            chance.choice(ODD_VALUES) if chance.random() < 0.97 else deep(chance.choice((30, 900)))
        )
    if isinstance(value, list):
        index = chance.randrange(len(value))
        return [mutate(chance, item) if i == index else item for i, item in enumerate(value)]
    key = chance.choice(list(value))
    kind = chance.random()
    if kind < 0.12:
        return {name: item for name, item in value.items() if name != key}
    if kind < 0.24:
        return {**value, "".join(chance.choices(string.printable, k=5)): chance.choice(ODD_VALUES)}
    return {**value, key: mutate(chance, value[key])}


def send_damaged_body(chance: random.Random, client: httpx2.Client) -> httpx2.Response:
    """Send a valid body with one or more mutations, or with damaged JSON."""
    method, path, body = chance.choice(VALID_REQUESTS)
    for _ in range(chance.choice((1, 1, 2, 3))):
        body = mutate(chance, body)
    data = json.dumps(body).encode()
    if chance.random() < 0.3:
        index = chance.randrange(len(data))
        noise = chance.randbytes(chance.randrange(4))
        data = data[:index] + noise + data[index + chance.randrange(3) :]
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


def send_odd_path(chance: random.Random, client: httpx2.Client) -> httpx2.Response:
    """Send an odd path, id, query or method."""
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


def send_broken_http(chance: random.Random, address: str) -> int:
    """Send bytes that are no valid request, or half of one. Return the status of the response, 0 if
    the connection was closed."""
    host, port = address.removeprefix("http://").split(":")
    whole = (
        b"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Content-Type: application/json\r\nContent-Length: 14\r\n\r\n"
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
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        try:
            response = connection.recv(64)
        except ConnectionResetError:
            return 0
    return int(response[9:12]) if response.startswith(b"HTTP/1.1 ") else 0


def fuzz(server: Running, requests: int, seed: int = 0) -> Counter[int]:
    """Send malformed requests; return how often each status came. Raises AssertionError with the
    number and seed of a request that fails."""
    chance = random.Random(seed)
    statuses = Counter[int]()
    senders: list[Callable[[], int]] = [
        lambda: send_damaged_body(chance, server.client).status_code,
        lambda: send_odd_path(chance, server.client).status_code,
        lambda: send_broken_http(chance, server.address),
    ]
    for number in range(requests):
        state = chance.getstate()
        start = time.monotonic()
        (send,) = chance.choices(senders, (7, 2, 1))
        try:
            status = send()
        except (httpx2.InvalidURL, httpx2.LocalProtocolError, UnicodeError):
            continue  # the client refuses to send it
        assert status < 500, (
            f"request {number} of the seed {seed} was answered by {status}; {hash(state)}"
        )
        assert time.monotonic() - start < 10, f"request {number} of the seed {seed} hung"
        statuses[status] += 1
    assert server.client.get("/ready").status_code == 200
    assert server.post("/v1/search", text="red", k=1).status_code == 200
    return statuses


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder, running(build(Path(folder) / "kb")) as server:
        start = time.monotonic()
        statuses = fuzz(server, options.requests, options.seed)
        seconds = time.monotonic() - start
    counts = dict(sorted(statuses.items()))
    print(f"{sum(statuses.values()):,} malformed requests in {seconds:.0f} s, by status: {counts}")


if __name__ == "__main__":
    main()
