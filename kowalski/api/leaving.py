"""Clients that leave before they have their answer: what is done for them ends, in the database, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession

from kowalski.api.errors import ApiError
from kowalski.archive.client import Document

INTERVAL = 0.25
"""Seconds between two looks at the connection."""
SETTLED = 1.0
"""Seconds after which MongoDB has ended what it was told to end; nobody waits for them."""


class ClientLeftError(ApiError):
    """There is nobody any more to answer to; the status is for the log, as nginx writes it."""

    status = 499

    def __init__(self) -> None:
        super().__init__("the client has left")


class Session:
    """A session with MongoDB, begun when something is first done in it: many answers need none of their own."""

    def __init__(self, client: AsyncMongoClient[Document]) -> None:
        self._client = client
        self._begun: AsyncClientSession | None = None

    def get(self) -> AsyncClientSession:
        """Give the session."""
        if self._begun is None:
            self._begun = self._client.start_session(causal_consistency=False)
        return self._begun

    async def kill(self) -> None:
        """End what is done in it, in the server, too."""
        if self._begun is not None:
            await _kill(self._client, self._begun.session_id)

    async def end(self) -> None:
        """Give it back."""
        if self._begun is not None:
            await self._begun.end_session()


@asynccontextmanager
async def session(client: AsyncMongoClient[Document]) -> AsyncGenerator[Session]:
    """Give a session with MongoDB that ends there when the client has left.

    With it end the operations that run in it and its cursors, also those of which the driver does not know yet: a
    cancelled operation goes on, and may leave a cursor behind.
    """
    session = Session(client)
    try:
        yield session
    except (ClientLeftError, asyncio.CancelledError):  # the server may notice first, and cancel the handler
        await asyncio.shield(session.kill())
        raise
    finally:
        await session.end()


async def _kill(client: AsyncMongoClient[Document], session_id: Mapping[str, Any]) -> None:
    await client.admin.command("killSessions", [session_id])
    await asyncio.sleep(SETTLED)  # what was at its very end, or had not begun, may have left a cursor since
    await client.admin.command("killSessions", [session_id])


@asynccontextmanager
async def noticed(request: web.Request) -> AsyncGenerator[None]:
    """Cancel what is done inside when the client leaves.

    Raises
    ------
    ClientLeftError
        If that has happened.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None  # handlers run in tasks
    has_left = False
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal has_left, timer
        if request.transport is None or request.transport.is_closing():
            has_left = True
            task.cancel()
        else:
            timer = loop.call_later(INTERVAL, look)

    timer = loop.call_later(INTERVAL, look)
    try:
        yield
    except asyncio.CancelledError:
        if has_left and not task.uncancel():
            raise ClientLeftError from None
        raise
    finally:
        timer.cancel()
