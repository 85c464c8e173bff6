"""What `status` tells: every service, and what the system database says of the work."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaException
from pymongo.errors import PyMongoError

from kowalski import surveys
from kowalski.archive import client, known_objects, names, outbox, reports, schema_changes
from kowalski.archive.client import Document
from kowalski.broker.lag import consumer_lag
from kowalski.config import Settings
from kowalski.runtime.health import FRESH
from kowalski.runtime.services import Service, services
from kowalski.runtime.supervisor import Process, Supervisor


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """One process of a service, or a service that somebody else runs.

    Attributes
    ----------
    name
        The process: ``api``, ``worker-0`` …
    state
        ``running``, ``starting``, ``stopped``, ``failing``, or ``external`` for a service that others run.
    healthy, detail
        Whether the service does its work, and what its check says.
    pid, uptime
        Process id and seconds since it was started; None where there is no process of ours.
    address, log
        Where it is, and where it writes its log.
    """

    name: str
    state: str
    healthy: bool
    detail: str
    pid: int | None
    uptime: float | None
    address: str
    log: str | None


@dataclass(slots=True)
class Status:
    """The state of an instance; what the databases can't be asked for is None.

    Attributes
    ----------
    services
        All of them, in the order in which they start.
    lag
        By survey and topic: how many alerts are in Kafka that are not yet durably processed.
    dead_letters
        How many packets could not be processed.
    outbox
        By state: how many alerts with passes there are.
    outbox_age
        Seconds since the oldest pending one passed.
    models
        Models that workers have loaded, by survey: name and version.
    missing_models
        Models that some worker could not load, by survey: name and reason.
    absent_scores
        How many scores the running workers could not give, by survey and "model: reason".
    missing_catalogs
        Catalogs that alerts can't be matched with, by survey: name and reason.
    suspended_filters
        Filters that were switched off because they kept failing.
    schema_changes
        Fields that are new in the packets of a survey, or of another type than before, by survey, oldest first.
    watchers
        What each running watcher says of itself: ``doing``, ``trouble``, ``last_pass``, ``rejected`` …
    not_configured
        Watchers that don't run, and the settings that each would need.
    problems
        What is wrong, a sentence each.
    """

    services: list[ServiceStatus]
    lag: dict[str, dict[str, int]] = field(default_factory=dict)
    dead_letters: int | None = None
    outbox: dict[str, int] | None = None
    outbox_age: float | None = None
    models: dict[str, dict[str, str]] = field(default_factory=dict)
    missing_models: dict[str, dict[str, str]] = field(default_factory=dict)
    absent_scores: dict[str, dict[str, int]] = field(default_factory=dict)
    missing_catalogs: dict[str, dict[str, str]] = field(default_factory=dict)
    skyportal: dict[str, Any] = field(default_factory=dict)
    """How many objects SkyPortal is known to have, and up to when its sources were looked through."""
    suspended_filters: list[dict[str, Any]] = field(default_factory=list)
    schema_changes: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    watchers: dict[str, dict[str, Any]] = field(default_factory=dict)
    not_configured: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every service does its work."""
        return all(service.healthy for service in self.services)

    def as_dict(self) -> dict[str, Any]:
        """Give everything as plain values, for JSON."""
        return {"ok": self.ok, **asdict(self)}


def gather(settings: Settings, *, elsewhere: bool = False) -> Status:
    """Ask every service and the databases.

    Parameters
    ----------
    elsewhere
        As for `gather_services`.
    """
    not_configured = settings.watchers.not_configured
    status = Status(gather_services(settings, elsewhere=elsewhere), not_configured=not_configured)
    status.problems = [f"{line.name}: {line.detail or line.state}" for line in status.services if not line.healthy]
    healthy = {line.name for line in status.services if line.healthy}
    if "mongod" in healthy:
        _ask_database(settings, status)
    if {"mongod", "kafka"} <= healthy:
        _ask_lag(settings, status)
    return status


def gather_services(settings: Settings, *, elsewhere: bool = False) -> list[ServiceStatus]:
    """Ask every service whether it does its work, all at once: those that are away take their time to say nothing.

    Parameters
    ----------
    elsewhere
        Where no supervisor of ours runs others may do its work, as for images. Then only their checks tell of
        services; without it they are stopped.
    """
    processes = Supervisor(settings).processes()
    known = services(settings)
    if elsewhere and not processes:
        known = [replace(service, embedded=False) for service in known]
    with ThreadPoolExecutor(len(known)) as pool:
        answers = pool.map(lambda service: _lines(service, settings, processes), known)
        return [line for lines in answers for line in lines]


def _lines(service: Service, settings: Settings, processes: list[Process]) -> list[ServiceStatus]:
    ours = [process for process in processes if process.program == service.name]
    if service.embedded and not ours:
        return [ServiceStatus(service.name, "stopped", False, "", None, None, service.address, None)]
    started = max((process.started for process in ours), default=0.0)
    health = service.check(settings, started)
    if not service.embedded:
        return [ServiceStatus(service.name, "external", health.ok, health.detail, None, None, service.address, None)]
    return [
        ServiceStatus(
            name=process.name,
            state=_state(process),
            healthy=health.ok and process.state == "RUNNING",
            detail=health.detail,
            pid=process.pid or None,
            uptime=time.time() - process.started if process.pid else None,
            address=service.address,
            log=str(process.log),
        )
        for process in ours
    ]


def _state(process: Process) -> str:
    known = {"RUNNING": "running", "STARTING": "starting", "STOPPING": "stopping", "STOPPED": "stopped"}
    return known.get(process.state, "failing")


def _ask_database(settings: Settings, status: Status) -> None:
    try:
        with client.connect(settings, serverSelectionTimeoutMS=3000) as connection:
            system = client.system_database(connection, settings)
            status.dead_letters = system[names.DEAD_LETTERS].estimated_document_count()
            _add_outbox(status, dict(outbox.counts(system)))
            if settings.skyportal.enabled:
                status.skyportal = known_objects.summary(system)
            for report in reports.read(system, "broker"):
                if report.get("trouble"):
                    status.problems.append(f"{report['_id']} waits: {report['trouble']}")
            _add_workers(status, reports.read(system, "worker"))
            _add_courier(status, reports.read(system, "courier"))
            status.watchers = {
                report.pop("_id").partition(":")[2]: report for report in reports.read(system, "watcher")
            }
            shown = {"_id": 0, "filter_id": 1, "group_id": 1, "catalog": 1, "suspended": 1}
            status.schema_changes = dict(schema_changes.listing(system))
            status.suspended_filters = list(system[names.FILTERS].find({"suspended": {"$ne": None}}, shown))
    except PyMongoError as error:
        status.problems.append(f"MongoDB can't be asked: {' '.join(str(error).split())}")


def _add_outbox(status: Status, counts: dict[str, Any]) -> None:
    oldest = counts.pop("oldest", None)
    status.outbox = counts
    if oldest is not None:
        status.outbox_age = (datetime.now(UTC) - oldest).total_seconds()


def _add_courier(status: Status, found: Iterable[Document]) -> None:
    """Tell why the outbox grows, while a courier runs and can't deliver."""
    for report in found:
        if datetime.now(UTC) - report["at"].replace(tzinfo=UTC) < FRESH and report.get("away"):
            status.problems.append(f"the courier waits: {report['last_error']}")


def _add_workers(status: Status, found: Iterable[Document]) -> None:
    """Join what the workers say; what only one of them misses is missing."""
    now = datetime.now(UTC)
    for report in found:
        if now - report["at"].replace(tzinfo=UTC) > FRESH:
            continue  # of a worker that is gone
        for survey, summary in report.get("surveys", {}).items():
            for topic in ("models", "missing_models", "missing_catalogs"):
                getattr(status, topic).setdefault(survey, {}).update(summary.get(topic, {}))
            absent = status.absent_scores.setdefault(survey, {})
            for what, number in summary.get("absent_scores", {}).items():
                absent[what] = absent.get(what, 0) + number


def _ask_lag(settings: Settings, status: Status) -> None:
    for survey in settings.enabled_surveys:
        try:
            status.lag[survey] = consumer_lag(settings, surveys.get(survey), timeout=5.0)
        except KafkaException as error:
            status.problems.append(f"the lag of {survey} can't be told: {error}")
