"""What every type of query is: a model of its request that knows how to answer it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from kowalski.api.models.common import Request
from kowalski.api.queries.archive import Archive
from kowalski.api.results import Result


class ArchiveQuery(Request, ABC):
    """A query. A subclass declares ``query_type`` (a literal), ``query`` and ``kwargs``."""

    message: ClassVar[str] = "Successfully executed query"
    """What a successful answer says."""
    gives_documents: ClassVar[bool] = False
    """Whether the answer is a list of documents, which can be given as a table, too."""

    @abstractmethod
    async def run(self, archive: Archive) -> Result:
        """Answer the query; what it gives is read from the database as it is wanted."""
