"""``info``: what catalogs and indexes there are."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import model_validator

from kowalski import surveys
from kowalski.api import sandbox
from kowalski.api.models.common import CatalogName, Request
from kowalski.api.models.queries import NoneAsEmpty, Options
from kowalski.api.queries.archive import Archive
from kowalski.api.queries.base import ArchiveQuery
from kowalski.api.results import Value

SIZES = ("objects", "avgObjSize", "dataSize", "storageSize", "indexSize", "totalSize", "fsUsedSize")
"""What `dbstats` tells of all documents together, those included that a user may not see."""
UNGUARDED = ("ns", "capped", "nindexes", "indexBuilds", "ok")
"""What `collstats` tells that has nothing to do with the documents that are there."""


class InfoBody(Request):
    """A question about catalogs."""

    command: Literal["catalog_names", "catalog_info", "index_info", "db_info"]
    catalog: CatalogName | None = None

    @model_validator(mode="after")
    def _has_catalog(self) -> InfoBody:
        if self.command in ("catalog_info", "index_info") and self.catalog is None:
            raise ValueError(f"{self.command} needs a catalog")
        return self


class InfoQuery(ArchiveQuery):
    """What catalogs and indexes there are."""

    query_type: Literal["info"]
    query: InfoBody
    kwargs: Annotated[Options, NoneAsEmpty] = Options()

    async def run(self, archive: Archive) -> Value:
        """Answer the question."""
        match self.query.command:
            case "catalog_names":
                return Value(await _catalog_names(archive))
            case "db_info":
                return Value(await _database(archive))
        assert self.query.catalog is not None  # the model has seen to that
        if self.query.command == "catalog_info":
            return Value(await _catalog(archive, self.query.catalog, self.kwargs))
        collection = await archive.collection(self.query.catalog)
        return Value(await collection.index_information())


async def _catalog_names(archive: Archive) -> list[str]:
    """List what can be queried, in descending order; collections of surveys are there before their first alert."""
    names = set(await archive.services.data.list_collection_names())
    for name in archive.services.settings.enabled_surveys:
        survey = surveys.SURVEYS.get(name)
        if survey is not None:
            names |= {survey.alerts, survey.objects}
    return sorted((name for name in names - sandbox.PROTECTED if not name.startswith("system.")), reverse=True)


async def _database(archive: Archive) -> dict[str, Any]:
    stats: dict[str, Any] = await archive.services.data.command("dbstats")
    return {name: value for name, value in stats.items() if not (archive.guards and name in SIZES)}


async def _catalog(archive: Archive, catalog: str, options: Options) -> dict[str, Any]:
    collection = await archive.collection(catalog)
    stats: dict[str, Any] = await collection.database.command("collstats", collection.name)
    if archive.guards.get(catalog) is None:
        return stats
    visible = {"count": await archive.estimate(catalog, options)}
    return {name: value for name, value in stats.items() if name in UNGUARDED} | visible
