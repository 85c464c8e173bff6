"""What a performance report tells of a day (UTC), from what brokers, workers and courier have written."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pymongo.database import Database

from kowalski.archive import activity, filter_statistics, names
from kowalski.archive.activity import Waiting, Work
from kowalski.archive.client import Document

HOURS = 24
LONGEST_REASON = 120
MOST = 30
"""Filters and kinds of dead letters that are told, those with most first."""


@dataclass(frozen=True, slots=True)
class FilterLine:
    """Passes of one filter on the day, and what it costs: ms per alert as far as that was ever measured."""

    filter_id: int
    group_id: int
    passes: int
    ms_per_alert: float | None


@dataclass(frozen=True, slots=True)
class LetterLine:
    """Packets of one survey that could not be processed for one reason."""

    survey: str
    stage: str
    reason: str
    number: int


@dataclass(slots=True)
class Performance:
    """One day.

    Attributes
    ----------
    hours
        By survey: the work of each of the day's 24 hours.
    filters, letters
        Those with most first.
    delivery
        By outlet: how long what passed on the day took from the outbox to its last step.
    """

    night: date
    hours: dict[str, list[Work]] = field(default_factory=dict)
    filters: list[FilterLine] = field(default_factory=list)
    letters: list[LetterLine] = field(default_factory=list)
    delivery: dict[str, Waiting] = field(default_factory=dict)

    def total(self, survey: str) -> Work:
        """Add up the work of a survey."""
        whole = Work()
        for each in self.hours[survey]:
            whole.merge(each)
        return whole


def gather(system: Database[Document], night: date) -> Performance:
    """Read what is known of a day."""
    start = datetime(night.year, night.month, night.day, tzinfo=UTC)
    found = Performance(night)
    for survey, done in activity.since(system, start).items():
        hours = [done.get(start + timedelta(hours=number), Work()) for number in range(HOURS)]
        if any(work != Work() for work in hours):
            found.hours[survey] = hours
    span = {"$gte": start, "$lt": start + timedelta(days=1)}
    found.filters = _filters(system, span)
    found.letters = _letters(system, span)
    for outlet, outbox in names.OUTBOXES.items():
        waited = Waiting()
        delivered = {"created_at": span, "delivered_at": {"$exists": True}}
        for each in system[outbox].find(delivered, {"created_at": 1, "delivered_at": 1}):
            waited.add([(each["delivered_at"] - each["created_at"]).total_seconds()])
        if waited:
            found.delivery[outlet] = waited
    return found


def _filters(system: Database[Document], span: Document) -> list[FilterLine]:
    """Count passes by filter; a pass that goes to several outlets is one."""
    passes: dict[tuple[int, int], set[tuple[Any, ...]]] = {}
    for outbox in names.OUTBOXES.values():
        stages: list[Document] = [
            {"$match": {"created_at": span}},
            {"$project": {"passes": {"$objectToArray": "$passes"}}},
            {"$unwind": "$passes"},
            {"$match": {"passes.v.passed_at": span}},
            {"$project": {"group_id": "$passes.v.group_id", "filter_id": "$passes.v.filter_id"}},
        ]
        for each in system[outbox].aggregate(stages):
            key = (each["group_id"], each["filter_id"])
            passes.setdefault(key, set()).add(tuple(each["_id"].values()))
    costs = {
        number: values["ms_per_alert"]
        for (number, _), values in filter_statistics.of_all(system).items()
        if values["ms_per_alert"] is not None
    }
    lines = [FilterLine(number, group, len(alerts), costs.get(number)) for (group, number), alerts in passes.items()]
    return sorted(lines, key=lambda line: (-line.passes, line.filter_id))[:MOST]


def _letters(system: Database[Document], span: Document) -> list[LetterLine]:
    reason = {"$substrCP": ["$reason", 0, LONGEST_REASON]}
    stages: list[Document] = [
        {"$match": {"at": span}},
        {"$group": {"_id": {"survey": "$survey", "stage": "$stage", "reason": reason}, "number": {"$sum": 1}}},
        {"$sort": {"number": -1, "_id": 1}},
        {"$limit": MOST},
    ]
    return [LetterLine(**each["_id"], number=each["number"]) for each in system[names.DEAD_LETTERS].aggregate(stages)]
