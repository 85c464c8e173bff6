"""What every query works with: the collections a user may read, and the ceilings that hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.command_cursor import AsyncRawBatchCommandCursor
from pymongo.asynchronous.cursor import AsyncRawBatchCursor

from kowalski.api import extjson, sandbox
from kowalski.api.errors import ApiError
from kowalski.api.models.queries import FindOptions, Options
from kowalski.api.services import Services
from kowalski.archive.client import Document
from kowalski.archive.users import User
from kowalski.config.settings import Queries

BATCH = 1000
"""Documents that are read and encoded at a time."""
INLINE = 32 * 1024
"""Bytes up to which a batch is encoded on the spot: less work than handing it to a thread."""

RawCursor = AsyncRawBatchCursor[Document] | AsyncRawBatchCommandCursor[Document]


class CeilingError(ApiError):
    """An answer is larger than this instance gives."""


@dataclass(slots=True)
class Meter:
    """Counts the rows and bytes of one answer."""

    limits: Queries
    rows: int = 0
    bytes: int = 0

    def add(self, rows: int, size: int) -> None:
        """Count a part of the answer.

        Raises
        ------
        CeilingError
            If there is more of it now than allowed.
        """
        self.rows += rows
        self.bytes += size
        if self.rows > self.limits.max_rows:
            raise CeilingError(f"the answer has more than {self.limits.max_rows} documents; use limit and skip")
        if self.bytes > self.limits.max_bytes:
            raise CeilingError(f"the answer is larger than {self.limits.max_bytes} bytes; use a projection or a limit")


@dataclass(slots=True)
class Archive:
    """The archive as one user sees it, for one query."""

    services: Services
    user: User
    encoder: ThreadPoolExecutor = field(init=False)
    meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        self.encoder = self.services.encoder
        self.meter = Meter(self.services.settings.queries)

    def collection(self, name: str) -> AsyncCollection[Document]:
        """Find a collection that the user may read.

        The administrator may also read system documents.

        Raises
        ------
        SandboxError
            If it is a protected one.
        """
        if name in sandbox.PROTECTED and self.services.accounts.is_admin(self.user):
            return self.services.system[name]
        return self.services.data[sandbox.check_catalog(name)]

    def common(self, options: Options) -> dict[str, Any]:
        """Options of every find-like query: the time it may take, and whose it is in MongoDB's log."""
        return {"max_time_ms": self.time(options), "comment": self.user.name}

    def time(self, options: Options) -> int:
        """Milliseconds that a query may take."""
        ceiling = self.services.settings.queries.max_time_ms
        return min(options.max_time_ms or ceiling, ceiling)

    def finding(self, options: FindOptions) -> dict[str, Any]:
        """Options of a query that returns documents."""
        chosen = {"sort": options.sort, "hint": options.hint}
        return {
            **self.common(options),
            **{name: value for name, value in chosen.items() if value},
            "skip": options.skip or 0,
            "limit": options.limit or 0,
        }

    async def texts(self, cursor: RawCursor) -> AsyncGenerator[bytes]:
        """Read what a cursor finds as JSON documents with commas between them, a batch at a time."""
        loop = asyncio.get_running_loop()
        async with cursor:
            async for found in cursor:
                batch = cast(bytes, found)  # raw batches are bytes, whatever type the collection's documents have
                if len(batch) <= INLINE:
                    text, count = extjson.encode_batch(batch)
                else:
                    text, count = await loop.run_in_executor(self.encoder, extjson.encode_batch, batch)
                if count:
                    self.meter.add(count, len(text))
                    yield text

    async def list_of(self, cursor: RawCursor) -> AsyncGenerator[bytes]:
        """Read what a cursor finds as pieces of a JSON list."""
        separator = b"["
        async for text in self.texts(cursor):
            yield separator + text
            separator = b","
        yield b"[]" if separator == b"[" else b"]"
