"""``find``: documents that match a filter."""

from __future__ import annotations

from typing import Annotated, Literal

from kowalski.api.models.queries import FindBody, FindOptions, NoneAsEmpty
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.base import ArchiveQuery
from kowalski.api.results import Rows


class FindQuery(ArchiveQuery):
    """Documents that match a filter."""

    gives_documents = True
    query_type: Literal["find"]
    query: FindBody
    kwargs: Annotated[FindOptions, NoneAsEmpty] = FindOptions()

    async def run(self, archive: Archive) -> Rows:
        """Give the documents."""
        body = self.query
        found = await archive.look_up(body.catalog, body.filter, body.projection, self.kwargs)
        if found is not None:
            return Rows.of(b"".join(found))
        cursor = await archive.find(body.catalog, body.filter, body.projection, self.kwargs)
        return Rows(archive.batches(cursor))
