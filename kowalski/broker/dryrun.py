"""A dry run: what a filter would have done on a night of the archive, and what it would have cost.

It runs the filter as the broker does, and shows it of each object only what was measured before the alert. It looks at
the night's alerts in random order: when its time is over, it has seen a fair sample of the night.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from pymongo import DESCENDING
from pymongo.database import Database

from kowalski.archive.client import Document
from kowalski.archive.filters import ActiveFilter
from kowalski.broker.attribution import attribution
from kowalski.broker.evaluation import Evaluation, Passes, new_passes
from kowalski.config.settings import Filters
from kowalski.science.dates import jd_of_midnight, moment_of
from kowalski.surveys.base import Stage, Survey

BATCH, BATCH_ALONE = 128, 8
"""Alerts between two looks at the clock: of filters that run on many at once, and of those that can't."""
LISTED = 1000
"""Passes that are listed one by one."""
SEED = 20180601
"""The same order in each dry run of a night, so that two filters are compared on the same alerts."""


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


@dataclass(slots=True)
class Hour:
    """An hour of the span: alerts that the filter may see, those it was run on, those it passed."""

    start: datetime
    alerts: int
    examined: int = 0
    passed: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What a dry run has found out.

    Attributes
    ----------
    start, end
        The span, in Julian dates.
    alerts
        How many alerts of the span the filter may see.
    examined, passed, errors
        On how many of them it was run, how many it passed, on how many it failed.
    pass_rate, expected
        Passes per alert examined, and so how many of the whole span; None if none was examined.
    ms_per_alert
        What it takes, the database's work of joining the alert and its object included.
    is_complete
        Whether all alerts of the span were examined.
    trouble
        Why the broker would switch it off, or the last error.
    hours
        Those in which there were alerts.
    passes
        The first passes by time: ``candid``, ``objectId``, ``jd``, ``annotations``.
    """

    start: float
    end: float
    alerts: int
    examined: int
    passed: int
    errors: int
    pass_rate: float | None
    expected: int | None
    ms_per_alert: float | None
    is_complete: bool
    trouble: str | None
    hours: list[Hour]
    passes: list[Document]


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a dry run goes: milliseconds, and alerts."""

    max_time_ms: int
    max_alerts: int


def last_night(data: Database[Document], survey: Survey, max_time_ms: int) -> Span | None:
    """Find the date (UTC) of the newest alert; None if there are no alerts."""
    newest = data[survey.alerts].find_one(
        {}, {"candidate.jd": 1}, sort=[("candidate.jd", DESCENDING)], max_time_ms=max_time_ms
    )
    if newest is None:
        return None
    return Span.of_date(moment_of(newest["candidate"]["jd"]).date())


class DryRun:
    """One dry run of a filter, in a thread of its own if need be.

    Parameters
    ----------
    data
        The data database; nothing is written.
    one
        The filter, any version of it.
    filters
        How long it may take in the broker.
    """

    def __init__(self, data: Database[Document], survey: Survey, one: ActiveFilter, filters: Filters) -> None:
        self._alerts = data[survey.alerts]
        self._survey = survey
        self._filter = one
        self._tally = _Tally(filters.max_failures)
        self._evaluation = Evaluation(data, survey, filters, self._tally, past_only=True)
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End it after the alerts it is looking at; may be called from another thread."""
        self._stopped.set()

    def run(self, span: Span, limits: Limits) -> Report:
        """Run it on the alerts of a span of time.

        It takes at most as long as `limits` says, and one batch.

        Raises
        ------
        pymongo.errors.PyMongoError
            If MongoDB can't do its part, or takes longer than that only to find the alerts.
        """
        deadline = time.monotonic() + limits.max_time_ms / 1000.0
        chosen = self._choose(span, limits)
        hours = self._hours(span, limits)  # afterwards: alerts may still be coming in
        examined, passes = self._examine(list(chosen), deadline)
        for candid in examined:
            hour = hours.get(int((chosen[candid]["jd"] - span.start) * 24.0))
            if hour is not None:  # None: what was there has been dropped meanwhile
                hour.examined += 1
                hour.passed += candid in passes
        found = sorted((candid for candid in examined if candid in passes), key=lambda candid: chosen[candid]["jd"])
        alerts, rate = sum(hour.alerts for hour in hours.values()), len(found) / len(examined) if examined else None
        return Report(
            start=span.start,
            end=span.end,
            alerts=alerts,
            examined=len(examined),
            passed=len(found),
            errors=self._tally.errors,
            pass_rate=rate,
            expected=None if rate is None else round(rate * alerts),
            ms_per_alert=self._tally.ms / self._tally.alerts if self._tally.alerts else None,
            is_complete=len(examined) == alerts,
            trouble=self._tally.trouble,
            hours=list(hours.values()),
            passes=[
                {"candid": candid, **chosen[candid], "annotations": passes[candid][0]["annotations"]}
                for candid in found[:LISTED]
            ],
        )

    def _examine(self, candids: Sequence[int], deadline: float) -> tuple[list[int], Passes]:
        """Run the filter until all is done or time is over; give what it was run on, and what it passed."""
        passes, examined = new_passes(), 0
        size = BATCH if attribution(self._filter.pipeline) is not None else BATCH_ALONE
        while examined < len(candids) and time.monotonic() < deadline and not self._stopped.is_set():
            self._evaluation.one(self._filter, candids[examined : examined + size], passes)
            if self._tally.is_off:  # in the middle of the batch
                break
            examined = min(examined + size, len(candids))
        return list(candids[:examined]), passes

    def _visible(self, span: Span) -> Stage:
        match: Stage = self._survey.filter_prefix(None, self._filter.permissions)[0]["$match"]
        return {"$match": match | {"candidate.jd": {"$gte": span.start, "$lt": span.end}}}

    def _hours(self, span: Span, limits: Limits) -> dict[int, Hour]:
        number = {"$toInt": {"$floor": {"$multiply": [{"$subtract": ["$candidate.jd", span.start]}, 24.0]}}}
        stages = [self._visible(span), {"$group": {"_id": number, "alerts": {"$sum": 1}}}]
        found = {each["_id"]: each["alerts"] for each in self._alerts.aggregate(stages, maxTimeMS=limits.max_time_ms)}
        return {hour: Hour(moment_of(span.start + hour / 24.0), found[hour]) for hour in sorted(found)}

    def _choose(self, span: Span, limits: Limits) -> dict[int, Document]:
        """Draw the alerts to examine: candid -> ``objectId`` and ``jd``, in random order."""
        stages = [
            self._visible(span),
            {"$project": {"objectId": f"${self._survey.object_id_field}", "jd": "$candidate.jd"}},
            {"$sample": {"size": limits.max_alerts}},
        ]
        found = {each.pop("_id"): each for each in self._alerts.aggregate(stages, maxTimeMS=limits.max_time_ms)}
        order = sorted(found)
        random.Random(SEED).shuffle(order)
        return {candid: found[candid] for candid in order}


@dataclass(slots=True)
class _Tally:
    """The book of one filter in a dry run; it is a `kowalski.broker.evaluation.Book`."""

    max_failures: int
    alerts: int = 0
    errors: int = 0
    ms: float = 0.0
    trouble: str | None = None
    is_off: bool = False
    _in_a_row: int = 0

    def ran(self, one: ActiveFilter, alerts: int, passed: int, ms: float | None) -> None:
        self._count(alerts, ms)
        self._in_a_row = 0

    def failed(self, one: ActiveFilter, trouble: str, ms: float) -> bool:
        self._count(1, ms)
        self.errors += 1
        self._in_a_row += 1
        self.trouble = trouble
        if self._in_a_row == self.max_failures:
            self.switch_off(one, f"{self._in_a_row} failures in a row; the last: {trouble}")
        return self.is_off

    def switch_off(self, one: ActiveFilter, reason: str) -> None:
        self.trouble, self.is_off = f"the broker would switch it off: {reason}", True

    def _count(self, alerts: int, ms: float | None) -> None:
        self.alerts += alerts
        self.ms += ms or 0.0
