"""What each service last said of itself: ``status`` reads it, each service writes only its own document.

One document per service in the system database: ``_id`` is its name (``broker:ZTF``, ``worker:<address>``,
``courier``), ``at`` when it was written (UTC), the rest are the service's own fields.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document

STALE = timedelta(hours=1)
"""A service that has said nothing for so long is gone."""


def put(system: Database[Document], service: str, **fields: Any) -> None:
    """Replace the report of ``service``."""
    report = {"_id": service, "at": datetime.now(UTC), **fields}
    system[names.REPORTS].replace_one({"_id": service}, report, upsert=True)


async def put_async(system: AsyncDatabase[Document], service: str, **fields: Any) -> None:
    """Like `put`, for asyncio."""
    report = {"_id": service, "at": datetime.now(UTC), **fields}
    await system[names.REPORTS].replace_one({"_id": service}, report, upsert=True)


def read(system: Database[Document], kind: str) -> list[Document]:
    """Read the recent reports of services whose name starts with ``kind``, newest first."""
    match = {"_id": {"$regex": f"^{kind}(:|$)"}, "at": {"$gt": datetime.now(UTC) - STALE}}
    return list(system[names.REPORTS].find(match).sort("at", -1))
