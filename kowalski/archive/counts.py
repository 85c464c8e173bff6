"""How often something happened within the current minute, for all processes of the API together."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from pymongo import IndexModel, ReturnDocument, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive import names
from kowalski.archive.client import Document

WINDOW = 60
"""Seconds over which is counted."""
INDEXES = [IndexModel([("expires", 1)], name="expires", expireAfterSeconds=0)]
FORGETTABLE = WriteConcern(w=1)
"""A count that a crash takes back does no harm; waiting for the journal would cost every login some milliseconds."""


@dataclass(frozen=True, slots=True)
class Count:
    """A count as it was right after it went up by one.

    Attributes
    ----------
    number
        How often it happened in this minute, this time included.
    seconds
        When the next minute starts, from now.
    """

    key: str
    number: int
    seconds: int


async def ensure_indexes(system: AsyncDatabase[Document]) -> None:
    """Let MongoDB delete old counts; safe to call at the same time from several processes."""
    await system[names.COUNTS].create_indexes(INDEXES)


async def add(system: AsyncDatabase[Document], *what: str) -> Count:
    """Count once more what the texts ``what`` name together."""
    now = time.time()
    ends = (int(now) // WINDOW + 1) * WINDOW
    key = f"{digest(*what)}:{ends}"
    change = {"$inc": {"number": 1}, "$setOnInsert": {"expires": datetime.fromtimestamp(ends + WINDOW, UTC)}}
    found: Document = await _counts(system).find_one_and_update(  # type: ignore[assignment]  # never None: upsert
        {"_id": key}, change, upsert=True, return_document=ReturnDocument.AFTER
    )
    return Count(key, int(found["number"]), max(1, round(ends - now)))


async def take_back(system: AsyncDatabase[Document], count: Count) -> None:
    """Make as if this time had not been."""
    await _counts(system).update_one({"_id": count.key}, {"$inc": {"number": -1}})


def digest(*what: str) -> str:
    """Name texts together; they may be long, and one perhaps a password that was typed in the wrong field."""
    return hashlib.sha256(repr(what).encode(errors="replace")).hexdigest()[:32]


def _counts(system: AsyncDatabase[Document]) -> AsyncCollection[Document]:
    return system[names.COUNTS].with_options(write_concern=FORGETTABLE)
