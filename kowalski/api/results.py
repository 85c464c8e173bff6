"""What a query gives, before it is known how that is sent: documents as they come, matches by position, or a value."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from kowalski.archive.client import Document

Batch = bytes | list[Document]
"""Some documents: BSON, one after the other, as the server sends them; or decoded with `extjson.OPTIONS`."""


@dataclass(frozen=True, slots=True)
class Rows:
    """A list of documents, read as they are wanted."""

    batches: AsyncGenerator[Batch]

    @classmethod
    def of(cls, documents: Batch) -> Rows:
        """Make a result of documents that are there already."""

        async def batches() -> AsyncGenerator[Batch]:
            yield documents

        return cls(batches())


@dataclass(frozen=True, slots=True)
class Match:
    """Documents of a catalog that belong to an object: all of them, or the next ones."""

    catalog: str
    object: str
    documents: Batch


@dataclass(frozen=True, slots=True)
class Matches:
    """What was found around positions: catalog -> object -> documents.

    Attributes
    ----------
    catalogs
        Names of the catalogs searched.
    found
        Catalog by catalog in that order, object by object. Each object comes in each catalog, if need be without
        documents; parts of one follow one another.
    """

    catalogs: Sequence[str]
    found: AsyncGenerator[Match]


@dataclass(frozen=True, slots=True)
class Value:
    """Anything that is there as a whole; None is left out of the answer."""

    data: Any


Result = Rows | Matches | Value


@asynccontextmanager
async def closing(result: Result) -> AsyncGenerator[None]:
    """End the query behind a result, whether or not all of it was read."""
    try:
        yield
    finally:
        match result:
            case Rows(source) | Matches(_, source):
                await source.aclose()
