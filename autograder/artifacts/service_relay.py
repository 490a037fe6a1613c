"""A Unix socket in a box, joined to a TCP port in it: `python -m autograder.artifacts.service_relay PORT SOCKET ...`.

The box has a loopback interface of its own and no other network; a socket in its folder is all that leads out.
"""

from __future__ import annotations

import asyncio
import sys


class Half(asyncio.Protocol):
    """One side of a connection: what comes in goes out on the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: Half | None = None
        self.early = bytearray()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early += data
        else:
            self.other.transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def pause_writing(self) -> None:
        self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.other.transport.resume_reading()


class Outside(Half):
    """The side of the Unix socket: it opens the other."""

    def __init__(self, port: int):
        super().__init__()
        self.port = port

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        asyncio.ensure_future(self.open())

    async def open(self) -> None:
        try:
            _, inner = await asyncio.get_running_loop().create_connection(Half, "127.0.0.1", self.port)
        except OSError:
            self.transport.close()
            return
        inner.other, self.other = self, inner
        if self.early:
            inner.transport.write(bytes(self.early))
            self.early.clear()
        if self.transport.is_closing():
            inner.transport.close()


async def main(pairs: list[tuple[int, str]]) -> None:
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_unix_server(lambda port=port: Outside(port), path, backlog=512) for port, path in pairs
    ]
    print("relay ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    words = sys.argv[1:]
    asyncio.run(main([(int(port), path) for port, path in zip(words[::2], words[1::2])]))
