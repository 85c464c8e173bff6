"""From which addresses a user has logged in: ``_id`` names the two together, ``expires`` says until when it counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pymongo import IndexModel
from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive import names
from kowalski.archive.client import Document
from kowalski.archive.counts import FORGETTABLE, digest

KEPT = timedelta(days=90)
INDEXES = [IndexModel([("expires", 1)], name="expires", expireAfterSeconds=0)]


async def ensure_indexes(system: AsyncDatabase[Document]) -> None:
    """Let MongoDB delete old entries; safe to call at the same time from several processes."""
    await system[names.LOGINS].create_indexes(INDEXES)


async def knows(system: AsyncDatabase[Document], address: str, account: str) -> bool:
    """Tell whether somebody has logged in to ``account`` from ``address``."""
    return await system[names.LOGINS].find_one({"_id": digest(address, account)}, {"_id": 1}) is not None


async def remember(system: AsyncDatabase[Document], address: str, account: str) -> None:
    """Note a login that succeeded."""
    entry = {"$set": {"expires": datetime.now(UTC) + KEPT}}
    collection = system[names.LOGINS].with_options(write_concern=FORGETTABLE)
    await collection.update_one({"_id": digest(address, account)}, entry, upsert=True)
