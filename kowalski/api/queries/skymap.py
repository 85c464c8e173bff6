"""``skymap``: what lies in a credible region of a localization."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, Literal

import bson
import numpy as np
from pydantic import Field, model_validator

from kowalski.api import extjson
from kowalski.api.errors import ApiError
from kowalski.api.models.common import Request
from kowalski.api.models.queries import FindBody, FindOptions, NoneAsEmpty
from kowalski.api.models.skymaps import Alias, Level, Name, Time, Trigger, readable
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.base import ArchiveQuery
from kowalski.api.queries.positions import FIELD
from kowalski.api.reading import RawCursor
from kowalski.api.results import Rows
from kowalski.archive import skymaps
from kowalski.science.mocs import Moc

CAPS = 64
"""Circles in which MongoDB looks first; they cover the region."""
WHERE = f"{FIELD}.coordinates"


class Localization(Request):
    """A stored localization, and a credible level of it."""

    localization_name: Name | None = None
    dateobs: Time | None = None
    trigger_id: Trigger | None = None
    triggerid: Trigger | None = None
    aliases: Annotated[list[Alias], Field(max_length=100)] | None = None
    contour: Annotated[Level, Field(description="Credible level in per cent.")] = 90.0

    @model_validator(mode="after")
    def _finds_one(self) -> Localization:
        if self.localization_name is None:
            raise ValueError("name must be specified")
        if self.dateobs is None and self.trigger_id is None and self.triggerid is None and not self.aliases:
            raise ValueError("at least one of dateobs, trigger_id, aliases must be specified")
        return self

    @property
    def names(self) -> skymaps.Names:
        """By what it is found."""
        trigger = self.trigger_id if self.trigger_id is not None else self.triggerid
        return skymaps.Names(self.localization_name, self.dateobs, trigger, tuple(self.aliases or ()))


class SkymapBody(FindBody):
    """What to find, in the region of which localization."""

    skymap: Localization


class SkymapQuery(ArchiveQuery):
    """Documents in a credible region of a localization."""

    query_type: Literal["skymap"]
    query: SkymapBody
    kwargs: Annotated[FindOptions, NoneAsEmpty] = FindOptions()

    async def run(self, archive: Archive) -> Rows:
        """Give the documents.

        MongoDB knows no HEALPix cells. It finds what lies in circles that cover the region, and of that only names and
        positions; those that are in the region are then read by name.
        """
        region = await _region(archive, self.query.skymap)
        positions = {"_id": 1, WHERE: 1}
        options = self.kwargs.model_copy(update={"skip": None, "limit": None})
        cursor = await archive.find(self.query.catalog, self._with(_around(region)), positions, options)
        return Rows(self._inside(archive, cursor, region))

    def _with(self, condition: dict[str, Any]) -> dict[str, Any]:
        return {"$and": [condition, self.query.filter]} if self.query.filter else condition

    async def _inside(self, archive: Archive, cursor: RawCursor, region: Moc) -> AsyncGenerator[bytes]:
        loop = asyncio.get_running_loop()
        to_skip, left = self.kwargs.skip or 0, self.kwargs.limit or math.inf
        options = self.kwargs.model_copy(
            update={"skip": None, "limit": None, "hint": None, "sort": _sort_of_parts(self.kwargs)}
        )
        async with aclosing(archive.batches(cursor)) as batches:
            async for batch in batches:
                found = await loop.run_in_executor(archive.services.encoder, _names_inside, batch, region)
                names = found[to_skip:][: int(min(left, len(found)))]
                to_skip = max(0, to_skip - len(found))
                left -= len(names)
                if names:
                    condition = self._with({"_id": {"$in": names}})
                    documents = await archive.find(self.query.catalog, condition, self.query.projection, options)
                    async with aclosing(archive.batches(documents)) as parts:
                        async for part in parts:
                            yield part
                if left <= 0:
                    return


async def _region(archive: Archive, wanted: Localization) -> Moc:
    level = skymaps.level_name(wanted.contour)
    found = await skymaps.find(archive.services.data, wanted.names, f"moc.{level}")
    if found is None:
        raise ApiError("ValueError: Skymap not found")
    document = (found.get("moc") or {}).get(level)
    if document is None:
        raise ApiError(f"ValueError: Contour level {readable(wanted.contour)} not found in skymap")
    return Moc.from_document(document)


def _around(region: Moc) -> dict[str, Any]:
    """Make MongoDB's condition for circles that cover a region; for all that has a position if it is too large."""
    caps = region.caps(CAPS)
    if caps is None:
        return {WHERE: {"$exists": True}}
    circles = [
        {FIELD: {"$geoWithin": {"$centerSphere": [[ra - 180.0, dec], math.radians(radius)]}}}
        for ra, dec, radius in caps
    ]
    return circles[0] if len(circles) == 1 else {"$or": circles}


def _names_inside(batch: bytes, region: Moc) -> list[Any]:
    """Decode names and positions, and keep the names of what is in the region."""
    documents = [bson.decode(raw, extjson.OPTIONS) for raw in extjson.split(batch)]
    placed = [(document["_id"], place) for document in documents if (place := _place(document)) is not None]
    if not placed:
        return []
    lon, lat = np.array([place for _, place in placed]).T
    inside = region.contains(lon + 180.0, lat)
    return [name for (name, _), kept in zip(placed, inside.tolist(), strict=True) if kept]


def _place(document: dict[str, Any]) -> tuple[float, float] | None:
    found: Any = document
    for part in WHERE.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    if not isinstance(found, list) or len(found) != 2 or not all(isinstance(value, int | float) for value in found):
        return None
    lon, lat = (float(value) for value in found)
    return (lon, lat) if -180.0 <= lon <= 180.0 and -90.0 <= lat <= 90.0 else None


def _sort_of_parts(options: FindOptions) -> Any:
    """Sort what is read by name like the names; natural order, which is that of storing, is nearly that of names."""
    return [("_id" if field == "$natural" else field, way) for field, way in options.sort or ()] or None
