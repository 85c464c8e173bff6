"""A dry run: what a filter would have done on a night of the archive, and what it would have cost.

It runs the filter as the broker does, and shows it of each object only what was measured before the alert. It looks at
the night's alerts in random order: when its time is over, it has seen a fair sample of the night.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pymongo.database import Database

from kowalski.archive.client import Document
from kowalski.archive.filters import ActiveFilter
from kowalski.broker.attribution import attribution
from kowalski.broker.evaluation import Evaluation, Passes, new_passes
from kowalski.broker.night import Span, alerts_by_hour, draw
from kowalski.config.settings import Filters
from kowalski.science.dates import moment_of
from kowalski.surveys.base import Survey

BATCH, BATCH_ALONE = 128, 8
"""Alerts between two looks at the clock: of filters that run on many at once, and of those that can't."""
LISTED = 1000
"""Passes that are listed one by one."""


@dataclass(slots=True)
class Hour:
    """An hour of the span: its alerts, those that the filter was run on, those that it passed."""

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
        How many alerts there are in the span, of all programs.
    examined, passed, errors
        On how many it was run, which are among those that it may see; how many it passed; on how many it failed.
    pass_rate, expected
        Passes per alert examined, and how many passes that makes for the whole span; None if there were none.
    ms_per_alert
        What it takes, the database's work of joining the alert and its object included.
    is_complete
        Whether all alerts of the span were looked at; if not, those that were are a random sample.
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
        drawn = draw(self._alerts, span, limits.max_alerts, limits.max_time_ms)
        counted = alerts_by_hour(self._alerts, span, _left(deadline))  # after it: alerts may still be coming in
        looked_at, examined, passes = self._examine(list(drawn), deadline)
        hours = {number: Hour(moment_of(span.start + number / 24.0), alerts) for number, alerts in counted.items()}
        for candid in examined:
            hour = hours.get(int((drawn[candid] - span.start) * 24.0))
            if hour is not None:  # None: what was there has been dropped meanwhile
                hour.examined += 1
                hour.passed += candid in passes
        alerts, passed = sum(counted.values()), [candid for candid in examined if candid in passes]
        return Report(
            start=span.start,
            end=span.end,
            alerts=alerts,
            examined=len(examined),
            passed=len(passed),
            errors=self._tally.errors,
            pass_rate=len(passed) / len(examined) if examined else None,
            expected=round(len(passed) / looked_at * alerts) if looked_at else None,
            ms_per_alert=self._tally.ms / self._tally.alerts if self._tally.alerts else None,
            is_complete=looked_at == alerts,
            trouble=self._tally.trouble,
            hours=list(hours.values()),
            passes=self._listed(
                sorted((candid for candid in examined if candid in passes), key=drawn.__getitem__), passes
            ),
        )

    def _examine(self, candids: Sequence[int], deadline: float) -> tuple[int, list[int], Passes]:
        """Run the filter until all is done or time is over.

        Returns
        -------
        looked_at, examined, passes
            How many alerts were looked at; those of them that the filter may see; what it passed.
        """
        passes, looked_at, examined = new_passes(), 0, list[int]()
        size = BATCH if attribution(self._filter.pipeline) is not None else BATCH_ALONE
        while looked_at < len(candids) and time.monotonic() < deadline and not self._stopped.is_set():
            batch = self._visible(candids[looked_at : looked_at + size])
            if batch:
                self._evaluation.one(self._filter, batch, passes)
            if self._tally.is_off:  # in the middle of the batch
                break
            examined += batch
            looked_at = min(looked_at + size, len(candids))
        return looked_at, examined, passes

    def _visible(self, candids: Sequence[int]) -> list[int]:
        """Leave out what the filter may not see."""
        match = self._survey.filter_prefix(candids, self._filter.permissions)[0]["$match"]
        return [each["_id"] for each in self._alerts.find(match, {"_id": 1})]

    def _listed(self, candids: Sequence[int], passes: Passes) -> list[Document]:
        name = self._survey.object_id_field
        found = self._alerts.find({"_id": {"$in": candids}}, {name: 1, "candidate.jd": 1})
        known = {each["_id"]: {"objectId": each[name], "jd": each["candidate"]["jd"]} for each in found}
        return [
            {"candid": candid, **known.get(candid, {}), "annotations": passes[candid][0]["annotations"]}
            for candid in candids
        ]


def _left(deadline: float) -> int:
    return max(1, int(1000.0 * (deadline - time.monotonic())))


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
