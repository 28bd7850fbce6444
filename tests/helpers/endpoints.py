"""An OpenAI-compatible endpoint on this machine: a real HTTP server in a thread, with replies that
a test chooses."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

Reply = Callable[["Handler"], None]
"""Writes one reply."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers), {}))
        models = {"object": "list", "data": [{"id": name} for name in self.server.models]}
        json_reply(models)(self)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), body))
        replies = self.server.replies
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        self.close_connection = True
        reply(self)

    def begin(self, status: int, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, replies: Sequence[Reply], models: Sequence[str] = ("tiny",)) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies, self.models = list(replies), models
        self.requests: list[tuple[str, Mapping[str, str], dict[str, Any]]] = []
        self.closing = Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> Server:
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: Any) -> None:
        """Print nothing when a client disconnects."""


def json_reply(reply: Any, status: int = 200, **headers: str) -> Reply:
    """Reply with JSON, or with bytes as they are."""

    def write(handler: Handler) -> None:
        handler.begin(status, "application/json", **headers)
        handler.wfile.write(reply if isinstance(reply, bytes) else json.dumps(reply).encode())

    return write


def error_reply(status: int, message: str, **headers: str) -> Reply:
    """Reply with an error in the OpenAI format."""
    return json_reply({"error": {"message": message}}, status, **headers)


def message(text: str) -> Reply:
    """Reply without streaming."""
    return json_reply(
        {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]}
    )


def event(text: str | None = None, finish: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def stream(pieces: Sequence[str], ended: bool = True, pause: float = 0.0) -> Reply:
    """Pieces as server-sent events; `ended` False: the line goes dead after them."""

    def write(handler: Handler) -> None:
        handler.begin(200, "text/event-stream")
        handler.wfile.write(b": welcome\n\n" + event(""))
        for piece in pieces:
            handler.wfile.write(event(piece))
            handler.wfile.flush()
            time.sleep(pause)
        if ended:
            handler.wfile.write(event(finish="stop") + b"data: [DONE]\n\n")

    return write


def silence(handler: Handler) -> None:
    """Send nothing until the server is closed."""
    handler.server.closing.wait(20)


def silence_after(text: str) -> Reply:
    """Send a piece, then nothing."""

    def write(handler: Handler) -> None:
        handler.begin(200, "text/event-stream")
        handler.wfile.write(event(text))
        handler.wfile.flush()
        silence(handler)

    return write


def drop(handler: Handler) -> None:
    """Close the connection before anything is sent."""
    handler.close_connection = True


def bird_watcher(handler: Handler) -> None:
    """Read the name in the first entry of the evidence and say it as the task requires."""
    _, _, body = handler.server.requests[-1]
    name = re.search(r"\[1\][^\n]*\n?\s*Name: ([^\n]+)", last_message_text(body))
    bird = name[1] if name else "nothing"
    system = body["messages"][0]["content"]
    if "describe a picture" in system:
        pieces = ["A ", bird]
    elif "stories" in system:
        pieces = ["Here is a ", bird, " [", "1]", ". It sings", " [2][1]."]
    else:
        pieces = [bird, " [", "1]"]
    stream(pieces)(handler)


def last_message_text(body: Mapping[str, Any]) -> str:
    """Return the text of the last message."""
    content = body["messages"][-1]["content"]
    return (
        content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    )
