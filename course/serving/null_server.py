"""A server that answers every request at once with the same bytes: what is left is the load generator's own time.

A program of its own, so that the two do not share an interpreter: `python -I -S null_server.py BYTES` writes its port,
and ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import sys


class Null(asyncio.Protocol):
    answer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport, self.data, self.wanted = transport, 0, -1

    def data_received(self, data: bytes) -> None:
        if self.wanted < 0:  # the head comes whole: it is one short write
            head, _, rest = data.partition(b"\r\n\r\n")
            self.wanted = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            data, self.data = rest, 0
        self.data += len(data)
        if self.data >= self.wanted:
            self.wanted = -1
            self.transport.write(self.answer)


async def main(size: int) -> None:
    Null.answer = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode() + b"\0" * size
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Null, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
