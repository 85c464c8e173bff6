"""``find``: documents that match a filter."""

from __future__ import annotations

from kowalski.api import sandbox
from kowalski.api.models.queries import FindQuery
from kowalski.api.queries.archive import BATCH, Archive
from kowalski.api.results import Rows


def run(query: FindQuery, archive: Archive) -> Rows:
    """Give the documents."""
    body = query.query
    sandbox.check_expression([body.filter, body.projection])
    cursor = archive.collection(body.catalog).find_raw_batches(
        body.filter, body.projection or None, batch_size=BATCH, **archive.finding(query.kwargs)
    )
    return Rows(archive.batches(cursor))
