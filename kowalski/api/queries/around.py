"""Searches around positions, catalog by catalog: what ``cone_search`` and ``near`` share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from kowalski.api import sandbox
from kowalski.api.models.queries import CatalogPart, PositionOptions
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.positions import Position
from kowalski.api.results import Match, Matches

TOGETHER = 16
"""Searches that run at the same time for one request."""

Condition = Callable[[Position], dict[str, Any]]


async def search(
    archive: Archive,
    catalogs: Mapping[str, CatalogPart],
    positions: Sequence[Position],
    condition: Condition,
    options: PositionOptions,
) -> Matches:
    """Search each catalog around each position.

    Parameters
    ----------
    condition
        Makes MongoDB's condition for a position.
    """
    for name, part in catalogs.items():
        await archive.collection(name)  # so that a request is refused as a whole, before it is answered
        sandbox.check_expression([part.filter, part.projection])

    async def matches() -> AsyncGenerator[Match]:
        for name, part in catalogs.items():
            async with aclosing(_search_one(archive, name, part, positions, condition, options)) as matches:
                async for position, documents in matches:
                    yield Match(name, position.name, documents)

    return Matches(list(catalogs), matches())


async def _search_one(
    archive: Archive,
    catalog: str,
    part: CatalogPart,
    positions: Sequence[Position],
    condition: Condition,
    options: PositionOptions,
) -> AsyncGenerator[tuple[Position, bytes]]:
    async def around(position: Position) -> bytes:
        both = [condition(position), part.filter]
        # Joined by $and, so that a filter which names the position itself can't replace the cone.
        match = {"$and": both[::-1] if options.filter_first else both} if part.filter else both[0]
        cursor = await archive.find(catalog, match, part.projection, options)
        return b"".join([batch async for batch in archive.batches(cursor)])

    for start in range(0, len(positions), TOGETHER):
        some = positions[start : start + TOGETHER]
        found = await asyncio.gather(*(around(position) for position in some), return_exceptions=True)
        for position, documents in zip(some, found, strict=True):
            if isinstance(documents, BaseException):
                raise documents
            yield position, documents
