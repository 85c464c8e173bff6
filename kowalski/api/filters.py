"""The rules for users' filters: what is checked, in which order, before one is stored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pymongo.errors import ExecutionTimeout, OperationFailure

from kowalski.api import sandbox
from kowalski.api.errors import (
    MAX_TEXT,
    UNENCODABLE,
    ApiError,
    ConflictError,
    InvalidRequestError,
    from_validation,
)
from kowalski.api.models.filters import FilterChange, NewFilter
from kowalski.api.services import Services
from kowalski.archive import filters
from kowalski.archive.automation import AutoFollowup, Autosave, Block
from kowalski.archive.client import Document
from kowalski.archive.filters import FLAGS, FilterConflictError, PipelineTextError, Stage
from kowalski.science.dates import moment_of
from kowalski.surveys import SURVEYS, Survey, joins

TRIAL_MS = 3000
BLOCKS: dict[str, type[Block]] = {"autosave": Autosave, "auto_followup": AutoFollowup}

Blocks = Mapping[str, Any]


async def save(services: Services, body: NewFilter) -> tuple[str, Document]:
    """Store a filter or a new version of it.

    Returns
    -------
    message, version
        What to tell the user; ``fid``, ``pipeline`` and ``created_at`` of the version, with the ``filter_id`` and the
        ``active_fid`` that the filter has now.

    Raises
    ------
    ApiError
        If something about it is not as it must be; the text says what.
    """
    survey = survey_of(body.catalog)
    if body.auto_followup and not _saves(body.autosave):
        raise ApiError("Cannot setup auto_followup without autosave enabled")
    text, stages = _pipeline(body.pipeline, "pipeline")
    message = await _try(services, survey, body.permissions, stages)
    given = {name: getattr(body, name) for name in FLAGS if name in body.model_fields_set}
    flags = await _checked(services, survey, body.permissions, given, "Cannot test {name} pipeline: invalid keys")
    if flags.get("auto_followup"):
        if not flags["auto_followup"].get("pipeline"):
            raise ApiError("auto_followup must have a pipeline")
        await _check_priorities(services, flags["auto_followup"])
    version = filters.new_version(text)
    facts = {"catalog": survey.alerts, "permissions": body.permissions}
    reason = None if body.force else await _too_many(services, survey, body, version)
    key = (body.group_id, body.filter_id)
    try:
        stored = await filters.save_version(
            services.system, key, version, facts=facts, flags=flags, activate=reason is None
        )
    except FilterConflictError as error:
        raise ConflictError(str(error)) from error
    saved = f"{message}\nsaved new filter version: {version['fid']}"
    known = {"filter_id": body.filter_id, "active_fid": stored["active_fid"]}
    return saved if reason is None else f"{saved}\nnot active: {reason}", version | known


async def _too_many(services: Services, survey: Survey, body: NewFilter, version: Document) -> str | None:
    """Tell why a new version must not become active by itself: it passes more alerts than is allowed."""
    limits = services.settings.filters
    if limits.max_pass_rate is None:
        return None
    stored = await filters.get(services.system, body.filter_id) or {"permissions": body.permissions}
    document = {
        "group_id": body.group_id,
        "filter_id": body.filter_id,
        "fv": [version],
        "permissions": stored["permissions"],
    }
    one = filters.version_of(document, version["fid"])
    try:
        report = await services.dry_runs.run(survey, one, None, limits.max_pass_rate_time_ms)
    except ExecutionTimeout:
        return "how much it passes can't be found out in filters.max_pass_rate_time_ms; save it with force"
    if report is None or report.pass_rate is None or report.pass_rate <= limits.max_pass_rate:
        return None
    return (
        f"it passes {report.passed} of {report.examined} alerts of {moment_of(report.start):%Y-%m-%d}, more than"
        f" filters.max_pass_rate ({limits.max_pass_rate:g}) allows; save it with force, or set active_fid"
    )


async def modify(services: Services, body: FilterChange) -> Document:
    """Change a filter's flags, blocks or active version.

    Raises
    ------
    ApiError
        If there is no such filter or version, or a block is not as it must be.
    """
    stored = await filters.get(services.system, body.filter_id)
    if stored is None:
        raise ApiError(f"Filter id {body.filter_id} not found")
    given = {
        name: getattr(body, name)
        for name in (*FLAGS, "active_fid")
        if name in body.model_fields_set and getattr(body, name) is not None
    }
    if "active_fid" in given and given["active_fid"] not in {version["fid"] for version in stored["fv"]}:
        raise ApiError(f"Cannot update filter id {body.filter_id}: filter version fid not in filter history")
    survey = survey_of(stored["catalog"])
    complaint = f"Cannot update filter id {body.filter_id}: {{name}} contains invalid keys"
    known = {name: stored[name] for name in BLOCKS if isinstance(stored.get(name), dict)}
    checked = await _checked(services, survey, stored["permissions"], given, complaint, known=known)
    if checked.get("auto_followup"):
        await _check_priorities(
            services, {**known.get("auto_followup", {}), **checked["auto_followup"]}, body.filter_id
        )
    updated = await filters.update(services.system, body.filter_id, checked)
    if updated is None:
        raise ApiError(f"Filter id {body.filter_id} not found")
    return updated


async def _checked(
    services: Services,
    survey: Survey,
    permissions: Sequence[int],
    given: Blocks,
    complaint: str,
    *,
    known: Mapping[str, Blocks] | None = None,
) -> dict[str, Any]:
    """Check autosave and auto_followup blocks, as changes of those that are ``known``; their pipelines become text."""
    checked = dict(given)
    for name, model in BLOCKS.items():
        block = given.get(name)
        if not isinstance(block, dict) or not block:
            continue
        if block.keys() - model.model_fields.keys():
            raise ApiError(complaint.format(name=name))
        read = _read(name, model, {**(known or {}).get(name, {}), **block})
        checked[name] = block | {key: value for key, value in read.items() if key in block}
        if "pipeline" in read and block.get("pipeline"):
            text, stages = _pipeline(block["pipeline"], f"{name} pipeline")
            await _try(services, survey, permissions, stages)
            checked[name]["pipeline"] = text
    return checked


def _read(name: str, model: type[Block], block: Blocks) -> dict[str, Any]:
    try:
        return model.model_validate(block).model_dump(exclude_unset=True)
    except ValidationError as error:
        raise from_validation(error, name) from error


async def _check_priorities(services: Services, block: Blocks, but: int | None = None) -> None:
    """Check that all filters (``but`` one) that use an allocation agree on what its priorities mean."""
    order, allocation = block.get("priority_order"), block.get("allocation_id")
    if not order:
        return
    if allocation is None:
        raise ApiError("auto_followup with priority_order needs an allocation_id")
    if await filters.priority_orders(services.system, allocation, but=but) - {order}:
        raise ApiError(
            "existing filters with the same allocation have priority_order set to a different value,"
            " which is unexpected"
        )


def survey_of(catalog: str) -> Survey:
    """Find the survey whose alerts are in a catalog.

    Raises
    ------
    InvalidRequestError
        If there is none.
    """
    for survey in SURVEYS.values():
        if survey.alerts == catalog:
            return survey
    known = ", ".join(survey.alerts for survey in SURVEYS.values())
    raise InvalidRequestError(f"catalog: {catalog!r} has no alerts; filters run on {known}")


def _saves(autosave: bool | Blocks) -> bool:
    return bool(autosave) if isinstance(autosave, bool) else bool(autosave.get("active"))


def _pipeline(given: list[Stage] | str, what: str) -> tuple[str, list[Stage]]:
    """Give a pipeline as the text that is stored and as stages, after it has passed the sandbox."""
    try:
        text = given if isinstance(given, str) else json.dumps(given)
        stages = filters.decode_pipeline(text)  # of the text, as the broker will do it
    except (PipelineTextError, RecursionError) as error:
        raise InvalidRequestError(f"{what}: {error}") from error
    sandbox.check_pipeline(stages, sandbox.FILTER_STAGES, what)
    return text, stages


async def _try(services: Services, survey: Survey, permissions: Sequence[int], stages: list[Stage]) -> str:
    """Run a pipeline on the newest alert."""
    alerts = services.data[survey.alerts]
    newest = await alerts.find_one({}, {"_id": 1}, sort=[("$natural", -1)])
    if newest is None:
        return f"WARNING: not tried, there are no documents in {survey.alerts} collection"
    prefix = survey.filter_prefix([newest["_id"]], permissions)
    try:
        cursor = await alerts.aggregate([*prefix, *joins.woven(survey, stages)], allowDiskUse=False, maxTimeMS=TRIAL_MS)
        await cursor.to_list()
    except OperationFailure as error:
        raise ApiError(f"pipeline is invalid: {(error.details or {}).get('errmsg', error)}"[:MAX_TEXT]) from error
    except UNENCODABLE as error:
        raise ApiError(f"pipeline is invalid: {error}"[:MAX_TEXT]) from error
    return f"pipeline tried on alert {newest['_id']} of {survey.alerts}"
