"""Child processes that decode what is not trusted, within limits that the system enforces.

Parent and child exchange messages: a line of JSON, which has the number of bytes that follow it. A
child has a limit of memory, a limit of processor time for each message, and can be killed.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "LANG")
"""Variables that a child gets; it has no use for tokens and keys."""
_READ_BYTES = 1 << 20


class ChildProcess:
    """A process that runs the module `name`, which reads messages from stdin and answers each."""

    def __init__(self, name: str, *arguments: str) -> None:
        environment = {key: os.environ[key] for key in _ENVIRONMENT if key in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=os.name == "posix",  # Ctrl-C is for the parent alone
        )
        self._received = bytearray()
        self._poll: Any = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(_pipe(self.process.stdout), select.POLLIN | select.POLLHUP)

    def call(
        self, request: Mapping[str, Any], data: bytes, seconds: float
    ) -> tuple[dict[str, Any], bytes] | None:
        """Send a request and return its answer.

        Return None if the process did not survive it, or was killed after `seconds`.
        """
        self.send(request, data)
        return self.receive(seconds)

    def send(self, request: Mapping[str, Any], data: bytes = b"") -> None:
        """Send a request, whose answer `receive` returns."""
        with suppress(OSError, ValueError):  # the process ended: `receive` returns None
            write_message(_pipe(self.process.stdin), request, data)

    def receive(self, seconds: float) -> tuple[dict[str, Any], bytes] | None:
        """Return the answer to the first request without one, as `call` does."""
        message = None
        with suppress(OSError, ValueError), self._killed_after(seconds):
            message = self._read_message(time.monotonic() + seconds)
        if message is None:
            self.process.kill()
            self.process.wait()
        return message

    def _read_message(self, deadline: float) -> tuple[dict[str, Any], bytes] | None:
        """Read what `write_message` wrote; None at the end of the stream, and after `deadline`."""
        while (end := self._received.find(b"\n")) < 0:
            if not self._read(deadline):
                return None
        header: dict[str, Any] = json.loads(self._received[:end])
        start = end + 1
        end = start + header.pop("length")
        while len(self._received) < end:
            if not self._read(deadline):
                return None
        data = bytes(self._received[start:end])
        del self._received[:end]
        return header, data

    def _read(self, deadline: float) -> bool:
        """Wait for more bytes, and read them; False if there are none until `deadline`."""
        if self._poll is not None:
            wait = max(0.0, deadline - time.monotonic())
            if not self._poll.poll(1000 * wait):
                return False
        data = os.read(_pipe(self.process.stdout).fileno(), _READ_BYTES)
        self._received += data
        return bool(data)

    @contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        """Kill the process after `seconds` where waiting for a pipe has no time limit (Windows)."""
        if self._poll is not None:
            yield
            return
        timer = threading.Timer(seconds, self.process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @property
    def alive(self) -> bool:
        """Whether the process can take a request."""
        return self.process.poll() is None

    def end(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                _pipe(pipe).close()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def write_message(stream: IO[bytes], header: Mapping[str, Any], data: bytes) -> None:
    """Write a line of JSON and the bytes that belong to it."""
    stream.write(json.dumps({**header, "length": len(data)}).encode() + b"\n")
    stream.write(data)
    stream.flush()


def read_message(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Read what `write_message` wrote; None at the end of the stream."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        return None
    header: dict[str, Any] = json.loads(line)
    length = header.pop("length")
    data = stream.read(length)
    return (header, data) if len(data) == length else None


def limit_memory(max_bytes: int) -> None:
    """Let this process allocate at most `max_bytes` more than now, where that is possible."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + max_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):  # Windows, macOS
        return


def limit_cpu(seconds: int) -> None:
    """End this process when it has computed for `seconds` more, where that is possible."""
    try:
        import resource

        limit = int(time.process_time()) + 1 + seconds
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, hard))
    except (ImportError, OSError, ValueError):
        return
