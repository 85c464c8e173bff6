"""Auto-follow-up: one request per rule, whatever else asks for the same, and a better priority where it pays."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from kowalski.archive.rules import Request
from kowalski.courier.errors import Refused
from kowalski.courier.progress import Progress
from kowalski.skyportal.client import SkyPortal
from kowalski.skyportal.payloads import CommentPost, FollowupAnswer, FollowupPost, FollowupPut, FollowupRequest
from kowalski.skyportal.saving import post_comment

LASTING = ("pending", "submitted", "complete", "deleted", "failed")
"""A request counts while its status contains one of these …"""
FAILED_FOR = timedelta(hours=12)
"""… but one that failed longer ago than this may be made again: by then it is another night."""

PASSING = frozenset({"priority", "urgency", "Urgency", "start_date", "end_date", "advanced", "observation_choices"})
"""Keys of a payload that do not say what is observed."""
OBSERVATION = "observation_type"
SHOTS = {
    "IFU": {"IFU"},
    "3-shot (gri)": {"g", "r", "i"},
    "4-shot (ugri)": {"u", "g", "r", "i"},
    "3-shot+IFU": {"g", "r", "i", "IFU"},
    "4-shot+IFU": {"u", "g", "r", "i", "IFU"},
}
"""What the SED Machine observes for an ``observation_type``; for any other it is in ``observation_choices``."""

Allocations = defaultdict[int, asyncio.Lock]
"""Requests to one allocation are made one after the other: two objects may be the same to SkyPortal."""


def allocations() -> Allocations:
    """Make locks for all allocations."""
    return defaultdict(asyncio.Lock)


def in_order(requests: Mapping[str, Request]) -> list[tuple[str, Request]]:
    """Put requests into the order in which they are made: ``desc`` before ``asc``, the most urgent first."""

    def rank(item: tuple[str, Request]) -> tuple[bool, float, str]:
        key, one = item
        descends = one.priority_order == "desc"
        return not descends, one.priority if descends else -one.priority, key

    return sorted(requests.items(), key=rank)


def counts(one: FollowupRequest, now: datetime) -> bool:
    """Whether a request stands in the way of another one: `LASTING`, and not failed for too long."""
    return any(word in one.status.lower() for word in LASTING) and not has_failed(one, now)


def has_failed(one: FollowupRequest, now: datetime) -> bool:
    """Whether a request failed so long ago that it may be made again."""
    failed = "failed" in one.status.lower()
    return failed and one.modified is not None and now - _utc(one.modified) > FAILED_FOR


def matches(wanted: Request, one: FollowupRequest) -> bool:
    """Whether a request asks for all that is wanted, of the same allocation and for a group that would see it."""
    groups = {group.id for group in one.target_groups}
    targets = set(wanted.target_group_ids)
    return (
        wanted.allocation_id == one.allocation_id
        and (not targets.isdisjoint(groups) or not (targets or groups))
        and all(
            _observed(wanted.payload) <= _observed(one.payload) if key == OBSERVATION else one.payload.get(key) == value
            for key, value in wanted.payload.items()
            if key not in PASSING
        )
    )


def _observed(payload: Mapping[str, Any]) -> set[str]:
    kind = payload.get(OBSERVATION)
    return SHOTS.get(str(kind)) or {str(choice) for choice in payload.get("observation_choices") or [kind]}


def to_improve(wanted: Request, found: Iterable[FollowupRequest]) -> FollowupRequest | None:
    """Find the submitted request that is to get the priority that is wanted; None if none is to."""
    submitted = [
        one for one in found if "submitted" in one.status.lower() and _priority(wanted, one.payload) is not None
    ]
    if not wanted.implements_update or not submitted:
        return None
    best = max(submitted, key=lambda one: _gain(wanted, one))
    return best if _gain(wanted, best) < 0.0 else None


def _gain(wanted: Request, one: FollowupRequest) -> float:
    """Say by how much a request is more urgent than what is wanted."""
    difference = (_priority(wanted, one.payload) or 0.0) - wanted.priority
    return -difference if wanted.priority_order == "desc" else difference


def _priority(wanted: Request, payload: Mapping[str, Any]) -> float | None:
    try:
        return float(payload[wanted.priority_key])
    except (KeyError, TypeError, ValueError):
        return None  # of another kind: it can't be compared


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Requester:
    """Makes the requests that the passes of one document ask for."""

    def __init__(
        self,
        skyportal: SkyPortal,
        locks: Allocations,
        progress: Progress,
        passes: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._skyportal, self._locks, self._progress = skyportal, locks, progress
        self._object_id: str = progress.document["objectId"]
        self._groups = {key: int(one["group_id"]) for key, one in passes.items()}
        self._requests = {
            key: Request.model_validate(one["followup"]) for key, one in passes.items() if one.get("followup")
        }

    async def run(self) -> None:
        """Make all requests, each with its comment."""
        for key, wanted in in_order(self._requests):
            step = f"followup:{key}"
            if self._progress.is_left(step):
                async with self._locks[wanted.allocation_id]:
                    await self._request(key, step, wanted)
            await self._comment(key, wanted)

    async def _request(self, key: str, step: str, wanted: Request) -> None:
        progress = self._progress
        progress.check()
        begun = progress.was_begun(step)
        now = datetime.now(UTC)
        there = await self._skyportal.followup_requests(self._object_id)
        same = [one for one in there if matches(wanted, one)]
        ours = [one for one in same if not has_failed(one, now)] if begun else []
        found = [one for one in same if counts(one, now)]
        try:
            if ours:  # the answer was lost, the request is there
                await self._note(key, step, "created", ours[-1].id)
            elif found:
                await self._improve(key, step, wanted, found)
            elif wanted.ends_at is not None and _utc(wanted.ends_at) <= now:
                await self._note(key, step, "expired", None, f"it made sense until {wanted.ends_at}")
            else:
                await self._create(key, step, wanted)
        except Refused as error:
            await progress.refuse(step, str(error))

    async def _create(self, key: str, step: str, wanted: Request) -> None:
        body = FollowupPost(
            obj_id=self._object_id,
            allocation_id=wanted.allocation_id,
            target_group_ids=wanted.target_group_ids,
            payload=wanted.payload,
            source_group_ids=[self._groups[key]],
            ignore_source_group_ids=wanted.ignore_source_group_ids,
            ignore_allocation_ids=wanted.ignore_allocation_ids,
            not_if_classified=True,
            not_if_spectra_exist=True,
            not_if_tns_classified=True,
            not_if_tns_reported=wanted.not_if_tns_reported,
            not_if_duplicates=True,
            radius=wanted.radius,
        )
        answer: FollowupAnswer = await self._progress.once(step, partial(self._skyportal.post_followup, body))
        await self._note(key, step, "ignored" if answer.ignored else "created", answer.id, answer.message)

    async def _improve(self, key: str, step: str, wanted: Request, found: list[FollowupRequest]) -> None:
        one = to_improve(wanted, found)
        if one is None:
            await self._note(key, step, "exists", found[0].id)
            return
        payload = one.payload | {wanted.priority_key: wanted.payload[wanted.priority_key]}
        change = FollowupPut(obj_id=self._object_id, allocation_id=one.allocation_id, payload=payload)
        await self._skyportal.put_followup(one.id, change)
        await self._note(key, step, "updated", one.id)

    async def _note(self, key: str, step: str, outcome: str, number: int | None, reason: str | None = None) -> None:
        known = self._progress.document.get("followups") or {}
        outcomes = {**known, key: {"outcome": outcome, "id": number, "reason": reason}}
        await self._progress.record(step, followups=outcomes)

    async def _comment(self, key: str, wanted: Request) -> None:
        """Say at the source that follow-up was asked for."""
        outcome = (self._progress.document.get("followups") or {}).get(key)
        if outcome is not None and outcome["outcome"] == "created" and wanted.comment:
            groups = sorted({self._groups[key], *wanted.target_group_ids})
            comment = CommentPost(text=wanted.comment, group_ids=groups)
            await post_comment(self._skyportal, self._progress, f"followup-comment:{key}", comment)
