"""Sending a result: in the format and coding that the client wants, as it comes from the database."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from aiohttp import web
from bson.errors import BSONError
from pymongo.errors import PyMongoError

from kowalski.api import compression, negotiation
from kowalski.api.compression import Compressor
from kowalski.api.errors import ApiError, from_database
from kowalski.api.formats import FORMATS, Format
from kowalski.api.formats.encoder import Encoder
from kowalski.api.leaving import ClientLeftError
from kowalski.api.results import Result

BUFFER = 1024 * 1024
"""Bytes up to which an answer is sent as a whole, so that an error on the way still gets its own status."""
COMPRESSED_FROM = 1024
"""Bytes from which compression is worth its while."""

log = logging.getLogger(__name__)


def format_for(request: web.Request) -> Format:
    """Choose the format by ``Accept``."""
    return FORMATS[negotiation.media_type(request.headers.get("Accept", "*/*"), tuple(FORMATS))]


async def send(
    request: web.Request, form: Format, message: str, result: Result, encoder: Encoder
) -> web.StreamResponse:
    """Send a result.

    Small answers are sent as a whole. A large one is sent while it is being read; if that fails in the middle, the
    connection is closed without its proper end, so that nobody takes a part for the whole.

    Raises
    ------
    ClientLeftError
        If the client does not want the rest.
    """
    coding = negotiation.coding(request.headers.get("Accept-Encoding", ""))
    headers = {"Content-Type": form.content_type, "Vary": "Accept, Accept-Encoding"}
    start: list[bytes] = []
    size = 0
    async with aclosing(form.pieces(message, result, encoder)) as pieces:
        async for piece in pieces:
            start.append(piece)
            size += len(piece)
            if size > BUFFER:
                stream = _Stream(request, headers, coding, encoder)
                return await _send_rest(stream, b"".join(start), pieces, form)
    body = b"".join(start)
    if coding is not None and size >= COMPRESSED_FROM:
        headers["Content-Encoding"] = coding
        body = await encoder.run(lambda: compression.whole(coding, body), size)
    return web.Response(body=body, headers=headers)


async def _send_rest(stream: _Stream, start: bytes, pieces: AsyncGenerator[bytes], form: Format) -> web.StreamResponse:
    await stream.begin()
    is_whole = False
    try:
        await stream.write(start)
        async for piece in pieces:
            await stream.write(piece)
        await stream.end()
        is_whole = True
    except ConnectionError:
        raise ClientLeftError from None
    except (ApiError, PyMongoError, BSONError) as error:
        log.warning("an answer to %s broke off: %s", stream.request.path, error)
        if form.trailer is not None:
            known = from_database(error) if isinstance(error, PyMongoError) else error
            await stream.write(form.trailer(str(known) if isinstance(known, ApiError) else "Internal Server Error"))
            await stream.flush()
    finally:
        if not is_whole:
            stream.break_off()
    return stream.response


class _Stream:
    """An answer that is being sent, compressed if so agreed."""

    def __init__(self, request: web.Request, headers: dict[str, str], coding: str | None, encoder: Encoder) -> None:
        self.request = request
        self.response = web.StreamResponse(headers=headers)
        self._encoder = encoder
        self._compressor: Compressor | None = None
        if coding is not None:
            self.response.headers["Content-Encoding"] = coding
            self._compressor = compression.make(coding)

    async def begin(self) -> None:
        """Send the headers."""
        await self.response.prepare(self.request)

    async def write(self, piece: bytes) -> None:
        """Send a piece; waits as long as the client is slower than the database."""
        if self._compressor is not None:
            piece = await self._encoder.run(partial(self._compressor.add, piece), len(piece))
        await self.response.write(piece)

    async def flush(self) -> None:
        """Send what the compressor has kept back."""
        if self._compressor is not None:
            await self.response.write(self._compressor.flush())

    async def end(self) -> None:
        """Send the proper end."""
        if self._compressor is not None:
            await self.response.write(self._compressor.end())
        await self.response.write_eof()

    def break_off(self) -> None:
        """Close the connection, after what was written but without the proper end."""
        if self.request.transport is not None:
            self.request.transport.close()
