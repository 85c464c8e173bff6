"""``/api/classifications``: what users say that alerts are."""

from __future__ import annotations

import logging
from typing import Any

from aiohttp import web

from kowalski import surveys
from kowalski.api import alerts, answers, bodies, services
from kowalski.api.context import USER
from kowalski.api.errors import ApiError, NotFoundError
from kowalski.api.models.classifications import Classification, NewClassifications, OldClassifications
from kowalski.api.models.common import Done
from kowalski.api.routes import Access, Route
from kowalski.archive import classifications as stored
from kowalski.archive.client import Document
from kowalski.surveys import Survey

log = logging.getLogger(__name__)


async def add(request: web.Request) -> web.Response:
    """Set labels and scores of alerts."""
    work, survey = services.of(request), _survey(request)
    body = (await bodies.read(request, NewClassifications)).root
    owners = await _owners(request, survey, list(body))
    await stored.add(work.writable, survey, owners, {candid: labels.given for candid, labels in body.items()})
    log.info("%d %s alerts classified by %s", len(body), survey.name, request[USER].name)
    return answers.success(f"added classifications for {survey.name.lower()} alerts")


async def remove(request: web.Request) -> web.Response:
    """Take labels and scores off alerts."""
    work, survey = services.of(request), _survey(request)
    body = (await bodies.read(request, OldClassifications)).root
    await _owners(request, survey, list(body))
    gone = {candid: labels.given for candid, labels in body.items()}
    if not await stored.remove(work.writable, survey, gone):
        raise NotFoundError(f"no classifications found for these {survey.name.lower()} alerts")
    log.info("classifications of %d %s alerts removed by %s", len(body), survey.name, request[USER].name)
    return answers.success(f"deleted classifications for {survey.name.lower()} alerts")


async def show(request: web.Request) -> web.Response:
    """Give labels and scores of an alert."""
    survey, candid = _survey(request), alerts.candid_of(request.match_info["candid"])
    seen = await alerts.find(services.of(request), request[USER], survey, [candid], [survey.object_id_field])
    found = await stored.get(services.of(request).data, survey, candid) if candid in seen else None
    if found is None:
        raise NotFoundError(f"classifications for {survey.name.lower()} alert {candid} not found")
    owner = {survey.object_id_field: seen[candid].get(survey.object_id_field)}
    labels = {kind: found.get(kind) or {} for kind in stored.KINDS}
    message = f"Retrieved classifications for {survey.name.lower()} alert {candid}"
    return answers.success(message, {"candid": candid, **owner, **labels})


def _survey(request: web.Request) -> Survey:
    survey = alerts.survey_of(request.match_info["survey"])
    switch = services.of(request).settings.surveys.get(survey.name)
    if switch is None or not switch.classifications:
        raise ApiError(f"survey {survey.name.lower()} classifications not available")
    return survey


async def _owners(request: web.Request, survey: Survey, candids: list[int]) -> dict[int, Document]:
    """Find what is kept of each alert beside its labels.

    Raises
    ------
    NotFoundError
        If one of them is not there or not for this user.
    """
    program = survey.program_field
    fields = [survey.object_id_field, *([program] if program else [])]
    seen = await alerts.find(services.of(request), request[USER], survey, candids, fields)
    if len(seen) < len(candids):
        raise NotFoundError(f"not all alerts found in {survey.name.lower()} collection")
    owners: dict[int, Document] = {}
    for candid, document in seen.items():
        owners[candid] = {survey.object_id_field: document.get(survey.object_id_field)}
        if program:
            owners[candid]["programid"] = _value(document, program)
    return owners


def _value(document: Document, path: str) -> Any:
    value: Any = document
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


SURVEY = {
    "survey": {"type": "string", "description": "In any case.", "examples": [name.lower() for name in surveys.SURVEYS]}
}
CANDID = {"candid": {"type": "integer", "format": "int64"}}
UNKNOWN = {404: "there is no such alert, or nothing is said of it"}
EXAMPLE = {"2477311093215015005": {"human_labels": {"Ia": 0.8, "Ib": 0.1}, "ml_scores": {"rapid": 0.97}}}
ROUTES = (
    Route(
        "PUT",
        "/api/classifications/{survey}",
        add,
        Access.USER,
        "classifications",
        "Set labels and scores of alerts; others that they have stay",
        request=NewClassifications,
        response=Done,
        errors=UNKNOWN,
        parameters=SURVEY,
        examples={"labels": EXAMPLE},
    ),
    Route(
        "DELETE",
        "/api/classifications/{survey}",
        remove,
        Access.USER,
        "classifications",
        "Take labels and scores off alerts",
        request=OldClassifications,
        response=Done,
        errors=UNKNOWN,
        parameters=SURVEY,
        examples={"labels": {"2477311093215015005": {"human_labels": ["Ia"]}}},
    ),
    Route(
        "GET",
        "/api/classifications/{survey}/{candid}",
        show,
        Access.USER,
        "classifications",
        "Show labels and scores of an alert",
        response=Classification,
        answer={
            "status": "success",
            "message": "Retrieved classifications",
            "data": {"candid": 2477311093215015005, "human_labels": {"Ia": 0.8}, "ml_scores": {"rapid": 0.97}},
        },
        errors={400: "the survey or the number is none", **UNKNOWN},
        parameters={**SURVEY, **CANDID},
    ),
)
