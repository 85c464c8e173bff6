"""The Dask worker's side: ``dask worker --preload kowalski.broker.worker`` makes a process ready for batches."""

from __future__ import annotations

import gc
import logging
import os
import threading
from collections.abc import Mapping
from itertools import count
from typing import Any

from distributed import Worker, get_worker
from distributed.diagnostics.plugin import WorkerPlugin
from prometheus_client import generate_latest
from pymongo.errors import PyMongoError

from kowalski import config, garbage
from kowalski.archive import figures, reports
from kowalski.broker import spool
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import BatchReport, process
from kowalski.broker.rerun import Rerun, process_again
from kowalski.broker.spool import Ticket
from kowalski.config import Settings
from kowalski.surveys import get

PLUGIN = "kowalski"
REPORT_SECONDS = 10.0
COLLECT_EVERY = 6
"""Reports from one collection of garbage to the next."""

log = logging.getLogger(__name__)


class Workbench(WorkerPlugin):
    """What one worker process keeps between batches: settings and a context per survey, models loaded."""

    name = PLUGIN

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._contexts: dict[str, WorkerContext] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def setup(self, worker: Worker) -> None:
        """Load the models of all enabled surveys, then start to report."""
        for survey in self.settings.enabled_surveys:
            self.context(survey)
        # What is loaded now stays: the collector need not look at it, nor run every few hundred alerts. Alerts hold no
        # cycles, but each of Dask's waits leaves one, so once a minute all is collected: the threshold is far away.
        garbage.settle()
        gc.set_threshold(200_000, 20, 100)
        threading.Thread(target=self._keep_reporting, args=(f"worker:{worker.address}",), daemon=True).start()

    def teardown(self, worker: Worker) -> None:
        """Stop reporting."""
        self._stop.set()
        self._write_statistics()

    def context(self, survey: str) -> WorkerContext:
        """Give the context of a survey, made on first use."""
        with self._lock:
            if survey not in self._contexts:
                self._contexts[survey] = WorkerContext.open(self.settings, get(survey))
            return self._contexts[survey]

    def _keep_reporting(self, name: str) -> None:
        for number in count():
            if self._stop.is_set():
                return
            if number % COLLECT_EVERY == 0:
                gc.collect()
            contexts = list(self._contexts.values())
            try:
                for context in contexts:
                    context.catalogs.refresh()
                self._write_statistics()
                for context in contexts[:1]:
                    reports.put(context.system, name, surveys=_summary(self._contexts))
                    figures.put(context.system, name, generate_latest().decode())
            except PyMongoError as error:
                log.warning("no report could be written: %s", error)
            self._stop.wait(REPORT_SECONDS)

    def _write_statistics(self) -> None:
        for context in list(self._contexts.values()):
            context.filters.write_statistics()


def _summary(contexts: Mapping[str, WorkerContext]) -> dict[str, Any]:
    return {
        survey: {
            "models": dict(context.scorer.loaded),
            "missing_models": dict(context.scorer.missing),
            # copied first: a batch that is being scored at the same time may add to it
            "absent_scores": {f"{model}: {reason}": n for (model, reason), n in dict(context.scorer.absent).items()},
            "missing_catalogs": dict(context.catalogs.missing),
        }
        for survey, context in dict(contexts).items()
    }


async def dask_setup(worker: Worker) -> None:
    """Prepare a worker before it takes its first batch; Dask calls it when the module is preloaded.

    Dask would log an error and go on with a worker that can't work; so the process ends, and is started again.
    """
    try:
        await worker.plugin_add(plugin=Workbench(config.load().settings), name=PLUGIN)
    except Exception:
        log.exception("the worker can't be prepared")
        os._exit(1)


def process_ticket(ticket: Ticket) -> BatchReport:
    """Take one batch through all stages: the task that the broker submits."""
    bench = _bench()
    return process(spool.read(ticket, bench.settings), bench.context(ticket.survey))


def process_rerun(rerun: Rerun) -> BatchReport:
    """Take stored alerts through chosen stages again: the task that ``reprocess`` submits."""
    return process_again(rerun, _bench().context(rerun.survey))


def _bench() -> Workbench:
    bench = get_worker().plugins[PLUGIN]
    if not isinstance(bench, Workbench):
        raise TypeError(f"the worker's plugin {PLUGIN} is a {type(bench).__name__}")
    return bench
