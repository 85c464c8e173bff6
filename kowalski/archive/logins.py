"""Failed logins, counted per address and account and minute, for all processes of the API together."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime

from pymongo import IndexModel, ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive import names
from kowalski.archive.client import Document

WINDOW = 60
"""Seconds over which attempts are counted."""
INDEXES = [IndexModel([("expires", 1)], name="expires", expireAfterSeconds=0)]


async def ensure_indexes(system: AsyncDatabase[Document]) -> None:
    """Let MongoDB delete old counts; safe to call at the same time from several processes."""
    await system[names.LOGINS].create_indexes(INDEXES)


async def count(system: AsyncDatabase[Document], address: str, account: str) -> tuple[int, int]:
    """Count an attempt, before it is known how it ends.

    Returns
    -------
    attempts, seconds
        How many there were in this minute, this one included, and when the next minute starts.
    """
    now = time.time()
    ends = (int(now) // WINDOW + 1) * WINDOW
    change = {"$inc": {"attempts": 1}, "$setOnInsert": {"expires": datetime.fromtimestamp(ends + WINDOW, UTC)}}
    found: Document = await system[names.LOGINS].find_one_and_update(  # type: ignore[assignment]  # never None: upsert
        {"_id": _key(address, account, ends)}, change, upsert=True, return_document=ReturnDocument.AFTER
    )
    return int(found["attempts"]), max(1, round(ends - now))


async def forgive(system: AsyncDatabase[Document], address: str, account: str) -> None:
    """Take back an attempt that succeeded."""
    ends = (int(time.time()) // WINDOW + 1) * WINDOW
    await system[names.LOGINS].update_one({"_id": _key(address, account, ends)}, {"$inc": {"attempts": -1}})


def _key(address: str, account: str, ends: int) -> str:
    # Hashed, because an account is whatever somebody sends: of any length, and perhaps a password in the wrong field.
    digest = hashlib.sha256(f"{address}\n{account}".encode(errors="replace")).hexdigest()[:32]
    return f"{digest}:{ends}"
