"""What the broker writes about itself: counts, reports for ``status``, and dead letters that no worker could write."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from prometheus_client import generate_latest
from pymongo.errors import PyMongoError

from kowalski.archive import activity, dead_letters, figures, indexes, names, outbox, reports
from kowalski.archive import client as archive
from kowalski.broker import metrics
from kowalski.broker.batch import Packet
from kowalski.broker.neighbours import Neighbours
from kowalski.broker.pipeline import BatchReport
from kowalski.config import Settings
from kowalski.surveys.base import Survey

REPORT_SECONDS = 2.0

log = logging.getLogger(__name__)


class Bookkeeping:
    """Counts of one broker since its start, kept where ``status`` and Prometheus find them."""

    def __init__(self, settings: Settings, survey: Survey) -> None:
        self._settings = settings
        self._survey = survey
        connection = archive.connect(settings)
        self._data = archive.data_database(connection, settings)
        self._system = archive.system_database(connection, settings)
        self._counts: dict[str, int] = defaultdict(int)
        self._work = activity.Work()
        """What was done since it was last written down."""
        self._stages: dict[str, dict[str, float]] = defaultdict(lambda: {"wall": 0.0, "cpu": 0.0})
        self._started_at = datetime.now(UTC)
        self._reported_at = 0.0
        self.neighbours = Neighbours(
            f"broker:{other}"
            for other in settings.enabled_surveys
            if other != survey.name and settings.scheduler_of(other) == settings.scheduler_of(survey.name)
        )
        self.trouble: str | None = None
        """The last thing that kept batches waiting."""

    def prepare(self) -> None:
        """Make the collections and indexes that the survey needs.

        Raises
        ------
        pymongo.errors.PyMongoError
            If MongoDB does not answer.
        """
        indexes.ensure(self._data, self._settings, self._survey)
        indexes.ensure_system(self._system)
        outbox.ensure_indexes(self._system)
        activity.ensure_indexes(self._system)

    def count(self, report: BatchReport) -> None:
        """Add a finished batch."""
        metrics.observe(self._survey.name, report)
        self._counts["batches"] += 1
        for name in ("packets", "alerts", "passes", "rejected"):
            self._counts[name] += getattr(report, name)
        self._work.merge(report)
        for stage, times in report.stages.items():
            self._stages[stage]["wall"] += times.wall
            self._stages[stage]["cpu"] += times.cpu

    def refuse(self, packet: Packet, reason: str) -> bool:
        """Write a dead letter for a packet that no worker survives; False if MongoDB does not take it."""
        where = dead_letters.letter_id(packet.topic, packet.partition, packet.offset, packet.record)
        letter = (where, packet.timestamp, packet.value, "worker", reason)
        try:
            dead_letters.write(self._system[names.DEAD_LETTERS], self._survey.name, [letter])
        except PyMongoError as error:
            self.trouble = str(error)
            return False
        self._counts["rejected"] += 1
        self._work.rejected += 1
        return True

    def report_if_due(self, state: Callable[[], dict[str, Any]]) -> None:
        """Report every few seconds."""
        if time.monotonic() - self._reported_at >= REPORT_SECONDS:
            self._reported_at = time.monotonic()
            self.report(state())

    def report(self, state: dict[str, Any]) -> None:
        """Write what ``status`` shows; without MongoDB there is nobody to show it to."""
        metrics.show(self._survey.name, state)
        service = f"broker:{self._survey.name}"
        counts = {"started_at": self._started_at, **self._counts, "stages": dict(self._stages)}
        try:
            reports.put(self._system, service, **state, **counts)
            self.neighbours.look(reports.read(self._system, "broker"))
            figures.put(self._system, service, generate_latest().decode())
            if self._work != activity.Work():
                activity.add(self._system, self._survey.name, self._work, datetime.now(UTC))
                self._work = activity.Work()
        except PyMongoError as error:
            log.warning("no report could be written: %s", error)
