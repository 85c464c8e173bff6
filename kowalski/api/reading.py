"""Reading cursors in batches of bytes: small ones, so that nobody has to wait for the copies of a large one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import islice
from typing import cast

from pymongo.asynchronous.command_cursor import AsyncRawBatchCommandCursor
from pymongo.asynchronous.cursor import AsyncRawBatchCursor

from kowalski.api import extjson
from kowalski.archive.client import Document

RawCursor = AsyncRawBatchCursor[Document] | AsyncRawBatchCommandCursor[Document]

FIRST = 50
"""Documents in the first batch of a cursor, whose sizes are not known."""
MOST = 5000
"""Documents in a batch at most."""
BYTES = 2 * 1024 * 1024
"""What further batches are to have: MongoDB would send up to 16 MB, and the driver copies them several times."""
SAMPLE = 100
"""Documents whose size is looked at for that."""


async def batches(cursor: RawCursor) -> AsyncGenerator[bytes]:
    """Read what a cursor finds; the end of the iteration ends the query.

    While a batch is worked on, the next one is on its way.
    """
    async with cursor:
        batch = await _read(cursor)
        while batch is not None and cursor.alive:
            _set_size(cursor, batch)
            coming = asyncio.ensure_future(_read(cursor))
            try:
                yield batch
                batch = await coming
            finally:
                if not coming.done():
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
        if batch is not None:
            yield batch


async def _read(cursor: RawCursor) -> bytes | None:
    try:
        return cast(bytes, await anext(cursor))  # raw batches are bytes, whatever type the collection's documents have
    except StopAsyncIteration:
        return None


def _set_size(cursor: RawCursor, batch: bytes) -> None:
    """Choose the number of documents in further batches by the size of the first ones in ``batch``."""
    sizes = list(map(len, islice(extjson.split(batch), SAMPLE)))
    size = min(max(BYTES * len(sizes) // max(sum(sizes), 1), 1), MOST)
    if isinstance(cursor, AsyncRawBatchCommandCursor):
        cursor.batch_size(size)
    else:
        cursor._batch_size = size  # the driver has no public way once a find has begun
