"""What the status page tells: the state that ``status`` tells, and the work of the last hours, filters and catalogs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.database import Database
from pymongo.errors import PyMongoError

from kowalski import surveys
from kowalski.archive import activity, client, filter_statistics, filters, inventory, names
from kowalski.archive.activity import Work
from kowalski.archive.client import Document
from kowalski.config import Settings
from kowalski.runtime.status import Status, gather

HOUR = timedelta(hours=1)
DATABASE_PATIENCE_MS = 3000


@dataclass(frozen=True, slots=True)
class FilterRow:
    """One filter, and how the version of it does that is in use.

    Attributes
    ----------
    state
        ``on``, ``off``, ``no active version`` or ``suspended: <why>``.
    numbers
        As from `kowalski.archive.filter_statistics.of_all`; empty if nothing was counted yet.
    """

    filter_id: int
    group_id: int
    catalog: str
    state: str
    numbers: Mapping[str, Any]


@dataclass(slots=True)
class Overview:
    """The state of an instance at a moment.

    Attributes
    ----------
    at
        When it was gathered (UTC).
    hours
        Beginnings of the hours (UTC) that are looked at, oldest first; the last one is not over.
    activity
        By survey: the work of each of these hours. Enabled surveys are there even if they have done nothing.
    """

    at: datetime
    status: Status
    hours: list[datetime]
    activity: dict[str, list[Work]] = field(default_factory=dict)
    filters: list[FilterRow] = field(default_factory=list)
    catalogs: list[inventory.Entry] = field(default_factory=list)

    @property
    def surveys(self) -> list[str]:
        """Names of the surveys, those with most alerts first."""
        return sorted(self.activity, key=lambda name: (-self.total(name).alerts, name))

    def total(self, survey: str) -> Work:
        """Add up the work of a survey."""
        whole = Work()
        for each in self.activity[survey]:
            whole.merge(each)
        return whole


def gather_overview(settings: Settings) -> Overview:
    """Ask every service and the databases, from within one of them; takes some seconds if one does not answer."""
    now = datetime.now(UTC)
    last = activity.hour_of(now)
    hours = [last - HOUR * back for back in reversed(range(settings.status.hours))]
    found = Overview(now, gather(settings, elsewhere=True), hours)
    found.activity = {name: [Work() for _ in hours] for name in settings.enabled_surveys}
    if any(line.name == "mongod" and line.healthy for line in found.status.services):
        try:
            with client.connect(settings, serverSelectionTimeoutMS=DATABASE_PATIENCE_MS) as connection:
                system = client.system_database(connection, settings)
                done = activity.since(system, hours[0])
                found.activity |= {name: [work.get(hour, Work()) for hour in hours] for name, work in done.items()}
                found.filters = filter_rows(system)
                data = client.data_database(connection, settings)
                found.catalogs = inventory.take(data, settings.database.xmatch, surveys.collections())
        except PyMongoError as error:
            found.status.problems.append(f"MongoDB can't be asked: {' '.join(str(error).split())}")
    return found


def filter_rows(system: Database[Document]) -> list[FilterRow]:
    """Join filters with what brokers have counted of their versions in use, by number."""
    numbers = filter_statistics.of_all(system)
    return [
        FilterRow(
            each["filter_id"],
            each["group_id"],
            each["catalog"],
            filters.state_of(each),
            numbers.get((each["filter_id"], each.get("active_fid") or ""), {}),
        )
        for each in system[names.FILTERS].find({}, {"fv": 0}).sort("filter_id", 1)
    ]
