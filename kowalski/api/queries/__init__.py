"""Queries of the archive: one module per type, and `answer`, which picks the right one."""

from __future__ import annotations

from kowalski.api.models import queries as models
from kowalski.api.queries import aggregate, cone_search, count_documents, drop, find, find_one, info, near
from kowalski.api.queries.archive import Archive
from kowalski.api.results import Result, Value

__all__ = ["Archive", "answer"]


async def answer(query: models.AnyQuery, archive: Archive) -> Result:
    """Run a query; what it gives is read from the database as it is wanted."""
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
            return Value(await find_one.run(query, archive))
        case models.CountQuery():
            return Value(await count_documents.run(query, archive))
        case models.EstimatedCountQuery():
            return Value(await count_documents.estimate(query, archive))
        case models.InfoQuery():
            return Value(await info.run(query, archive))
        case models.DropQuery():
            await drop.run(query, archive)
            return Value(None)
