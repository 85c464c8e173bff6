"""Searches around positions, catalog by catalog: what ``cone_search`` and ``near`` share.

Many positions are searched in one command (`kowalski.api.queries.together`), also if they are of several requests that
come at the same time. What that can't do, and a part of the positions around which there is too much to hold at once,
is searched one by one and sent as it comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import astuple, dataclass, replace

import bson
from pymongo.errors import ExecutionTimeout, OperationFailure

from kowalski.api import sandbox
from kowalski.api.models.queries import CatalogPart, PositionOptions
from kowalski.api.queries import together
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.positions import Cone, Position
from kowalski.api.queries.together import Together
from kowalski.api.results import Match, Matches

GATHERED = 30.0
"""Arcsec up to which searches of several requests are made together: there is little around such a position."""

FEWEST = 5
"""Searches from which on one for all is cheaper than each alone."""

Found = tuple[Position, bytes]
Place = tuple[float, float]


async def search(
    archive: Archive,
    catalogs: Mapping[str, CatalogPart],
    positions: Sequence[Position],
    cone: Cone,
    options: PositionOptions,
) -> Matches:
    """Search each catalog around each position."""
    for name, part in catalogs.items():
        await archive.collection(name)  # so that a request is refused as a whole, before it is answered
        sandbox.check_expression([part.filter, part.projection])

    async def matches() -> AsyncGenerator[Match]:
        for name, part in catalogs.items():
            async with aclosing(_Search(archive, name, part, cone, options).around(positions)) as found:
                async for position, documents in found:
                    yield Match(name, position.name, documents)

    return Matches(list(catalogs), matches())


@dataclass(frozen=True, slots=True)
class _Search:
    """The search of one catalog."""

    archive: Archive
    catalog: str
    part: CatalogPart
    cone: Cone
    options: PositionOptions

    async def around(self, positions: Sequence[Position]) -> AsyncGenerator[Found]:
        """Give the documents around each position, in order; several parts of one follow one another."""
        able = together.is_able(self.part, self.cone, self.options)
        if able and len(positions) == 1 and self.cone.arcsec <= GATHERED:
            documents = await self._with_others(positions[0])
            if documents is not None:
                yield positions[0], documents
                return
        guard = self.archive.guards.get(self.catalog)
        # Nearest first is an order of `find`, which does not look behind a guard that takes something out.
        alone = len(positions) == 1 and not (self.cone.nearest_first and guard is not None and guard.stages)
        if alone or not able:
            for position in positions:
                async for batch in self._one(position):
                    yield position, batch
            return
        search = await self._together()
        for start in range(0, len(positions), together.POSITIONS):
            async for found in self._many(positions[start : start + together.POSITIONS], search):
                yield found

    async def _together(self) -> Together:
        order = await together.cell_order(self.archive, self.catalog, self.cone, self.options)
        return Together(self.catalog, self.part, self.cone, self.options, order)

    async def _with_others(self, position: Position) -> bytes | None:
        """Search around one position together with what other requests ask; None if that is for it to do alone."""
        cones = self.archive.services.cones
        return await cones.ask(self._kind(), (position.ra, position.dec), self._gathered)

    def _kind(self) -> bytes:
        """Write all that searches have in common which are made together, with BSON's types."""
        guard = self.archive.guards.get(self.catalog)
        seen = None if guard is None else [dict(guard.match), *guard.stages]
        given = [self.part.filter, self.part.projection, self.options.model_dump(), *astuple(self.cone)]
        return bson.encode({"_": [self.catalog, self.archive.user.name, seen, *given]})

    async def _gathered(self, places: Sequence[Place]) -> Mapping[Place, bytes | None]:
        """Answer what came together; None: that is too little, or too much."""
        nothing: Mapping[Place, bytes | None] = dict.fromkeys(places)
        if len(places) < FEWEST:
            return nothing
        # Without a session: if one of the clients leaves, the others still want their answers. And with time of its
        # own: whoever came first asks for all who follow, as long as they do.
        archive = replace(self.archive, session=None)
        positions = [Position("", *place) for place in places]
        try:
            search = await replace(self, archive=archive)._together()
            stages = search.pipeline(positions)
            cursor = await archive.aggregate(self.catalog, stages, self.options, batchSize=together.BATCH)
            rows = await together.read(archive, cursor)
        except OperationFailure as error:
            if isinstance(error, ExecutionTimeout):
                raise
            return nothing  # each gets its own answer, or its own error
        if rows is None:
            return nothing
        return dict(zip(places, map(b"".join, search.assign(positions, rows)), strict=True))

    async def _many(self, positions: Sequence[Position], search: Together) -> AsyncGenerator[Found]:
        """Search around all positions by one command; if that is too much, around each half of them."""
        stages = await asyncio.to_thread(search.pipeline, positions)
        cursor = await self.archive.aggregate(self.catalog, stages, self.options, batchSize=together.BATCH)
        rows = await together.read(self.archive, cursor)
        if rows is None and len(positions) == 1:
            async for batch in self._one(positions[0]):
                yield positions[0], batch
            return
        if rows is None:
            middle = len(positions) // 2
            for half in (positions[:middle], positions[middle:]):
                async for found in self._many(half, search):
                    yield found
            return
        documents = await asyncio.to_thread(search.assign, positions, rows)
        for position, around_it in zip(positions, documents, strict=True):
            yield position, b"".join(around_it)

    async def _one(self, position: Position) -> AsyncGenerator[bytes]:
        """Search around one position; gives something even if nothing is there."""
        both = [self.cone.condition(position), self.part.filter]
        # Joined by $and, so that a filter which names the position itself can't replace the cone.
        match = {"$and": both[::-1] if self.options.filter_first else both} if self.part.filter else both[0]
        cursor = await self.archive.find(self.catalog, match, self.part.projection, self.options)
        yield b""
        async with aclosing(self.archive.batches(cursor)) as found:
            async for batch in found:
                yield batch
