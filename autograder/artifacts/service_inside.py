"""The process that starts a server and its relay in a box. It answers over the pipes; requests go over the relay.

start: run the server's command line; the relay joins sockets in this folder to its ports.
ended: whether the server has ended, and its status.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from autograder.sandbox.serve import Refused, limit, serve

_MOST_LOG = 64_000


class Service:
    def __init__(self) -> None:
        self.server: subprocess.Popen | None = None
        self.relay: subprocess.Popen | None = None
        self.log = bytearray()

    def start(self, *, argv: Sequence[str], variables: Mapping[str, str], ports: Mapping[str, int]):
        """Start both. `ports`: name of a socket in this folder -> port of the server."""
        self.server = subprocess.Popen(
            argv,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self._keep, daemon=True).start()
        words = [word for name, port in ports.items() for word in (str(port), str(Path.cwd() / name))]
        self.relay = subprocess.Popen(
            [sys.executable, "-m", "autograder.artifacts.service_relay", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        if b"ready" not in self.relay.stdout.readline():
            raise RuntimeError("the relay did not start")
        return {"pid": self.server.pid}, []

    def ended(self):
        """Answers: "ended", and "log" with what the server printed last: the reason comes before a long table of its options."""
        if self.server is None:
            raise Refused("The service does not run.", "It was not started.", "Start it.")
        return {"ended": self.server.poll() is not None, "log": bytes(self.log).decode(errors="replace")}, []

    def _keep(self) -> None:
        while chunk := os.read(self.server.stdout.fileno(), 1 << 16):
            self.log += chunk
            del self.log[:-_MOST_LOG]


def main(read_fd: int, write_fd: int, memory_bytes: int, cpu_seconds: int, path: str) -> None:
    limit(memory_bytes, cpu_seconds)
    service = Service()
    commands = {"start": service.start, "ended": service.ended}
    serve(commands, read_fd, write_fd, memory_bytes, "Look for memory that grows with every request.")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:5]), sys.argv[5])
    os._exit(0)
