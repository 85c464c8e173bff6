"""``/api/filters``: users' filters on the alert stream; for the administrator, which SkyPortal is."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from kowalski.api import answers, bodies, filter_runs, filters, formats, leaving, results, services, streaming
from kowalski.api.context import USER
from kowalski.api.errors import ApiError
from kowalski.api.models import examples
from kowalski.api.models.common import Done
from kowalski.api.models.filters import (
    DryRunReport,
    FilterChange,
    FilterDryRun,
    FilterStatistics,
    FilterTest,
    NewFilter,
    Passing,
    Version,
    WholeFilter,
)
from kowalski.api.queries import Archive
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
    filter_id = _number(request)
    document = await stored.get(services.of(request).system, filter_id)
    if document is None:
        raise ApiError(f"Filter id {filter_id} not found")
    return answers.success(f"Retrieved filter id {filter_id}", document)


async def remove(request: web.Request) -> web.Response:
    """Delete a filter with all its versions."""
    filter_id = _number(request)
    if not await stored.remove(services.of(request).system, filter_id):
        raise ApiError(f"Filter id {filter_id} not found")
    return answers.success(f"Removed filter id {filter_id}")


async def test(request: web.Request) -> web.StreamResponse:
    """Run a filter on alerts of the archive."""
    body = await bodies.read(request, FilterTest)
    form = streaming.format_for(request)
    async with leaving.session(services.of(request).data.client) as session:
        archive = Archive(services.of(request), request[USER], session)
        async with leaving.noticed(request):
            cursor = await filter_runs.test(archive, _number(request), body)
        async with results.closing(rows := results.Rows(archive.batches(cursor))), leaving.noticed(request):
            return await streaming.send(request, form, "filter test successful", rows, archive.encoder())


async def dry_run(request: web.Request) -> web.Response:
    """Find out what a filter would have done on a night."""
    body = await bodies.read(request, FilterDryRun)
    async with leaving.noticed(request):
        report = await filter_runs.dry_run(services.of(request), _number(request), body)
    return answers.success("filter dry run successful", asdict(report))


async def statistics(request: web.Request) -> web.Response:
    """Tell how a filter does in the broker."""
    filter_id = _number(request)
    found = await filter_runs.statistics(services.of(request), filter_id)
    return answers.success(f"Retrieved statistics of filter id {filter_id}", found)


def _number(request: web.Request) -> int:
    return int(request.match_info["filter_id"])


ONE = "/api/filters/{filter_id:[0-9]{1,15}}"
NUMBER = {"filter_id": {"type": "integer", "minimum": 1, "maximum": 10**15 - 1}}
ROUTES = (
    Route(
        "POST",
        "/api/filters",
        save,
        Access.ADMIN,
        "filters",
        "Save a filter or a new version of it",
        "The pipeline is tried on the newest alert of the catalog. A version that passes more alerts than "
        "`filters.max_pass_rate` allows is saved, too, but becomes active with `force` only.",
        request=NewFilter,
        response=Version,
        examples=examples.NEW_FILTER,
        answer=examples.SAVED,
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
        examples=examples.FILTER_CHANGE,
        answer={**examples.FILTER, "message": "Updated filter id 1"},
    ),
    Route(
        "GET",
        ONE,
        show,
        Access.ADMIN,
        "filters",
        "Show a filter",
        response=WholeFilter,
        answer=examples.FILTER,
        parameters=NUMBER,
    ),
    Route(
        "DELETE",
        ONE,
        remove,
        Access.ADMIN,
        "filters",
        "Remove a filter",
        response=Done,
        answer={"status": "success", "message": "Removed filter id 1"},
        parameters=NUMBER,
    ),
    Route(
        "POST",
        f"{ONE}/test",
        test,
        Access.ADMIN,
        "filters",
        "Test a filter on the archive",
        "Runs a stored version on the alerts of some objects, or of at most a day, and gives what passes. Of an "
        "object's history the filter sees what was older than the alert.",
        request=FilterTest,
        response=Passing,
        produces=formats.ALTERNATIVES,
        examples=examples.FILTER_TEST,
        parameters=NUMBER,
        writes=False,
    ),
    Route(
        "POST",
        f"{ONE}/dryrun",
        dry_run,
        Access.ADMIN,
        "filters",
        "Count what a filter would have passed on a night",
        "Runs a stored version as the broker does: how many alerts pass, hour by hour, and what each one costs. If its "
        "time is over before all alerts were examined, those that were are a random sample of the night.",
        request=FilterDryRun,
        response=DryRunReport,
        examples=examples.DRY_RUN,
        errors={503: "there are too many dry runs at the moment, or no database; see `Retry-After`"},
        parameters=NUMBER,
        writes=False,
    ),
    Route(
        "GET",
        f"{ONE}/statistics",
        statistics,
        Access.ADMIN,
        "filters",
        "Show how a filter does in the broker",
        response=FilterStatistics,
        parameters=NUMBER,
    ),
)
