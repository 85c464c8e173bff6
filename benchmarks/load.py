"""A client that costs little: what it takes itself would be taken for the server's on a small machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson


@dataclass(frozen=True, slots=True)
class Request:
    """A request, ready to be sent."""

    host: str
    port: int
    text: bytes

    @classmethod
    def make(cls, url: str, token: str, body: object = None, **headers: str) -> Request:
        """Prepare ``GET``, or ``POST`` if there is a body."""
        parts = urlsplit(url)
        content = b"" if body is None else orjson.dumps(body)
        fields = {
            "Host": parts.netloc,
            "Authorization": token,
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        head = f"{'GET' if body is None else 'POST'} {parts.path or '/'} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return cls(parts.hostname or "", parts.port or 80, f"{head}\r\n".encode() + content)


class Connection:
    """A connection that is kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, request: Request) -> Connection:
        """Connect to where a request goes."""
        return cls(*await asyncio.open_connection(request.host, request.port, limit=4 * 1024 * 1024))

    async def send(self, request: Request) -> int:
        """Send a request and read the answer; gives the size of its body."""
        self._writer.write(request.text)
        head = await self._reader.readuntil(b"\r\n\r\n")
        size = 0
        async for piece in self._body(head.lower()):
            size += len(piece)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{head.decode()}{piece[:300].decode()}")
        return size

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def _body(self, head: bytes) -> AsyncIterator[bytes]:
        if b"transfer-encoding: chunked" in head:
            while size := int(await self._reader.readline(), 16):
                yield await self._reader.readexactly(size)
                await self._reader.readline()
            await self._reader.readline()
        else:
            left = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            while left:
                piece = await self._reader.read(left)
                if not piece:
                    raise ConnectionResetError("the answer is not complete")
                left -= len(piece)
                yield piece


async def run(requests: Sequence[Request], clients: int) -> tuple[float, list[float]]:
    """Send requests from so many clients at once; gives seconds in all, and for each request."""
    waiting = iter(requests)
    seconds: list[float] = []

    async def client(connection: Connection) -> None:
        for request in waiting:
            start = time.perf_counter()
            await connection.send(request)
            seconds.append(time.perf_counter() - start)

    connections = [await Connection.open(requests[0]) for _ in range(min(clients, len(requests)))]
    start = time.perf_counter()
    await asyncio.gather(*map(client, connections))
    total = time.perf_counter() - start
    for connection in connections:
        connection.close()
    return total, seconds
