"""Which objects SkyPortal has, as far as is known here: they get new photometry whether a filter passes or not.

One document per object, ``_id`` is its name, in the system database. Entries come from what is delivered and from
looking through SkyPortal's sources now and then; the latter is as old as `looked_through` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pymongo import UpdateOne
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document

MARK = {"_id": names.KNOWN_OBJECTS}


def among(system: Database[Document], object_ids: Sequence[str]) -> set[str]:
    """Choose those of some objects that SkyPortal has."""
    found = system[names.KNOWN_OBJECTS].find({"_id": {"$in": list(object_ids)}}, {"_id": 1})
    return {document["_id"] for document in found}


def summary(system: Database[Document]) -> Document:
    """Count the known objects, and give the time (UTC) up to which SkyPortal was looked through, or None."""
    mark = system[names.MARKS].find_one(MARK) or {}
    until = mark.get("until")
    known = system[names.KNOWN_OBJECTS].estimated_document_count()
    return {"objects": known, "looked_through": None if until is None else until.replace(tzinfo=UTC)}


async def add(system: AsyncDatabase[Document], object_ids: Iterable[str]) -> None:
    """Note objects that SkyPortal has."""
    updates = [UpdateOne({"_id": name}, {"$setOnInsert": {"_id": name}}, upsert=True) for name in object_ids]
    if updates:
        await system[names.KNOWN_OBJECTS].bulk_write(updates, ordered=False)


async def forget(system: AsyncDatabase[Document], object_id: str) -> None:
    """Note that SkyPortal does not have an object (any more)."""
    await system[names.KNOWN_OBJECTS].delete_one({"_id": object_id})


async def looked_through(system: AsyncDatabase[Document]) -> datetime | None:
    """Tell up to which time (UTC) SkyPortal's sources are known; None: nobody has looked yet."""
    mark = await system[names.MARKS].find_one(MARK)
    return None if mark is None else mark["until"].replace(tzinfo=UTC)


async def look_through(system: AsyncDatabase[Document], until: datetime) -> None:
    """Note that all sources that were made or changed before ``until`` are known."""
    await system[names.MARKS].update_one(MARK, {"$set": {"until": until}}, upsert=True)
