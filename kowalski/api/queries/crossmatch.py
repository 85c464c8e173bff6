"""``crossmatch``: the sources of a catalog around each row of a table that a user sends.

It is searched as ``cone_search`` searches around many positions; the answer is a list of pairs, so that it can be a
table, too. What is asked stands in the query string, because the body is the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any

import bson
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pymongo.errors import OperationFailure

from kowalski.api import sandbox
from kowalski.api.cells import NOT_FOR_VIEWS
from kowalski.api.errors import ApiError, InvalidRequestError
from kowalski.api.models.common import CatalogName, Filter, Projection, Request, Success
from kowalski.api.models.queries import AngularUnit, CatalogPart, PositionOptions
from kowalski.api.queries import projections, together
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.positions import FIELD, RADIANS, Cone
from kowalski.api.queries.together import POSITIONS, RADIUS, Together
from kowalski.api.results import Rows

if TYPE_CHECKING:
    from kowalski.api.uploads import Table  # reads with pyarrow: 50 MB of memory, which many instances never need

LARGEST_LIMIT = 2**31 - 1

Column = Annotated[str, Field(min_length=1, max_length=200)]
AsText = WithJsonSchema({"type": "string", "contentMediaType": "application/json"})


class CrossmatchQuery(Request):
    """What to match a table with, and which of its columns are what."""

    model_config = ConfigDict(extra="forbid")  # there are no old clients whose extra parameters would have to be borne

    catalog: Annotated[CatalogName, Field(description="Catalog with which the table is matched.")]
    radius: Annotated[float, Field(gt=0, allow_inf_nan=False, description="Up to 600 arcsec.")]
    radius_units: AngularUnit = "arcsec"
    ra: Annotated[Column | None, Field(description="Column of right ascension; found by its usual names.")] = None
    dec: Annotated[Column | None, Field(description="Column of declination; found by its usual names.")] = None
    id: Annotated[Column | None, Field(description="Column that is to come back with each match.")] = None
    filter: Annotated[
        Filter,
        AsText,
        Field(default_factory=dict, description="A MongoDB query, as JSON: which sources of the catalog."),
    ]
    projection: Annotated[
        Projection,
        AsText,
        Field(default_factory=dict, description="A MongoDB projection, as JSON: what of each source."),
    ]
    limit: Annotated[
        int | None,
        Field(ge=1, le=LARGEST_LIMIT, description="Matches of each row at most, nearest first; 1: the nearest."),
    ] = None
    max_time_ms: Annotated[
        int | None, Field(ge=1, description="Time in the database, up to what the instance allows.")
    ] = None

    async def run(self, archive: Archive, table: Table) -> Rows:
        """Give a document for each pair of a row and a source, by row and then nearest first.

        Raises
        ------
        ApiError
            If the catalog can't be searched by position, or not as asked.
        """
        cone = Cone(self.radius * RADIANS[self.radius_units])
        part, options = self._part(), PositionOptions(max_time_ms=self.max_time_ms)
        if cone.arcsec > RADIUS * (1.0 + 1e-9):
            raise InvalidRequestError(f"radius: at most {RADIUS:g} arcsec")
        if not projections.is_translatable(part.projection):
            raise InvalidRequestError("projection: here elements of arrays can't be chosen by what has matched")
        sandbox.check_expression([part.filter, part.projection])
        order = await together.cell_order(archive, self.catalog, cone, options)
        if order is None:
            await _check_geometry(archive, self.catalog)
        search = Together(self.catalog, part, cone, options, order)
        return Rows(_Match(archive, search, table, self.limit).batches())

    def _part(self) -> CatalogPart:
        return CatalogPart.model_construct(filter=self.filter, projection=self.projection)


class Pair(BaseModel):
    """A row of the table and a source of the catalog."""

    row: Annotated[int, Field(description="Of the table, from 0.")]
    id: int | str | None = None
    ra: Annotated[float, Field(description="Degrees.")]
    dec: Annotated[float, Field(description="Degrees.")]
    separation: Annotated[float, Field(description="Arcsec.")]
    match: Annotated[dict[str, Any], Field(description="The source.")]


class CrossmatchAnswer(Success):
    """Pairs of rows and sources."""

    data: list[Pair]


class _Match:
    """The match of one table."""

    def __init__(self, archive: Archive, search: Together, table: Table, limit: int | None) -> None:
        self._archive = archive
        self._search = search
        self._table = table
        self._limit = limit

    async def batches(self) -> AsyncGenerator[bytes]:
        """Give the pairs in BSON, for so many rows at a time as one command takes."""
        rows = len(self._table.positions)
        for start in range(0, rows, POSITIONS):
            async for batch in self._some(start, min(start + POSITIONS, rows)):
                yield batch

    async def _some(self, start: int, end: int) -> AsyncGenerator[bytes]:
        """Search around rows by one command; if that is too much, around each half of them."""
        positions = self._table.positions[start:end]
        stages = await asyncio.to_thread(self._search.pipeline, positions)
        cursor = await self._archive.aggregate(
            self._search.catalog, stages, self._search.options, batchSize=together.BATCH
        )
        found = await together.read(self._archive, cursor)
        if found is not None:
            yield await asyncio.to_thread(self._pairs, start, end, found)
        elif end - start == 1:
            raise ApiError(
                f"around row {start} (from 0) there are more than {together.HELD} bytes; "
                "use a projection, a filter or a smaller radius"
            )
        else:
            middle = (start + end) // 2
            for first, last in ((start, middle), (middle, end)):
                async for batch in self._some(first, last):
                    yield batch

    def _pairs(self, start: int, end: int, found: list[bytes]) -> bytes:
        near, arcsec = self._search.pairs(self._table.positions[start:end], found)
        pairs = zip(near.left.tolist(), near.right.tolist(), arcsec.tolist(), strict=True)
        return b"".join(
            self._pair(start + position, separation, together.document(found[source]))
            for position, sources in groupby(pairs, itemgetter(0))
            for _, source, separation in list(sources)[: self._limit]
        )

    def _pair(self, row: int, separation: float, document: bytes) -> bytes:
        position, ids = self._table.positions[row], self._table.ids
        known: dict[str, Any] = {"row": row} if ids is None else {"row": row, "id": ids[row]}
        known |= {"ra": position.ra, "dec": position.dec, "separation": separation}
        elements = bson.encode(known)[4:-1] + b"\x03match\0" + document
        return (len(elements) + 5).to_bytes(4, "little") + elements + b"\0"


async def _check_geometry(archive: Archive, catalog: str) -> None:
    """Refuse a catalog of which every source would be looked at, for every few rows; of views that is not known."""
    collection = await archive.collection(catalog)
    try:
        known = await collection.index_information()
    except OperationFailure as error:
        if error.code != NOT_FOR_VIEWS:
            raise
        return
    if not known:
        raise ApiError(f"there is no catalog {catalog}")
    if not any(index["key"][0] == (FIELD, "2dsphere") for index in known.values()):
        raise ApiError(f"{catalog} has no index of positions that serves this radius")
