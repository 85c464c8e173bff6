"""``count_documents``: how many documents match a filter."""

from __future__ import annotations

from typing import Annotated, Literal

from kowalski.api.models.queries import CountOptions, FilterBody, NoneAsEmpty
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.base import ArchiveQuery
from kowalski.api.results import Value


class CountBody(FilterBody):
    """What to count, where."""


class CountQuery(ArchiveQuery):
    """How many documents match a filter."""

    query_type: Literal["count_documents"]
    query: CountBody
    kwargs: Annotated[CountOptions, NoneAsEmpty] = CountOptions()

    async def run(self, archive: Archive) -> Value:
        """Count them."""
        return Value(await archive.count(self.query.catalog, self.query.filter, self.kwargs))
