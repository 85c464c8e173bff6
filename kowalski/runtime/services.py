"""The services of an instance as an operator sees them: where each is, who runs it, and how to ask whether it works."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from kowalski.config import Settings
from kowalski.runtime import health, programs


@dataclass(frozen=True, slots=True)
class Service:
    """One service.

    Attributes
    ----------
    name
        As in `kowalski.runtime.programs`.
    address
        Where it is, or what it reads.
    check
        Tells whether it works.
    embedded
        Whether it is a program of our supervisor; otherwise somebody else runs it.
    """

    name: str
    address: str
    check: health.Check
    embedded: bool = True


def services(settings: Settings) -> list[Service]:
    """List the services that an instance consists of, in the order in which they start."""
    dask, server = settings.dask, settings.server
    found = [
        Service("mongod", _mongodb_address(settings), health.mongodb, settings.database.is_embedded),
        Service("kafka", settings.kafka.servers, health.kafka, settings.kafka.is_embedded),
        Service("scheduler", dask.address, health.scheduler, dask.kind != "address"),
        Service(programs.WORKER, "", health.workers, dask.is_embedded),
        Service("api", f"http://{server.host}:{server.port}", health.api),
    ]
    for name in settings.enabled_surveys:
        found.append(Service(programs.broker_name(name), "", health.reporting(f"broker:{name}")))
    if settings.delivers:
        where = settings.skyportal.base_url if settings.skyportal.enabled else settings.kafka.servers
        found.append(Service("courier", where, health.reporting("courier")))
    for name, own in settings.watchers.running.items():
        found.append(Service(programs.watcher_name(name), own.url or "", health.watching(name)))
    return found


def _mongodb_address(settings: Settings) -> str:
    database = settings.database
    if database.uri is not None:
        return urlsplit(database.uri).netloc.rpartition("@")[2]  # without the password it may hold
    return f"{database.host or '127.0.0.1'}:{database.port}"
