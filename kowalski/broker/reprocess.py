"""Stored alerts of a span of nights through chosen stages again: batches to workers, progress to the system database.

Alerts go in order of time. What is on record is the time before which all are done; whoever goes on after an
interruption begins there, and repeats at most what was in flight.
"""

from __future__ import annotations

import math
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from distributed import Client
from distributed.comm.addressing import get_address_host_port
from pymongo.collection import Collection
from pymongo.database import Database

from kowalski.archive import reprocessing
from kowalski.archive.client import Document
from kowalski.archive.reprocessing import Mark
from kowalski.broker.context import WorkerContext
from kowalski.broker.dispatch import CONNECT_SECONDS, Dispatcher, Finished
from kowalski.broker.night import Span
from kowalski.broker.pipeline import SystemFault
from kowalski.broker.rerun import Rerun, process_again
from kowalski.broker.worker import process_rerun
from kowalski.config import Settings
from kowalski.surveys.base import Survey

PRIORITY = -1_000_000
"""Alerts that come in go first."""
POLL_SECONDS = 0.02
NOTE_SECONDS = 1.0
"""How often progress is written down."""
PAGE = 20_000
"""Alerts that are listed at once."""
MOST_FAILURES = 1000
"""Alerts that may fail before the run stops: then it is not the alerts."""


class ReprocessError(Exception):
    """It can't go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: the nights (UTC) ``first`` to ``last``, both included, and the names of the stages."""

    survey: Survey
    first: date
    last: date
    stages: tuple[str, ...]
    post: bool = False

    @property
    def key(self) -> str:
        """What tells runs apart of which one goes on where the other has stopped."""
        posting = " post" if self.post else ""
        return f"{self.survey.name} {self.first:%Y%m%d}-{self.last:%Y%m%d} {','.join(self.stages)}{posting}"

    @property
    def span(self) -> Span:
        """The span of time."""
        return Span(Span.of_date(self.first).start, Span.of_date(self.last).end)

    def count(self, alerts: Collection[Document]) -> int:
        """Count the alerts, by the index of their time."""
        return alerts.count_documents(_match(self.span.start, self.span.end))


@dataclass(slots=True)
class Progress:
    """How far a run is: alerts done and in all, passes found, alerts that could not be processed, in this process."""

    done: int
    total: int
    passes: int = 0
    rejected: int = 0


@dataclass(slots=True)
class Here:
    """The process itself in place of workers: does a batch as soon as it gets it. Like a `Dispatcher`."""

    context: WorkerContext
    _done: list[Finished[Rerun]] = field(default_factory=list)

    def __len__(self) -> int:
        """How many batches are not collected."""
        return len(self._done)

    def submit(self, number: int, rerun: Rerun) -> None:
        """Do it."""
        try:
            self._done.append(Finished(number, rerun, process_again(rerun, self.context), None))
        except SystemFault as error:
            self._done.append(Finished(number, rerun, None, error))

    def collect(self) -> list[Finished[Rerun]]:
        """Take what is done."""
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        """Let go of the database."""
        self.context.data.client.close()


Hands = Dispatcher[Rerun] | Here


def hands_of(settings: Settings, survey: Survey) -> Hands:
    """Give the Dask workers of a survey or, where there are none, this process."""
    address = settings.scheduler_of(survey.name)
    try:
        # Dask would try for all its time where nobody listens
        socket.create_connection(get_address_host_port(address), CONNECT_SECONDS).close()
        with Client(address, timeout=CONNECT_SECONDS, set_as_default=False) as client:
            there = bool(client.scheduler_info(n_workers=1)["workers"])
    except OSError:
        there = False
    if there:
        return Dispatcher(address, process_rerun, PRIORITY)
    return Here(WorkerContext.open(settings, survey))


class Reprocessing:
    """One run, new or resumed.

    Parameters
    ----------
    mark
        Where to go on; None: a new run.
    """

    def __init__(
        self, settings: Settings, plan: Plan, data: Database[Document], system: Database[Document], mark: Mark | None
    ) -> None:
        self._limits = settings.broker
        self._plan = plan
        self._alerts = data[plan.survey.alerts]
        self._system = system
        total = plan.count(self._alerts)
        self._mark = mark or reprocessing.begin(system, plan.key, total)
        self.progress = Progress(self._mark.done, total)
        self.failures = dict(self._mark.failures)
        self._flying: deque[tuple[int, float, int]] = deque()
        """Of each batch in flight, in order: its number, the time of its last alert, how many alerts are earlier."""
        self._landed: set[int] = set()
        self._number = 0
        self._reached: tuple[float, int] | None = None
        self._noted_at = time.monotonic()

    def run(self, hands: Hands) -> Iterator[Progress]:
        """Do it by ``hands``, and tell now and then how far it is.

        Raises
        ------
        ReprocessError
            If a batch can't be done; what is done is on record, and the same run goes on there.
        kowalski.broker.dispatch.ClusterLost
            If the workers are gone; as before.
        """
        batches = self._batches()
        exhausted = False
        try:
            while not exhausted or self._flying:
                while not exhausted and len(hands) < self._limits.in_flight:
                    exhausted = not self._send(batches, hands)
                if self._land(hands):
                    yield self.progress
                else:
                    time.sleep(POLL_SECONDS)
        finally:
            self._note()
        self.failures = dict(reprocessing.finish(self._system, self._plan.key, self.progress.done))

    def _send(self, batches: Iterator[tuple[Rerun, float, int]], hands: Hands) -> bool:
        following = next(batches, None)
        if following is None:
            return False
        rerun, last, earlier = following
        hands.submit(self._number, rerun)
        self._flying.append((self._number, last, earlier))
        self._number += 1
        return True

    def _land(self, hands: Hands) -> bool:
        finished = hands.collect()
        for one in finished:
            if one.report is None:
                trouble = f"{type(one.error).__name__}: {one.error}"
                raise ReprocessError(f"a batch could not be done ({trouble}); the same command goes on here")
            self._landed.add(one.number)
            self.progress.done = min(self.progress.total, self.progress.done + one.report.packets)
            self.progress.passes += one.report.passes
            self.progress.rejected += one.report.rejected
            if self.progress.rejected > MOST_FAILURES:
                found = reprocessing.find(self._system, self._plan.key) or self._mark
                reasons = ", ".join(sorted(set(found.failures.values()))[:3])
                raise ReprocessError(f"more than {MOST_FAILURES} alerts can't be processed: {reasons}")
        while self._flying and self._flying[0][0] in self._landed:
            number, last, earlier = self._flying.popleft()
            self._landed.discard(number)
            self._reached = (last, earlier)
        if time.monotonic() - self._noted_at > NOTE_SECONDS:
            self._note()
        return bool(finished)

    def _note(self) -> None:
        self._noted_at = time.monotonic()
        if self._reached is not None:
            jd, earlier = self._reached
            reprocessing.note(self._system, self._plan.key, earlier, jd)
            self._reached = None

    def _batches(self) -> Iterator[tuple[Rerun, float, int]]:
        """Cut what is left into batches, each with the time of its last alert and how many alerts are before that time.

        Alerts of one exposure have one time; so whoever resumes repeats those of the last one.
        """
        seen = earlier = self._mark.done
        moment = -1.0
        candids: list[int] = []
        start = self._plan.span.start if self._mark.jd is None else self._mark.jd
        for candid, jd in self._rows(start, self._plan.span.end):
            if jd != moment:
                moment, earlier = jd, seen
            seen += 1
            candids.append(candid)
            if len(candids) == self._limits.batch_size:
                yield self._rerun(candids), moment, earlier
                candids = []
        if candids:
            yield self._rerun(candids), moment, earlier

    def _rows(self, start: float, end: float) -> Iterator[tuple[int, float]]:
        """List alerts (candid, jd) in order of time, in pages: one cursor would not live as long as the work takes."""
        while True:
            page = self._page(_match(start, end), PAGE)
            if len(page) < PAGE:
                yield from page
                return
            last = page[-1][1]
            whole = [row for row in page if row[1] < last]
            start = last
            if not whole:  # more alerts of one time than a page holds
                whole = self._page({"candidate.jd": last}, 0)
                start = math.nextafter(last, math.inf)
            yield from whole

    def _page(self, match: Document, limit: int) -> list[tuple[int, float]]:
        # The index of time holds all that is asked for: no alert is read.
        shown = {"_id": 0, "candid": 1, "candidate.jd": 1}
        found = self._alerts.find(match, shown).sort("candidate.jd", 1).limit(limit)
        return [(alert["candid"], alert["candidate"]["jd"]) for alert in found]

    def _rerun(self, candids: list[int]) -> Rerun:
        plan = self._plan
        return Rerun(plan.survey.name, tuple(candids), plan.stages, (plan.key, self._mark.run), plan.post)


def _match(start: float, end: float) -> Document:
    return {"candidate.jd": {"$gte": start, "$lt": end}}
