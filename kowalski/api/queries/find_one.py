"""``find_one``: the first document that matches a filter."""

from __future__ import annotations

from typing import Annotated, Literal

from bson.raw_bson import RawBSONDocument

from kowalski.api.models.queries import FindBody, FindOptions, NoneAsEmpty
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.base import ArchiveQuery
from kowalski.api.results import Value


class FindOneQuery(ArchiveQuery):
    """The first document that matches a filter."""

    query_type: Literal["find_one"]
    query: FindBody
    kwargs: Annotated[FindOptions, NoneAsEmpty] = FindOptions()

    async def run(self, archive: Archive) -> Value:
        """Give the document, or nothing."""
        body, one = self.query, self.kwargs.model_copy(update={"limit": 1})
        documents = await archive.look_up(body.catalog, body.filter, body.projection, one)
        if documents is None:
            cursor = await archive.find(body.catalog, body.filter, body.projection, one)
            documents = [batch async for batch in archive.batches(cursor)]
        found = b"".join(documents)
        return Value(RawBSONDocument(found) if found else None)
