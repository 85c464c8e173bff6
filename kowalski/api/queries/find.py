"""``find``: documents that match a filter."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from kowalski.api import sandbox
from kowalski.api.models.queries import FindQuery
from kowalski.api.queries.archive import BATCH, Archive


def run(query: FindQuery, archive: Archive) -> AsyncGenerator[bytes]:
    """Give the documents as pieces of a JSON list."""
    body = query.query
    sandbox.check_expression([body.filter, body.projection])
    cursor = archive.collection(body.catalog).find_raw_batches(
        body.filter, body.projection or None, batch_size=BATCH, **archive.finding(query.kwargs)
    )
    return archive.list_of(cursor)
