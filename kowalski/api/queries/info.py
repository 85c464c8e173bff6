"""``info``: what catalogs and indexes there are."""

from __future__ import annotations

from typing import Any

from kowalski import surveys
from kowalski.api import sandbox
from kowalski.api.models.queries import InfoQuery
from kowalski.api.queries.archive import Archive


async def run(query: InfoQuery, archive: Archive) -> Any:
    """Answer the question."""
    body, database = query.query, archive.services.data
    if body.command == "catalog_names":
        return await _catalog_names(archive)
    if body.command == "db_info":
        return await database.command("dbstats")
    assert body.catalog is not None  # the model has seen to that
    collection = archive.collection(body.catalog)
    if body.command == "catalog_info":
        return await collection.database.command("collstats", collection.name)
    return await collection.index_information()


async def _catalog_names(archive: Archive) -> list[str]:
    """List what can be queried, in descending order; collections of surveys are there before their first alert."""
    names = set(await archive.services.data.list_collection_names())
    for name in archive.services.settings.enabled_surveys:
        survey = surveys.SURVEYS.get(name)
        if survey is not None:
            names |= {survey.alerts, survey.objects}
    return sorted((name for name in names - sandbox.PROTECTED if not name.startswith("system.")), reverse=True)
