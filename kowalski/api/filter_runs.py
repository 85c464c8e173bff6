"""Running a stored filter on the archive: a test that gives what passes, and a dry run that counts it."""

from __future__ import annotations

from typing import Any

from kowalski.api import filters as rules
from kowalski.api.errors import ApiError
from kowalski.api.models.filters import FilterDryRun, FilterTest
from kowalski.api.queries.archive import Archive
from kowalski.api.reading import FIRST, RawCursor
from kowalski.api.services import Services
from kowalski.archive import filter_statistics, filters
from kowalski.archive.client import Document
from kowalski.archive.filters import ActiveFilter, PipelineTextError
from kowalski.broker.dryrun import Report
from kowalski.broker.evaluation import stages_on_archive
from kowalski.broker.night import Span
from kowalski.surveys import Survey


async def test(archive: Archive, filter_id: int, body: FilterTest) -> RawCursor:
    """Start to run a version of a filter on alerts of the archive, with their histories as they were at that time.

    Raises
    ------
    ApiError
        If there is no such filter or version.
    """
    services = archive.services
    survey, one = await _version(services, filter_id, body.filter_version)
    collection = services.collection(survey.alerts)
    return await collection.aggregate_raw_batches(
        stages_on_archive(survey, one, body.object_ids, body.span),
        allowDiskUse=False,
        maxTimeMS=body.max_time_ms,
        batchSize=FIRST,
        comment=archive.user.name,
        session=archive.session_of(collection),
    )


async def dry_run(services: Services, filter_id: int, body: FilterDryRun) -> Report:
    """Find out what a version of a filter would have passed on a night, and what that costs.

    Raises
    ------
    ApiError
        If there is no such filter or version, or no alert.
    """
    survey, one = await _version(services, filter_id, body.filter_version)
    span = Span.of_date(body.night) if body.night is not None else None
    if body.span is not None:
        span = Span(*body.span)
    report = await services.dry_runs.run(survey, one, span, body.max_time_ms)
    if report is None:
        raise ApiError(f"failure: there are no alerts in {survey.alerts}")
    return report


async def statistics(services: Services, filter_id: int) -> dict[str, Any]:
    """Tell how the versions of a filter do in the broker.

    Raises
    ------
    ApiError
        If there is no such filter.
    """
    document = await _stored(services, filter_id)
    versions = await filter_statistics.of_filter(services.system, filter_id)
    return {
        "filter_id": filter_id,
        "active_fid": document["active_fid"],
        "suspended": document.get("suspended"),
        "versions": [{"fid": fid, **numbers} for fid, numbers in versions.items()],
    }


async def _version(services: Services, filter_id: int, fid: str | None) -> tuple[Survey, ActiveFilter]:
    document = await _stored(services, filter_id)
    known = [version["fid"] for version in document["fv"]]
    if not known:
        raise ApiError(f"Filter id {filter_id} has no versions")
    if fid is not None and fid not in known:
        raise ApiError(f"Filter version {fid} not found")
    try:
        return rules.survey_of(document["catalog"]), filters.version_of(document, fid or known[-1])
    except PipelineTextError as error:
        raise ApiError(f"failure: {error}") from error


async def _stored(services: Services, filter_id: int) -> Document:
    document = await filters.get(services.system, filter_id)
    if document is None:
        raise ApiError(f"Filter id {filter_id} not found")
    return document
