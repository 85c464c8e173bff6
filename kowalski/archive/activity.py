"""What the brokers have done, hour by hour: one document per survey and hour, to which brokers add.

``_id`` is ``{survey, hour}`` (the beginning of the hour, UTC), ``packets``, ``alerts``, ``passes`` and ``rejected`` are
counts, and ``waited`` counts packets by how long they took from Kafka, where they were written, to the end of the last
stage: number of the bin -> packets; see `Waiting`. ``stages`` holds what each stage took: name -> seconds of wall-clock
(``wall``) and of CPU (``cpu``) of all workers together. A broker that is killed takes the last seconds of counting with
it, and packets that come twice are counted twice.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pymongo import ASCENDING, IndexModel
from pymongo.database import Database

from kowalski.archive import names
from kowalski.archive.client import Document

KEPT = timedelta(days=90)
INDEXES = [IndexModel([("hour", ASCENDING)], name="hour", expireAfterSeconds=int(KEPT.total_seconds()))]

COUNTED = ("packets", "alerts", "passes", "rejected")

EDGES = tuple(0.05 * 10 ** (step / 8) for step in range(51))
"""Seconds between bins of waiting times: eight bins per decade, from 0.05 s to 26 h."""


class Waiting(dict[int, int]):
    """A histogram of waiting times: number of the bin (that of the times below ``EDGES[number]``) -> packets."""

    def add(self, seconds: Iterable[float]) -> None:
        """Count times."""
        for each in seconds:
            number = bisect.bisect_right(EDGES, each)
            self[number] = self.get(number, 0) + 1

    def merge(self, other: Mapping[int, int]) -> None:
        """Add what was counted elsewhere."""
        for number, count in other.items():
            self[number] = self.get(number, 0) + count

    def quantile(self, part: float) -> float | None:
        """Give the time in seconds below which a part (0 to 1) of all lie; None if nothing was counted.

        It is known up to the width of a bin, a third of the time itself.
        """
        wanted, seen = part * sum(self.values()), 0
        for number in sorted(self):
            seen += self[number]
            if seen >= wanted:
                upper = EDGES[min(number, len(EDGES) - 1)]
                lower = EDGES[number - 1] if number else 0.0
                return lower + (upper - lower) * (1 - (seen - wanted) / self[number])
        return None


@dataclass(slots=True)
class Cost:
    """Seconds of wall-clock and of a worker's CPU spent in one stage."""

    wall: float = 0.0
    cpu: float = 0.0


@dataclass(slots=True)
class Work:
    """What was done within some time."""

    packets: int = 0
    alerts: int = 0
    passes: int = 0
    rejected: int = 0
    waiting: Waiting = field(default_factory=Waiting)
    stages: dict[str, Cost] = field(default_factory=dict)

    def merge(self, other: Work) -> None:
        """Add what was done elsewhere."""
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.waiting.merge(other.waiting)
        for stage, cost in other.stages.items():
            own = self.stages.setdefault(stage, Cost())
            own.wall += cost.wall
            own.cpu += cost.cpu


def ensure_indexes(system: Database[Document]) -> None:
    """Let MongoDB forget hours after `KEPT`."""
    system[names.ACTIVITY].create_indexes(INDEXES)


def hour_of(moment: datetime) -> datetime:
    """Give the beginning of the hour (UTC) to which a moment belongs."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def add(system: Database[Document], survey: str, work: Work, moment: datetime) -> None:
    """Add what a broker has done to the hour of ``moment``."""
    hour = hour_of(moment)
    numbers: Document = {name: getattr(work, name) for name in COUNTED}
    numbers |= {f"waited.{number}": count for number, count in work.waiting.items()}
    for stage, cost in work.stages.items():
        numbers |= {f"stages.{stage}.wall": cost.wall, f"stages.{stage}.cpu": cost.cpu}
    change = {"$inc": numbers, "$setOnInsert": {"hour": hour}}
    system[names.ACTIVITY].update_one({"_id": {"survey": survey, "hour": hour}}, change, upsert=True)


def since(system: Database[Document], moment: datetime) -> dict[str, dict[datetime, Work]]:
    """Read what was done in the hour of ``moment`` and later: survey -> beginning of the hour (UTC) -> work."""
    found: dict[str, dict[datetime, Work]] = {}
    for document in system[names.ACTIVITY].find({"hour": {"$gte": hour_of(moment)}}).sort("hour", ASCENDING):
        counts = {name: document.get(name, 0) for name in COUNTED}
        waiting = Waiting({int(number): count for number, count in document.get("waited", {}).items()})
        stages = {stage: Cost(**cost) for stage, cost in document.get("stages", {}).items()}
        hours = found.setdefault(document["_id"]["survey"], {})
        hours[document["hour"].replace(tzinfo=UTC)] = Work(**counts, waiting=waiting, stages=stages)
    return found
