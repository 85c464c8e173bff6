"""The figures of each service, as text in the format of Prometheus: whoever is asked for metrics gives all of them.

One document per process in the system database: ``_id`` is its name (``broker:ZTF``,
``worker:<address>``, ``courier``), ``at`` when it was written (UTC), ``text``. What is
older than `FRESH` is of a process that is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from pymongo import IndexModel, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document

FRESH = timedelta(seconds=60)
INDEXES = [IndexModel([("at", 1)], name="at", expireAfterSeconds=3600)]
FORGETTABLE = WriteConcern(w=1)
"""Figures that a crash takes back are written again in some seconds."""


def put(system: Database[Document], service: str, text: str) -> None:
    """Replace the figures of ``service``."""
    found = system[names.FIGURES].with_options(write_concern=FORGETTABLE)
    found.replace_one({"_id": service}, _document(text), upsert=True)


async def put_async(system: AsyncDatabase[Document], service: str, text: str) -> None:
    """Like `put`, for asyncio."""
    found = system[names.FIGURES].with_options(write_concern=FORGETTABLE)
    await found.replace_one({"_id": service}, _document(text), upsert=True)


def read(system: Database[Document]) -> Mapping[str, str]:
    """Read the figures of all processes that are alive, by service."""
    now = datetime.now(UTC)
    match = {"at": {"$gt": now - FRESH, "$lt": now + FRESH}}  # later: of one that has ended before a clock was set
    return {found["_id"]: found["text"] for found in system[names.FIGURES].find(match).sort("_id")}


def _document(text: str) -> Document:
    return {"at": datetime.now(UTC), "text": text}
