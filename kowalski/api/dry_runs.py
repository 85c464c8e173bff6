"""Dry runs of filters in threads: with the broker's own code, which blocks, and a few at a time."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

from kowalski.api.errors import BusyError
from kowalski.archive.client import Role, connect, data_database
from kowalski.archive.filters import ActiveFilter
from kowalski.broker.dryrun import DryRun, Limits, Report
from kowalski.broker.night import Span, last_night
from kowalski.config import Settings
from kowalski.surveys import Survey


class DryRuns:
    """Runs filters on a night of the archive; the account it uses may read and nothing else."""

    def __init__(self, settings: Settings) -> None:
        self._client = connect(settings, Role.READER, connect=False)
        self._data = data_database(self._client, settings)
        self._filters = settings.filters
        self._threads = ThreadPoolExecutor(self._filters.dry_runs, thread_name_prefix="dry-run")
        self._free = threading.BoundedSemaphore(self._filters.dry_runs)
        self._running: set[DryRun] = set()

    async def run(self, survey: Survey, one: ActiveFilter, span: Span | None, max_time_ms: int) -> Report | None:
        """Run a filter; None if there are no alerts at all.

        Parameters
        ----------
        span
            On which alerts; None for the last night that has any.

        Raises
        ------
        BusyError
            If there are too many dry runs already.
        """
        if not self._free.acquire(blocking=False):
            raise BusyError("dry runs")
        run = DryRun(self._data, survey, one, self._filters)
        limits = Limits(max_time_ms, self._filters.dry_run_max_alerts)

        def work() -> Report | None:
            found = span or last_night(self._data[survey.alerts], max_time_ms)
            return None if found is None else run.run(found, limits)

        future = self._threads.submit(work)
        future.add_done_callback(lambda _: self._free.release())
        self._running.add(run)
        try:
            return await asyncio.wrap_future(future)
        finally:
            run.stop()  # if nobody waits for it any more
            self._running.discard(run)

    def close(self) -> None:
        """End everything."""
        for run in self._running:
            run.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()
