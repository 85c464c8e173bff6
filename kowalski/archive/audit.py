"""Who has changed what, through the API or at the command line.

An entry has ``at``, ``user``, ``action`` (what was asked), ``details`` (what is worth knowing beyond that; never a
password), ``address`` and ``request`` (its id, as in the log), and is kept until ``expires``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import IndexModel
from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive import names
from kowalski.archive.client import Document

INDEXES = [
    IndexModel([("expires", 1)], name="expires", expireAfterSeconds=0),
    IndexModel([("at", -1)], name="at"),
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One change that was made."""

    user: str
    action: str
    details: Mapping[str, Any] = field(default_factory=dict)
    address: str | None = None
    request: str | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


async def ensure_indexes(system: AsyncDatabase[Document]) -> None:
    """Make the indexes; safe to call at the same time from several processes."""
    await system[names.AUDIT].create_indexes(INDEXES)


async def record(system: AsyncDatabase[Document], entry: Entry, days: int) -> None:
    """Add an entry, to be kept for ``days``."""
    await system[names.AUDIT].insert_one(
        {
            "at": entry.at,
            "user": entry.user,
            "action": entry.action,
            "details": dict(entry.details),
            "address": entry.address,
            "request": entry.request,
            "expires": entry.at + timedelta(days=days),
        }
    )


async def listing(system: AsyncDatabase[Document], *, user: str | None = None, limit: int = 0) -> AsyncIterator[Entry]:
    """Read entries, newest first, of one user or of all."""
    chosen = {} if user is None else {"user": user}
    async for document in system[names.AUDIT].find(chosen).sort([("at", -1), ("_id", -1)]).limit(limit):
        yield Entry(
            document["user"],
            document["action"],
            document["details"],
            document["address"],
            document["request"],
            document["at"].replace(tzinfo=UTC),
        )
