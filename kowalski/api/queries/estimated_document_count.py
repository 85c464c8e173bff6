"""``estimated_document_count``: about how many documents a catalog holds."""

from __future__ import annotations

from typing import Annotated, Literal

from kowalski.api.models.queries import CatalogQuery, NoneAsEmpty, Options
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.base import ArchiveQuery
from kowalski.api.results import Value


class EstimatedCountQuery(ArchiveQuery):
    """How many documents a catalog holds."""

    query_type: Literal["estimated_document_count"]
    query: CatalogQuery
    kwargs: Annotated[Options, NoneAsEmpty] = Options()

    async def run(self, archive: Archive) -> Value:
        """Give the number that MongoDB has noted; of what the user does not see as a whole, an estimate of its own."""
        return Value(await archive.estimate(self.query.catalog, self.kwargs))
