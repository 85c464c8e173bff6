"""A watcher as a service: one pass after the other, told to ``status``, one process at a time, ended by a signal."""

from __future__ import annotations

import fcntl
import logging
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.errors import PyMongoError

from kowalski.archive import client, reports
from kowalski.archive.fetched import Memory
from kowalski.config import Settings
from kowalski.watchers import kinds
from kowalski.watchers.base import Context, Outcome
from kowalski.watchers.errors import Stopped, Unavailable, WatcherError

REPORT_SECONDS = 10.0
SHOWN = 20
"""Rejected things that a report names."""

log = logging.getLogger(__name__)


class Service:
    """One watcher that runs.

    Parameters
    ----------
    settings
        Of the instance.
    name
        Of the watcher.

    Raises
    ------
    ConfigError
        If it is not configured.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        self.name, self._own = kinds.settings_of(settings.watchers, name)
        self._settings = settings
        self._stop = threading.Event()
        self._state: dict[str, Any] = {"doing": "starting", "trouble": None, "next_at": None}

    def stop(self, *_: object) -> None:
        """Let it end soon; also a signal's handler."""
        self._stop.set()

    def wait(self, seconds: float) -> None:
        """Wait, or raise `Stopped` as soon as it is told to end."""
        if self._stop.wait(seconds):
            raise Stopped

    def run(self, *, once: bool) -> Outcome | None:
        """Look again and again, or once.

        Returns
        -------
        Outcome or None
            Of the one pass; None after it was told to end.

        Raises
        ------
        WatcherError, pymongo.errors.PyMongoError
            If the one pass fails; a service goes on and says so in ``status``.
        """
        with self._alone(), client.connect(self._settings) as connection:
            system = client.system_database(connection, self._settings)
            data = client.data_database(connection, self._settings)
            memory = Memory(system, self.name)
            context = Context(self.name, self._settings, self._own, data, system, memory, self.wait, self._tell)
            with self._reporting(system):
                try:
                    if once:
                        return self._passed(context)
                    self._go_on(context)
                except Stopped:
                    log.info("%s: ended", self.name)
        return None

    def _go_on(self, context: Context[Any]) -> None:
        due: datetime | None = context.memory.load().get("next_at")
        if due is not None:  # a restart is no reason to ask again before it is time
            left = (due.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()
            self._sleep(min(left, context.memory.load().get("pause", left)))  # a clock may have been set
        while True:
            pause, is_promised = self._own.every_seconds, True
            try:
                self._passed(context)
            except (WatcherError, PyMongoError) as error:
                asked = error.pause if isinstance(error, Unavailable) else None
                pause, is_promised = max(pause, asked or 0.0), asked is not None
                self._state["trouble"] = " ".join(str(error).split())
                log.warning("%s: %s", self.name, self._state["trouble"])
            # After a failure a restart tries again at once, unless the server has asked for the pause.
            self._sleep(pause * random.uniform(1.0, 1.05), context if is_promised else None)

    def _passed(self, context: Context[Any]) -> Outcome:
        begun = time.monotonic()
        outcome = kinds.build(context).once()
        seconds = time.monotonic() - begun
        for what, reason in outcome.rejected.items():
            log.warning("%s: %s is not taken: %s", self.name, what, reason)
        log.info("%s: %s (%.1f s)", self.name, outcome.summary, seconds)
        self._state |= {
            "trouble": None,
            "last_pass": {"at": datetime.now(UTC), "seconds": seconds, "new": outcome.new, "summary": outcome.summary},
            "rejected_count": len(outcome.rejected),
            "rejected": [f"{what}: {why}" for what, why in list(outcome.rejected.items())[:SHOWN]],
        }
        return outcome

    def _sleep(self, seconds: float, context: Context[Any] | None = None) -> None:
        if seconds <= 0:
            return
        next_at = datetime.now(UTC) + timedelta(seconds=seconds)
        if context is not None:
            try:
                context.memory.save(next_at=next_at, pause=seconds)
            except PyMongoError as error:
                log.warning("%s: the time of the next pass could not be noted: %s", self.name, error)
        self._state |= {"next_at": next_at, "doing": "waiting"}
        self.wait(seconds)
        self._state["next_at"] = None

    def _tell(self, what: str) -> None:
        self._state["doing"] = what
        log.info("%s: %s", self.name, what)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep a second process of this machine from the same work: they would write into each other's files."""
        folder = self._settings.path.run / "watchers"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{self.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise WatcherError(f"{self.name} is already being watched by another process here") from error
            yield

    @contextmanager
    def _reporting(self, system: Any) -> Iterator[None]:
        """Report every few seconds in a thread: a pass may take hours, and is alive all the same."""
        over = threading.Event()

        def report() -> None:
            while True:
                try:
                    reports.put(system, f"watcher:{self.name}", **self._state)
                except PyMongoError as error:
                    log.warning("%s: no report could be written: %s", self.name, error)
                if over.is_set():
                    return
                over.wait(REPORT_SECONDS)

        thread = threading.Thread(target=report, name="report", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def main(settings: Settings, name: str, *, once: bool) -> Outcome | None:
    """Run a watcher in this process until it is done or told to end."""
    service = Service(settings, name)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, service.stop)
    return service.run(once=once)
