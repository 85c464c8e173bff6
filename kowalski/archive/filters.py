"""Users' filters: one document per filter, which holds all versions of its pipeline.

A document has ``filter_id``, ``group_id``, ``catalog``, ``permissions``, ``active``, ``autosave``, ``auto_followup``,
``update_annotations``, ``active_fid``, ``fv`` (versions: ``fid``, ``pipeline`` as Extended JSON text, ``created_at``),
``created_at`` and ``last_modified``; ``suspended`` (``at``, ``reason``) while the broker has switched it off.
``filter_id`` alone identifies a filter, as in SkyPortal, which hands these numbers out.
"""

from __future__ import annotations

import logging
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from bson import json_util
from bson.errors import BSONError
from pydantic import ValidationError
from pymongo import IndexModel, ReturnDocument
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from kowalski.archive import filter_statistics, names
from kowalski.archive.automation import AutoFollowup, Autosave, Block
from kowalski.archive.client import Document

Stage = dict[str, Any]

FID_LENGTH = 6
FID_ALPHABET = string.ascii_lowercase + string.digits
INDEXES = [IndexModel([("filter_id", 1)], name="filter_id", unique=True)]

FLAGS = ("active", "autosave", "auto_followup", "update_annotations", "outlets")
"""What a filter's owner may change without a new version."""

UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    BSONError,
)
"""What the decoder of Extended JSON raises, depending on the type that it tries to make of something."""

log = logging.getLogger(__name__)


class FilterConflictError(Exception):
    """A filter of that number exists in another group or on another catalog."""


class PipelineTextError(ValueError):
    """The text of a pipeline is not a list of stages in (Extended) JSON."""


Wanted = TypeVar("Wanted", bound=Block)


@dataclass(frozen=True, slots=True)
class Automatic(Generic[Wanted]):
    """An active block of a filter, its pipeline decoded; None: it has no condition of its own."""

    block: Wanted
    pipeline: list[Stage] | None


@dataclass(frozen=True, slots=True)
class ActiveFilter:
    """What the broker runs: the active version of a filter, its pipeline decoded."""

    group_id: int
    filter_id: int
    fid: str
    permissions: tuple[int, ...]
    pipeline: list[Stage]
    update_annotations: bool
    outlets: tuple[str, ...] | None = None
    """Where its passes go; None: where the configuration says."""
    saving: Automatic[Autosave] | None = None
    followup: Automatic[AutoFollowup] | None = None
    troubles: Mapping[str, str] = field(default_factory=dict)
    """Block -> why it can't be carried out."""


def decode_pipeline(text: str) -> list[Stage]:
    """Decode a stored pipeline.

    Raises
    ------
    PipelineTextError
        If ``text`` is no JSON, or not a list of stages.
    """
    try:
        stages = json_util.loads(text)
    except UNREADABLE as error:
        raise PipelineTextError(f"not valid JSON: {error}") from error
    if not isinstance(stages, list) or not all(isinstance(stage, dict) and len(stage) == 1 for stage in stages):
        raise PipelineTextError("not a list of stages, each an object with one key")
    return stages


def load_active(system: Database[Document], catalog: str) -> list[ActiveFilter]:
    """Load the filters that run on ``catalog``, ordered by ``filter_id``.

    Left out are filters that are switched off, suspended, or without an active version. One whose stored pipeline can't
    be read is suspended here, so that it is reported once and stops nobody else.
    """
    match = {"catalog": catalog, "active": True, "suspended": None, "active_fid": {"$ne": None}}
    match["filter_id"] = {"$type": "number"}
    found = system[names.FILTERS].find(match).sort("filter_id", 1)
    loaded = []
    for document in found:
        try:
            loaded.append(_activate(document))
        except (PipelineTextError, KeyError, TypeError) as error:
            reason = f"the stored filter can't be read: {error!r}"
            log.warning("filter %s is suspended: %s", document["filter_id"], reason)
            suspend(system, document["filter_id"], document.get("active_fid"), reason)
    return loaded


def _activate(document: Document) -> ActiveFilter:
    fid = document["active_fid"]
    text = next((version["pipeline"] for version in document["fv"] if version["fid"] == fid), None)
    if text is None:
        raise PipelineTextError(f"it has no version {fid}")
    saving, followup, troubles = _blocks(document)
    return ActiveFilter(
        group_id=document["group_id"],
        filter_id=document["filter_id"],
        fid=fid,
        permissions=tuple(document.get("permissions") or ()),
        pipeline=decode_pipeline(text),
        update_annotations=bool(document.get("update_annotations")),
        outlets=None if document.get("outlets") is None else tuple(document["outlets"]),
        saving=saving,
        followup=followup,
        troubles=troubles,
    )


def version_of(document: Document, fid: str) -> ActiveFilter:
    """Give a version of a stored filter as the broker would run it.

    Raises
    ------
    PipelineTextError
        If there is no such version, or its pipeline can't be read.
    """
    return _activate({**document, "active_fid": fid})


def _blocks(
    document: Document,
) -> tuple[Automatic[Autosave] | None, Automatic[AutoFollowup] | None, dict[str, str]]:
    """Read the blocks; what can't be read is left out and told, because the filter itself is none the worse for it."""
    troubles: dict[str, str] = {}
    saving = followup = None
    try:
        saving = _automatic(Autosave.of(document.get("autosave")))
    except (ValidationError, PipelineTextError) as error:
        troubles["autosave"] = _told(error)
    try:
        followup = _automatic(AutoFollowup.model_validate(document.get("auto_followup") or {}))
        if followup is not None:
            _require_all(followup)
    except (ValidationError, PipelineTextError) as error:
        followup, troubles["auto_followup"] = None, _told(error)
    if followup is not None and saving is None:
        followup, troubles["auto_followup"] = None, "it needs an active autosave"
    return saving, followup, troubles


def _automatic(block: Wanted) -> Automatic[Wanted] | None:
    if not block.active:
        return None
    if block.pipeline is None or isinstance(block.pipeline, list):
        return Automatic(block, block.pipeline)
    return Automatic(block, decode_pipeline(block.pipeline))


def _require_all(followup: Automatic[AutoFollowup]) -> None:
    needed = {
        "pipeline": followup.pipeline,
        "allocation_id": followup.block.allocation_id,
        "payload": followup.block.payload,
    }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise PipelineTextError(f"it has no {', '.join(missing)}")


def _told(error: ValidationError | PipelineTextError) -> str:
    if isinstance(error, PipelineTextError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"


def suspend(system: Database[Document], filter_id: int, fid: str | None, reason: str) -> bool:
    """Switch off version ``fid`` of a filter until its owner activates it again or saves a new version.

    Returns
    -------
    bool
        Whether anything was changed: not if another version has become active in the meantime.
    """
    change = {"$set": {"suspended": {"at": datetime.now(UTC), "reason": reason}}}
    result = system[names.FILTERS].update_one({"filter_id": filter_id, "active_fid": fid, "suspended": None}, change)
    return result.modified_count == 1


def state_of(document: Document) -> str:
    """Say whether a filter runs: ``on``, ``off``, ``no active version`` or ``suspended: <why>``."""
    suspended = document.get("suspended")
    if suspended:
        return f"suspended: {suspended.get('reason', 'it kept failing')}"
    if not document.get("active"):
        return "off"
    return "on" if document.get("active_fid") else "no active version"


def new_version(pipeline: str, now: datetime | None = None) -> Document:
    """Make a version of a filter from the text of its pipeline."""
    fid = "".join(secrets.choice(FID_ALPHABET) for _ in range(FID_LENGTH))
    return {"fid": fid, "pipeline": pipeline, "created_at": now or datetime.now(UTC)}


async def ensure_indexes(system: AsyncDatabase[Document]) -> None:
    """Create what keeps filters unique; safe to call at the same time from several processes."""
    await system[names.FILTERS].create_indexes(INDEXES)


async def get(system: AsyncDatabase[Document], filter_id: int) -> Document | None:
    """Read a filter."""
    return await system[names.FILTERS].find_one({"filter_id": filter_id})


async def save_version(
    system: AsyncDatabase[Document],
    key: tuple[int, int],
    version: Document,
    *,
    facts: Mapping[str, Any],
    flags: Mapping[str, Any],
    activate: bool = True,
) -> Document:
    """Add a version and make it the active one; the filter is created if it does not exist.

    Versions that are saved at the same time are all kept.

    Parameters
    ----------
    key
        ``(group_id, filter_id)``.
    version
        See `new_version`.
    facts
        ``catalog`` and ``permissions``: set when the filter is created; ``catalog`` never changes, ``permissions`` of
        an existing filter stay as they are.
    flags
        Those of `FLAGS` that the caller wants to set.
    activate
        If false, the version is only kept, and the one that was active stays so.

    Returns
    -------
    dict
        The filter as it is now.

    Raises
    ------
    FilterConflictError
        If the filter exists in another group or on another catalog.
    """
    added = await _push_version(system, key, version, facts, flags, activate=activate)
    if added is not None:
        return added
    group_id, filter_id = key
    defaults = {"active": True, "autosave": False, "auto_followup": {}, "update_annotations": False}
    document = {
        "group_id": group_id,
        "filter_id": filter_id,
        **facts,
        **defaults,
        **flags,
        "active_fid": version["fid"] if activate else None,
        "fv": [version],
        "created_at": version["created_at"],
        "last_modified": version["created_at"],
    }
    try:
        await system[names.FILTERS].insert_one(document)
    except DuplicateKeyError as error:
        # Either somebody was faster with the same filter, or it belongs elsewhere.
        added = await _push_version(system, key, version, facts, flags, activate=activate)
        if added is None:
            text = f"Filter id {filter_id} exists already, in another group or on another catalog"
            raise FilterConflictError(text) from error
        return added
    return document


async def _push_version(
    system: AsyncDatabase[Document],
    key: tuple[int, int],
    version: Document,
    facts: Mapping[str, Any],
    flags: Mapping[str, Any],
    *,
    activate: bool,
) -> Document | None:
    match = {"group_id": key[0], "filter_id": key[1], "catalog": facts["catalog"]}
    change: dict[str, Any] = {
        "$push": {"fv": version},
        "$set": {**flags, "last_modified": version["created_at"]},
    }
    if activate:
        change["$set"]["active_fid"] = version["fid"]
        change["$unset"] = {"suspended": ""}
    updated: Document | None = await system[names.FILTERS].find_one_and_update(
        match, change, return_document=ReturnDocument.AFTER
    )
    return updated


async def update(system: AsyncDatabase[Document], filter_id: int, values: Mapping[str, Any]) -> Document | None:
    """Set fields of a filter and return what it is then, None if there is none.

    A block is merged with the one that is stored, so that two changes of it at the same time are both kept.
    ``active: true`` and another ``active_fid`` lift a suspension.
    """
    changes: Document = {name: _merged(name, value) for name, value in values.items()}
    if values.get("active") is True or "active_fid" in values:
        changes["suspended"] = "$$REMOVE"
    match: dict[str, Any] = {"filter_id": filter_id}
    if "active_fid" in values:
        match["fv.fid"] = values["active_fid"]
    updated: Document | None = await system[names.FILTERS].find_one_and_update(
        match, [{"$set": {**changes, "last_modified": datetime.now(UTC)}}], return_document=ReturnDocument.AFTER
    )
    return updated


def _merged(name: str, value: Any) -> Document:
    """Say what becomes of a field; users' content is quoted, as it may look like an expression."""
    given = {"$literal": value}
    if not isinstance(value, Mapping) or not value:
        return given
    return {"$cond": [{"$eq": [{"$type": f"${name}"}, "object"]}, {"$mergeObjects": [f"${name}", given]}, given]}


async def remove(system: AsyncDatabase[Document], filter_id: int) -> bool:
    """Delete a filter with all its versions; tells whether there was one."""
    removed = await system[names.FILTERS].delete_one({"filter_id": filter_id})
    await filter_statistics.remove(system, filter_id)
    return removed.deleted_count == 1


async def priority_orders(
    system: AsyncDatabase[Document], allocation_id: int, *, but: int | None = None
) -> frozenset[str]:
    """Find the priority orders that filters use with an allocation, leaving out the filter with number ``but``."""
    match: dict[str, Any] = {"auto_followup.allocation_id": {"$in": [allocation_id, str(allocation_id)]}}
    if but is not None:
        match["filter_id"] = {"$ne": but}
    orders = await system[names.FILTERS].distinct("auto_followup.priority_order", match)
    return frozenset(order for order in orders if isinstance(order, str))
