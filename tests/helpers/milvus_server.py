"""Run the tests of the knowledge base against a real Milvus server: `make milvus`.

Starts the server program (of the package milvus) that is passed as argument on free ports with an
empty folder, and kills it afterwards. No other Milvus may run on the machine, as one of its
components has a fixed port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

COMPONENTS = (
    "proxy", "etcd", "root-coord", "proxy-internal", "query-coord", "query-node", "index-coord",
    "index-node", "data-coord", "data-node",
)  # fmt: skip
TESTS = ["tests/knowledge/milvus/test_backend.py", "-k", "Server"]


def free_ports(n: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in sockets]


def wait_for(port: int, seconds: float = 120.0) -> None:
    from pymilvus import MilvusClient, MilvusException

    deadline = time.monotonic() + seconds
    while True:
        try:
            client = MilvusClient(f"http://localhost:{port}", timeout=5)
            print("Milvus", client.get_server_version(), "is ready", flush=True)
            client.close()
            return
        except MilvusException:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or the server would keep running
    ports = dict(zip(COMPONENTS, free_ports(len(COMPONENTS)), strict=True))
    port_options = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
    with tempfile.TemporaryDirectory(prefix="ravlm-milvus-") as folder:
        server = subprocess.Popen(
            [sys.argv[1], "--data", folder, *port_options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the program is a script, and the server its child
        )
        try:
            wait_for(ports["proxy"])
            command = [sys.executable, "-m", "pytest", *TESTS]
            environment = os.environ | {"RAVLM_MILVUS": f"milvus://localhost:{ports['proxy']}"}
            return subprocess.run(command, env=environment, check=False).returncode
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
