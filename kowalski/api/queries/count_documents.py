"""``count_documents`` and ``estimated_document_count``."""

from __future__ import annotations

from typing import Any

from kowalski.api import sandbox
from kowalski.api.models.queries import CountQuery, EstimatedCountQuery
from kowalski.api.queries.archive import Archive


async def run(query: CountQuery, archive: Archive) -> int:
    """Count the documents that match a filter."""
    body, options = query.query, query.kwargs
    sandbox.check_expression(body.filter)
    chosen: dict[str, Any] = {"skip": options.skip, "limit": options.limit, "hint": options.hint}
    kept = {name: value for name, value in chosen.items() if value}
    return await archive.collection(body.catalog).count_documents(
        body.filter, maxTimeMS=archive.time(options), comment=archive.user.name, **kept
    )


async def estimate(query: EstimatedCountQuery, archive: Archive) -> int:
    """Give the number of documents that MongoDB has noted for a collection."""
    collection = archive.collection(query.query.catalog)
    return await collection.estimated_document_count(maxTimeMS=archive.time(query.kwargs), comment=archive.user.name)
