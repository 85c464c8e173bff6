"""``/api/filters``: users' filters on the alert stream; for the administrator, which SkyPortal is."""

from __future__ import annotations

from aiohttp import web

from kowalski.api import answers, bodies, filters, services
from kowalski.api.errors import ApiError
from kowalski.api.models.common import Done
from kowalski.api.models.filters import FilterChange, NewFilter, Version, WholeFilter
from kowalski.api.routes import Access, Route
from kowalski.archive import filters as stored


async def save(request: web.Request) -> web.Response:
    """Save a filter or a new version of it."""
    body = await bodies.read(request, NewFilter)
    message, version = await filters.save(services.of(request), body)
    return answers.success(message, version)


async def modify(request: web.Request) -> web.Response:
    """Change what does not need a new version."""
    body = await bodies.read(request, FilterChange)
    document = await filters.modify(services.of(request), body)
    return answers.success(f"Updated filter id {body.filter_id}", document)


async def show(request: web.Request) -> web.Response:
    """Give a filter with all its versions."""
    filter_id = int(request.match_info["filter_id"])
    document = await stored.get(services.of(request).system, filter_id)
    if document is None:
        raise ApiError(f"Filter id {filter_id} not found")
    return answers.success(f"Retrieved filter id {filter_id}", document)


async def remove(request: web.Request) -> web.Response:
    """Delete a filter with all its versions."""
    filter_id = int(request.match_info["filter_id"])
    if not await stored.remove(services.of(request).system, filter_id):
        raise ApiError(f"Filter id {filter_id} not found")
    return answers.success(f"Removed filter id {filter_id}")


ONE = "/api/filters/{filter_id:[0-9]{1,15}}"
NUMBER = {"filter_id": {"type": "integer", "minimum": 1}}
ROUTES = (
    Route(
        "POST",
        "/api/filters",
        save,
        Access.ADMIN,
        "filters",
        "Save a filter or a new version of it",
        "The pipeline is tried on the newest alert of the catalog.",
        request=NewFilter,
        response=Version,
        errors={409: "the filter exists in another group or on another catalog"},
    ),
    Route(
        "PATCH",
        "/api/filters",
        modify,
        Access.ADMIN,
        "filters",
        "Change a filter",
        request=FilterChange,
        response=WholeFilter,
    ),
    Route("GET", ONE, show, Access.ADMIN, "filters", "Show a filter", response=WholeFilter, parameters=NUMBER),
    Route("DELETE", ONE, remove, Access.ADMIN, "filters", "Remove a filter", response=Done, parameters=NUMBER),
)
