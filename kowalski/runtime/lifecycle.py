"""Bringing an instance up, as a whole and in order, and down again without a rest."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import psutil

from kowalski.archive import client
from kowalski.config import Settings
from kowalski.migrations import registry
from kowalski.runtime import kafka, leftovers, mongod, ports
from kowalski.runtime.errors import ServiceError
from kowalski.runtime.health import Health
from kowalski.runtime.programs import plan
from kowalski.runtime.services import Service, services
from kowalski.runtime.supervisor import Process, Supervisor

FOUNDATION = ("mongod", "kafka")
"""What everything else needs before it starts."""
PATIENCE = 120.0
"""Seconds for one service to become healthy; the first start on a slow disk takes half a minute."""
GRACE = 15.0
"""Seconds after which a service that keeps ending is given up."""
LONGEST_STOP = 180.0
"""Seconds for all services to end, one after the other."""
PAUSE = 0.2

DEFAULT_PASSWORD = "admin"


class Reporter(Protocol):
    """What `start` and `stop` tell about their progress."""

    def begin(self, text: str) -> None:
        """Something begins that may take a while."""

    def progress(self, name: str, done: int, total: int) -> None:
        """``done`` of ``total`` bytes are there; ``name`` has just come."""

    def ready(self, text: str) -> None:
        """Something is done."""

    def note(self, text: str) -> None:
        """Something the operator should know."""


def start(settings: Settings, reporter: Reporter, *, afresh: bool = False) -> None:
    """Bring the instance up; what runs already and hasn't changed is left alone.

    Parameters
    ----------
    settings
        Loaded after its secrets were made.
    reporter
        Is told what happens.
    afresh
        Stop everything first.

    Raises
    ------
    ServiceError
        If something can't be started or doesn't become healthy.
    """
    if has_default_password(settings):
        reporter.note("the API's admin has the default password: set server.admin_password before others reach it")
    supervisor = Supervisor(settings)
    with alone(settings.path.run):
        if afresh:
            _stop(supervisor, reporter)
        elif not supervisor.is_running():
            _stop(supervisor, reporter)  # it may be ending just now, or have been killed and left the others behind
        ports.check(settings, leftovers.listening_ports(settings.path.run))
        reporter.begin("preparing MongoDB and Kafka")
        for name in supervisor.apply(plan(settings, reporter.progress)):
            reporter.note(f"{name} is restarted: its settings have changed")
        known = services(settings)
        for service in known:
            if service.name in FOUNDATION:
                _start_foundation(service, settings, supervisor, reporter)
        rest = [service for service in known if service.name not in FOUNDATION]
        for service in rest:
            if service.embedded:
                supervisor.start(service.name)
        for service in rest:
            await_health(service, settings, supervisor, reporter)


def stop(settings: Settings, reporter: Reporter) -> None:
    """Bring the instance down and leave no process of it, whatever has become of its supervisor."""
    with alone(settings.path.run):
        _stop(Supervisor(settings), reporter)


def await_health(service: Service, settings: Settings, supervisor: Supervisor, reporter: Reporter) -> None:
    """Wait until ``service`` is healthy.

    Raises
    ------
    ServiceError
        If it isn't in time, or keeps ending; the text names its log.
    """
    reporter.begin(f"{service.name}: waiting until it answers")
    begun = time.monotonic()
    while True:
        processes = [process for process in supervisor.processes() if process.program == service.name]
        health = service.check(settings, max((process.started for process in processes), default=0.0))
        if health.ok and all(process.state == "RUNNING" for process in processes):
            reporter.ready(f"{service.name}: {service.address or health.detail}")
            return
        waited = time.monotonic() - begun
        ending = any(process.state in ("BACKOFF", "FATAL", "EXITED") for process in processes)
        if waited > PATIENCE or (ending and waited > GRACE):
            raise ServiceError(_failure(service, health, processes, ending=ending))
        time.sleep(PAUSE)


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Keep a second `start` or `stop` of the same instance waiting until the first is done."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def has_default_password(settings: Settings) -> bool:
    """Whether the API's administrator has the default password.

    Raises
    ------
    ServiceError
        If so, and others can reach the API.
    """
    server = settings.server
    if server.admin_password != DEFAULT_PASSWORD:
        return False
    if not server.is_loopback:
        raise ServiceError(
            f"server.host = {server.host!r} lets others reach the API, and its admin's password is the default; "
            "set server.admin_password, or server.host to 127.0.0.1"
        )
    return True


def prepare(settings: Settings) -> None:
    """Make MongoDB ready where this instance's services are started by others.

    Raises
    ------
    ServiceError
        If it does not answer, refuses what is needed, or holds what this Kowalski can't work with.
    """
    mongod.prepare(settings)
    _check_version(settings)


def _start_foundation(service: Service, settings: Settings, supervisor: Supervisor, reporter: Reporter) -> None:
    if service.embedded:
        supervisor.start(service.name)
    reporter.begin(f"{service.name}: waiting until it answers")
    if service.name == "mongod":
        if service.embedded:
            _await_process(service, supervisor)
        prepare(settings)
    else:
        kafka.wait_until_up(settings)
    await_health(service, settings, supervisor, reporter)


def _check_version(settings: Settings) -> None:
    """See that this Kowalski can work with what is stored; MongoDB stays up, as a migration needs it."""
    with client.connect(settings) as connection:
        try:
            registry.check(client.system_database(connection, settings))
        except registry.MigrationError as error:
            raise ServiceError(str(error)) from error


def _await_process(service: Service, supervisor: Supervisor) -> None:
    """Fail early, and with the log's name, if a program ends as soon as it is started."""
    end = time.monotonic() + GRACE
    while time.monotonic() < end:
        processes = supervisor.find(service.name)
        if all(process.state == "RUNNING" for process in processes):
            return
        time.sleep(PAUSE)
    raise ServiceError(_failure(service, Health(False), supervisor.find(service.name), ending=True))


def _failure(service: Service, health: Health, processes: list[Process], *, ending: bool) -> str:
    what = "keeps ending" if ending else f"is not healthy after {PATIENCE:g} s"
    why = f" ({health.detail})" if health.detail else ""
    where = "; what it said is in " + " and ".join(str(process.log) for process in processes) if processes else ""
    return f"{service.name} {what}{why}{where}"


def _stop(supervisor: Supervisor, reporter: Reporter) -> None:
    running = supervisor.process()
    if running is not None:
        reporter.begin("stopping the services")
        supervisor.shutdown()
        with suppress(psutil.TimeoutExpired):  # whatever it still holds is ended below
            running.wait(LONGEST_STOP)
    for process in leftovers.end(supervisor.run):
        reporter.note(f"ended process {process.pid}, which no supervisor was looking after")
    supervisor.socket.unlink(missing_ok=True)
    supervisor.pid_file.unlink(missing_ok=True)
