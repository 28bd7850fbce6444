"""Runs the tests of the knowledge base against a real Milvus server: `make milvus`.

It starts the server that is named (of the package milvus) on free ports with an empty folder, and
ends it at last. No other Milvus may run on the machine: a part of it has a fixed port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

PORTS = (
    "proxy", "etcd", "root-coord", "proxy-internal", "query-coord", "query-node", "index-coord", "index-node",
    "data-coord", "data-node",
)  # fmt: skip


def free_ports(n: int) -> list[int]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(n)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def wait_for(port: int, seconds: float = 120.0) -> None:
    from pymilvus import MilvusClient, MilvusException

    until = time.monotonic() + seconds
    while True:
        try:
            client = MilvusClient(f"http://localhost:{port}", timeout=5)
            print("Milvus", client.get_server_version(), "answers", flush=True)
            client.close()
            return
        except MilvusException:
            if time.monotonic() > until:
                raise
            time.sleep(1)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or the server would go on
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    with tempfile.TemporaryDirectory(prefix="ravlm-milvus-") as folder:
        named = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
        server = subprocess.Popen(
            [sys.argv[1], "--data", folder, *named],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # what is named is a script, and the server its child
        )
        try:
            wait_for(ports["proxy"])
            command = [
                sys.executable,
                "-m",
                "pytest",
                "tests/knowledge/test_milvus.py",
                "-k",
                "Server",
            ]
            environment = os.environ | {"RAVLM_MILVUS": f"milvus://localhost:{ports['proxy']}"}
            return subprocess.run(command, env=environment, check=False).returncode
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
