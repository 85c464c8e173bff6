"""How users' filters do in the broker: one document per version of a filter, whose counters the workers add to.

Fields: ``_id`` (``filter_id``, ``fid``), ``alerts`` of its survey that came by, ``passes``, ``errors``, ``last_error``,
``last_error_at``, ``since`` and ``last_at`` (first and last time that something was counted), ``timed_alerts`` and
``ms``: on how many alerts it ran by itself, and how long that took. Filters usually run together, where nobody can tell
how long each takes; so one batch in ``filters.sample_every`` they run one by one.

A worker writes what it has counted every few seconds: one that is killed takes that long of counting with it, and
alerts that come twice are counted twice.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database
from pymongo.errors import PyMongoError

from kowalski.archive import names
from kowalski.archive.client import Document

Key = tuple[int, str]
"""Number and version of a filter."""


@dataclass(slots=True)
class Count:
    """What was counted of one version of a filter."""

    alerts: int = 0
    passes: int = 0
    timed_alerts: int = 0
    ms: float = 0.0

    def add(self, alerts: int, passes: int, ms: float | None) -> None:
        """Count a run; ``ms`` is None if it was not timed."""
        self.alerts += alerts
        self.passes += passes
        if ms is not None:
            self.timed_alerts += alerts
            self.ms += ms

    def merge(self, other: Count) -> None:
        """Add what was counted elsewhere."""
        self.alerts += other.alerts
        self.passes += other.passes
        self.timed_alerts += other.timed_alerts
        self.ms += other.ms


class Statistics:
    """Counts in memory until it is told to write; one thread may count while another one writes."""

    def __init__(self) -> None:
        self._counts: dict[Key, Count] = {}
        self._lock = threading.Lock()

    def count(self, key: Key, alerts: int, passes: int, ms: float | None) -> None:
        """Count a run of a filter."""
        with self._lock:
            self._counts.setdefault(key, Count()).add(alerts, passes, ms)

    def write(self, system: Database[Document]) -> None:
        """Add what was counted to the stored numbers.

        Raises
        ------
        pymongo.errors.PyMongoError
            If that is not possible; then it is kept for the next time.
        """
        with self._lock:
            counts, self._counts = self._counts, {}
        if not counts:
            return
        now = datetime.now(UTC)
        try:
            system[names.FILTER_STATISTICS].bulk_write(
                [_addition(key, count, now) for key, count in counts.items()], ordered=False
            )
        except PyMongoError:
            with self._lock:
                for key, count in counts.items():
                    self._counts.setdefault(key, Count()).merge(count)
            raise


def _addition(key: Key, count: Count, now: datetime) -> UpdateOne:
    numbers = {
        "alerts": count.alerts, "passes": count.passes, "timed_alerts": count.timed_alerts, "ms": count.ms,
    }  # fmt: skip
    change: Document = {"$inc": numbers, "$min": {"since": now}, "$max": {"last_at": now}}
    return UpdateOne({"_id": _identity(key)}, change, upsert=True)


def add_error(system: Database[Document], key: Key, trouble: str) -> None:
    """Count an error at once, with what was wrong: the filter may be switched off for it the next moment."""
    system[names.FILTER_STATISTICS].update_one(
        {"_id": _identity(key)},
        {"$inc": {"errors": 1}, "$set": {"last_error": trouble}, "$currentDate": {"last_error_at": True}},
        upsert=True,
    )


async def of_filter(system: AsyncDatabase[Document], filter_id: int) -> dict[str, dict[str, Any]]:
    """Read the numbers of a filter.

    Returns
    -------
    dict
        Version -> ``alerts``, ``passes``, ``pass_rate``, ``errors``, ``last_error``, ``last_error_at``, ``since``,
        ``last_at``, ``ms_per_alert``; None where nothing is known.
    """
    found = system[names.FILTER_STATISTICS].find({"_id.filter_id": filter_id})
    return {document["_id"]["fid"]: _shown(document) async for document in found}


def of_all(system: Database[Document]) -> dict[Key, dict[str, Any]]:
    """Read the numbers of all filters; as `of_filter`, by number and version."""
    found = system[names.FILTER_STATISTICS].find()
    return {(each["_id"]["filter_id"], each["_id"]["fid"]): _shown(each) for each in found}


async def remove(system: AsyncDatabase[Document], filter_id: int) -> None:
    """Forget the numbers of a filter."""
    await system[names.FILTER_STATISTICS].delete_many({"_id.filter_id": filter_id})


def _shown(document: Document) -> dict[str, Any]:
    alerts, timed = document.get("alerts", 0), document.get("timed_alerts", 0)
    return {
        "alerts": alerts,
        "passes": document.get("passes", 0),
        "pass_rate": document.get("passes", 0) / alerts if alerts else None,
        "errors": document.get("errors", 0),
        "ms_per_alert": document["ms"] / timed if timed else None,
        **{name: document.get(name) for name in ("since", "last_at", "last_error", "last_error_at")},
    }


def _identity(key: Key) -> Document:
    return {"filter_id": key[0], "fid": key[1]}
