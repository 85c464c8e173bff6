"""Localizations of events, in the data database: users may query them like any catalog.

A document has ``dateobs`` (UTC), ``localization_name``, ``aliases``, ``triggerid`` if there is one, ``contours``
(``center`` and ``contour<level>``: GeoJSON for drawing, longitudes are RA - 180), ``moc`` (level -> `Moc.document`:
what membership is decided by) and ``levels``. Levels are credible levels in per cent, in names as `level_name` writes
them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pymongo import IndexModel, ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, OperationFailure

from kowalski.archive.client import Document

COLLECTION = "skymaps"
INDEXES = [
    IndexModel([("dateobs", -1), ("localization_name", 1)], name="dateobs_localization_name", unique=True),
    IndexModel([("localization_name", 1)], name="localization_name"),
]
DUPLICATE_KEY = 11000

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Names:
    """By what a localization is found: its name and any one of the others.

    Attributes
    ----------
    exactly
        Whether ``aliases`` must be all that there are; otherwise one of them is enough.
    """

    localization_name: str | None
    dateobs: datetime | None = None
    trigger: int | str | None = None
    aliases: Sequence[str] = ()
    exactly: bool = False

    @property
    def condition(self) -> Document:
        """MongoDB's condition for it."""
        any_of: list[Document] = []
        if self.dateobs is not None:
            any_of.append({"dateobs": self.dateobs})
        if self.trigger is not None:
            any_of.append({"triggerid": {"$in": _numbers_and_texts(self.trigger)}})
        if self.aliases and self.exactly:
            any_of.append({"aliases": {"$size": len(set(self.aliases)), "$all": sorted(set(self.aliases))}})
        elif self.aliases:
            any_of.append({"aliases": {"$in": list(self.aliases)}})
        named = {} if self.localization_name is None else {"localization_name": self.localization_name}
        return {**named, "$or": any_of}


def level_name(level: float) -> str:
    """Write a credible level as documents name it: 90, 99_5."""
    return f"{level:.4f}".rstrip("0").rstrip(".").replace(".", "_")


def levels_of(document: Document) -> list[float]:
    """List the credible levels of a stored localization; those of an existing system's have none to decide by."""
    return sorted(document.get("levels") or [])


async def ensure_indexes(data: AsyncDatabase[Document]) -> None:
    """Create the indexes; safe to call at the same time from several processes."""
    try:
        await data[COLLECTION].create_indexes(INDEXES)
    except OperationFailure as error:
        if error.code != DUPLICATE_KEY:
            raise
        log.warning("%s holds some localizations twice; until one of each is removed there is no index", COLLECTION)


async def find(data: AsyncDatabase[Document], names: Names, *fields: str) -> Document | None:
    """Read a localization: some fields of it, or everything but the cells of its regions."""
    shown = dict.fromkeys(fields, 1) or {"moc": 0}
    return await data[COLLECTION].find_one(names.condition, shown)


async def save(data: AsyncDatabase[Document], document: Document, names: Names) -> list[float]:
    """Store a localization, or add its levels to the one that is there; levels saved at the same time are all kept.

    Returns
    -------
    list of float
        All its levels now.
    """
    added = {
        f"{part}.{name}": value
        for part in ("contours", "moc")
        for name, value in document[part].items()
        if name != "center"
    }
    change = {"$set": added, "$addToSet": {"levels": {"$each": document["levels"]}}}
    for _ in range(2):
        stored: Document | None = await data[COLLECTION].find_one_and_update(
            names.condition, change, {"levels": 1}, return_document=ReturnDocument.AFTER
        )
        if stored is not None:
            return levels_of(stored)
        try:
            await data[COLLECTION].insert_one(document)
        except DuplicateKeyError:  # somebody was faster with the same one
            continue
        return levels_of(document)
    raise RuntimeError(f"localization {document['localization_name']} comes and goes")


async def remove(data: AsyncDatabase[Document], names: Names) -> int:
    """Delete a localization; tells how many there were."""
    return (await data[COLLECTION].delete_one(names.condition)).deleted_count


def _numbers_and_texts(trigger: int | str) -> list[int | str]:
    """A trigger's number as it may be stored: as a number or as a text."""
    text = str(trigger)
    return [text, int(text)] if text.isascii() and text.isdigit() and len(text) < 19 else [text]
