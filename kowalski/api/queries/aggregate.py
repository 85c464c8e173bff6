"""``aggregate``: what a pipeline makes of a catalog."""

from __future__ import annotations

from kowalski.api import sandbox
from kowalski.api.models.queries import AggregateQuery
from kowalski.api.queries.archive import BATCH, Archive
from kowalski.api.results import Rows


async def run(query: AggregateQuery, archive: Archive) -> Rows:
    """Give the documents."""
    body, options = query.query, query.kwargs
    sandbox.check_pipeline(body.pipeline)
    cursor = await archive.collection(body.catalog).aggregate_raw_batches(
        body.pipeline,
        allowDiskUse=options.allowDiskUse,
        maxTimeMS=archive.time(options),
        comment=archive.user.name,
        batchSize=min(options.batchSize or BATCH, BATCH),
    )
    return Rows(archive.batches(cursor))
