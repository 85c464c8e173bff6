"""``aggregate``: what a pipeline makes of a catalog."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kowalski.api import sandbox
from kowalski.api.models.common import Pipeline
from kowalski.api.models.queries import CatalogQuery, NoneAsEmpty, Options
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.base import ArchiveQuery
from kowalski.api.reading import FIRST
from kowalski.api.results import Rows


class AggregateOptions(Options):
    """Options of an aggregation."""

    allowDiskUse: bool = True
    batchSize: Annotated[int | None, Field(ge=1, le=100_000)] = None


class AggregateBody(CatalogQuery):
    """A pipeline and the catalog it starts from."""

    pipeline: Pipeline


class AggregateQuery(ArchiveQuery):
    """What a pipeline makes of a catalog."""

    gives_documents = True
    query_type: Literal["aggregate"]
    query: AggregateBody
    kwargs: Annotated[AggregateOptions, NoneAsEmpty] = AggregateOptions()

    async def run(self, archive: Archive) -> Rows:
        """Give the documents."""
        pipeline, options = self.query.pipeline, self.kwargs
        sandbox.check_pipeline(pipeline)
        size = min(options.batchSize or FIRST, FIRST)
        disk = {"allowDiskUse": options.allowDiskUse}
        cursor = await archive.aggregate(self.query.catalog, pipeline, options, batchSize=size, **disk)
        return Rows(archive.batches(cursor))
