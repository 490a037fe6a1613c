"""Kept HTTP connections for the load generator: a request is bytes made beforehand, an answer is looked at as little as
possible. The time that this takes is added to every latency, so it matters here, and nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from course.serving import protocol
from course.serving.client import UNIX

LOST = 0
"""The status of a request whose connection broke or whose time was up; others have HTTP's."""


def request(address: str, path: str, body: bytes, json_bytes: int) -> bytes:
    """A whole inference request as it goes over the wire."""
    host = "localhost" if address.startswith(UNIX) else address
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/octet-stream\r\n"
        f"Content-Length: {len(body)}\r\n{protocol.LENGTH}: {json_bytes}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One connection with one request on it at a time; `done(status, head, body)` is called with each answer."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.done: Callable[[int, bytes, bytes], None] | None = None
        self._data, self._wanted, self._head = bytearray(), -1, b""
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, data: bytes, done: Callable[[int, bytes, bytes], None], seconds: float) -> None:
        """Send a request. After `seconds` without its whole answer the connection is given up."""
        self.done = done
        self._timer = asyncio.get_running_loop().call_later(seconds, self.transport.abort)
        self.transport.write(data)

    @property
    def usable(self) -> bool:
        """Whether another request can go over this connection."""
        return self.transport is not None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._wanted < 0:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = bytes(self._data[:end])
            del self._data[: end + 4]
            self._wanted = int(header(self._head, b"content-length") or 0)
        if len(self._data) >= self._wanted:
            body = bytes(self._data)
            self._data.clear()
            self._wanted = -1
            self._finish(int(self._head[9:12]), self._head, body)

    def connection_lost(self, error: Exception | None) -> None:
        self._finish(LOST, b"", str(error or "no answer in time, or the server closed the connection").encode())

    def _finish(self, status: int, head: bytes, body: bytes) -> None:
        if self._timer:
            self._timer.cancel()
        done, self.done = self.done, None
        if done:
            done(status, head, body)


def header(head: bytes, name: bytes) -> bytes | None:
    """A header's value; `name` in small letters."""
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return None
