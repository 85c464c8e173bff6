"""What every query works with: the collections a user may read, and the ceilings that hold."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, cast

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.command_cursor import AsyncRawBatchCommandCursor
from pymongo.asynchronous.cursor import AsyncRawBatchCursor

from kowalski.api import sandbox
from kowalski.api.formats.encoder import Encoder, Meter
from kowalski.api.models.queries import FindOptions, Options
from kowalski.api.services import Services
from kowalski.archive.client import Document
from kowalski.archive.users import User

BATCH = 1000
"""Documents that are read at a time."""

RawCursor = AsyncRawBatchCursor[Document] | AsyncRawBatchCommandCursor[Document]


@dataclass(slots=True)
class Archive:
    """The archive as one user sees it, for one query."""

    services: Services
    user: User

    def encoder(self) -> Encoder:
        """Make the encoder for the answer."""
        return Encoder(self.services.encoder, Meter(self.services.settings.queries))

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

    async def batches(self, cursor: RawCursor) -> AsyncGenerator[bytes]:
        """Read what a cursor finds, batch by batch; the end of the iteration ends the query."""
        async with cursor:
            async for found in cursor:
                yield cast(bytes, found)  # raw batches are bytes, whatever type the collection's documents have
