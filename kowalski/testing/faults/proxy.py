"""A TCP proxy that stands between two processes and can be cut."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType

CHUNK = 64 * 1024


class Proxy:
    """Hands on what comes to ``port`` to ``target``, both on the loopback interface, until it is cut.

    While it is cut, connections that exist carry nothing, and new ones are taken and left without an answer: as through
    a network that drops packets. When it is mended, all of them go on, or all are closed, and whoever wants may connect
    again.
    """

    def __init__(self, port: int, target: int) -> None:
        self._port, self._target = port, target
        self._whole = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._whole.set()
        serving = asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self) -> None:
        """Let nothing through any more."""
        self._loop.call_soon_threadsafe(self._whole.clear)

    def mend(self, *, close: bool = True) -> None:
        """Let connections through again; those that hung are closed, or go on."""
        self._loop.call_soon_threadsafe(self._mend, close)

    def _mend(self, close: bool) -> None:
        for writer in list(self._writers) if close else ():
            writer.transport.abort()
        self._whole.set()

    async def _close(self) -> None:
        self._server.close()
        self._mend(close=True)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._whole.wait()
            if writer.transport.is_closing():  # it came while the way was cut
                return
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # nobody listens there: whoever called learns it as he would without a proxy
            writer.transport.abort()
            return
        finally:
            self._writers.discard(writer)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        finally:
            self._writers -= {writer, back}

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # either side may be killed at any moment: then the other loses its connection, too
            while data := await source.read(CHUNK):
                await self._whole.wait()
                sink.write(data)
                await sink.drain()
        sink.transport.abort() if sink.is_closing() else sink.close()
