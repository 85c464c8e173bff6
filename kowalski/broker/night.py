"""The alerts of a night in the archive: when they are, and a random part of them, told by indexes alone.

An alert is large and a night has up to millions of them. Which there are, a survey's index of ``candidate.jd`` and
``candid`` tells without a look at the alerts; so nothing else is asked here.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from pymongo import DESCENDING
from pymongo.collection import Collection

from kowalski.archive.client import Document
from kowalski.science.dates import jd_of_midnight, moment_of
from kowalski.surveys.base import Stage

SEED = 20180601
"""A night that is drawn whole has the same order each time, so that two filters are compared on the same alerts."""


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time, in Julian dates (UTC); the end does not belong to it."""

    start: float
    end: float

    @classmethod
    def of_date(cls, night: date) -> Span:
        """Make the span of a date (UTC)."""
        start = jd_of_midnight(night)
        return cls(start, start + 1.0)


def last_night(alerts: Collection[Document], max_time_ms: int) -> Span | None:
    """Find the date (UTC) of the newest alert; None if there are no alerts."""
    newest = alerts.find_one({}, {"candidate.jd": 1}, sort=[("candidate.jd", DESCENDING)], max_time_ms=max_time_ms)
    if newest is None:
        return None
    return Span.of_date(moment_of(newest["candidate"]["jd"]).date())


def alerts_by_hour(alerts: Collection[Document], span: Span, max_time_ms: int) -> Mapping[int, int]:
    """Count the alerts of each hour of a span in which there are any, hour 0 being its first."""
    number = {"$toInt": {"$floor": {"$multiply": [{"$subtract": ["$candidate.jd", span.start]}, 24.0]}}}
    stages: list[Stage] = [_within(span), {"$group": {"_id": number, "alerts": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
    return {each["_id"]: each["alerts"] for each in alerts.aggregate(stages, maxTimeMS=max_time_ms)}


def drawing(span: Span, size: int) -> list[Stage]:
    """Build a pipeline that draws alerts at random: all of a span, if there are no more than ``size``."""
    return [_within(span), {"$project": {"_id": 0, "candid": 1, "candidate.jd": 1}}, {"$sample": {"size": size}}]


def draw(alerts: Collection[Document], span: Span, size: int, max_time_ms: int) -> dict[int, float]:
    """Draw alerts of a span: candid -> Julian date, in random order."""
    drawn = alerts.aggregate(drawing(span, size), maxTimeMS=max_time_ms)
    found = {each["candid"]: each["candidate"]["jd"] for each in drawn}
    order = sorted(found)
    random.Random(SEED).shuffle(order)
    return {candid: found[candid] for candid in order}


def _within(span: Span) -> Stage:
    return {"$match": {"candidate.jd": {"$gte": span.start, "$lt": span.end}}}
