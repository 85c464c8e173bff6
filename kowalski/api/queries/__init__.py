"""Queries of the archive: one module per type, and `answer`, which picks the right one."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from kowalski.api import extjson
from kowalski.api.models import queries as models
from kowalski.api.queries import aggregate, cone_search, count_documents, drop, find, find_one, info, near
from kowalski.api.queries.archive import Archive

__all__ = ["Archive", "answer"]


async def answer(query: models.AnyQuery, archive: Archive) -> AsyncGenerator[bytes] | None:
    """Run a query and give its data as pieces of JSON; None if there are none to show."""
    match query:
        case models.FindQuery():
            return find.run(query, archive)
        case models.AggregateQuery():
            return await aggregate.run(query, archive)
        case models.ConeSearchQuery():
            return cone_search.run(query, archive)
        case models.NearQuery():
            return near.run(query, archive)
        case models.FindOneQuery():
            return _whole(await find_one.run(query, archive))
        case models.CountQuery():
            return _whole(await count_documents.run(query, archive))
        case models.EstimatedCountQuery():
            return _whole(await count_documents.estimate(query, archive))
        case models.InfoQuery():
            return _whole(await info.run(query, archive))
        case models.DropQuery():
            await drop.run(query, archive)
            return None


def _whole(data: object) -> AsyncGenerator[bytes] | None:
    if data is None:
        return None

    async def piece() -> AsyncGenerator[bytes]:
        yield extjson.dumps(data)

    return piece()
