"""Whether each service does its work, asked from outside: a process that runs is not yet one that answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pymongo
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from pymongo.errors import PyMongoError

from kowalski.archive import client, reports
from kowalski.broker.kafka import client_config
from kowalski.config import Settings
from kowalski.runtime.programs import bind_address

PATIENCE = 3.0
"""Seconds that one check waits for an answer."""
FRESH = timedelta(seconds=60)
"""A service that has not reported for so long is stuck."""


@dataclass(frozen=True, slots=True)
class Health:
    """What a check found: whether the service does its work, and what it says of itself or what is wrong."""

    ok: bool
    detail: str = ""


Check = Callable[[Settings, float], Health]
"""A check: of which settings, and since when (seconds since 1970) the service has been running."""


def mongodb(settings: Settings, started: float = 0.0) -> Health:
    """Whether MongoDB answers, lets our services in and takes a write for good.

    One that answers a ping may take no writes: its disk is full, or its clock was set back, by which its journal waits.
    """
    patience = int(PATIENCE * 1000)
    answers = False
    try:
        with client.connect(settings, serverSelectionTimeoutMS=patience, connectTimeoutMS=patience) as connection:
            version = connection.server_info()["version"]
            connection.get_database(settings.database.db).command("ping")
            answers = True
            with pymongo.timeout(PATIENCE):
                reports.put(client.system_database(connection, settings), "health")
    except PyMongoError as error:
        return Health(False, f"it takes no writes: {_one_line(error)}" if answers else _one_line(error))
    return Health(True, f"MongoDB {version}")


def kafka(settings: Settings, started: float = 0.0) -> Health:
    """Whether Kafka answers."""
    quiet = logging.getLogger("kowalski.kafka.health")
    quiet.addHandler(logging.NullHandler())
    quiet.propagate = False  # the answer says all
    admin = AdminClient(client_config(settings, logger=quiet))
    try:
        found = admin.list_topics(timeout=PATIENCE)
    except KafkaException as error:
        return Health(False, error.args[0].str())
    topics = [name for name in found.topics if not name.startswith("__")]
    return Health(True, f"{len(topics)} topics")


def scheduler(settings: Settings, started: float = 0.0) -> Health:
    """Whether the Dask scheduler answers."""
    identity = _identity(settings.dask.address)
    if identity is None:
        return Health(False, f"no answer at {settings.dask.address}")
    return Health(True, "")


def workers(settings: Settings, started: float = 0.0) -> Health:
    """Whether at least one worker is registered with the scheduler."""
    identity = _identity(settings.dask.address)
    if identity is None:
        return Health(False, "the scheduler does not answer")
    count = len(identity["workers"])
    if not settings.dask.is_embedded:
        return Health(count > 0, f"{count} registered")
    return Health(count > 0, f"{count} of {settings.dask.workers} registered")


def api(settings: Settings, started: float = 0.0) -> Health:
    """Whether the API answers and reaches its database."""
    url = f"http://{local_address(settings)}/readyz"
    try:
        answer = httpx.get(url, timeout=PATIENCE, trust_env=False)
    except httpx.HTTPError as error:
        return Health(False, f"no answer from {url}: {_one_line(error)}")
    return Health(answer.status_code == httpx.codes.OK, f"HTTP {answer.status_code}")


def local_address(settings: Settings) -> str:
    """Where the API is reached from this machine: an address that means "all" stands for loopback, too."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    host = everywhere.get(settings.server.host)
    return bind_address(settings) if host is None else f"{host}:{settings.server.port}"


def watching(name: str) -> Check:
    """Make the check of a watcher: one that waits for a server that is away does its work, and says so."""

    def tell(report: dict[str, Any]) -> str:
        if report.get("trouble"):
            return f"waits: {report['trouble']}"
        last = report.get("last_pass")
        return str(report["doing"] if last is None or report["doing"] != "waiting" else last["summary"])

    return reporting(f"watcher:{name}", tell)


def reporting(service: str, tell: Callable[[dict[str, Any]], str] | None = None) -> Check:
    """Make the check of a service that reports to MongoDB under the name ``service``.

    Parameters
    ----------
    tell
        Says of a fresh report what is to be shown; without it, how old the report is.
    """

    def check(settings: Settings, started: float) -> Health:
        patience = int(PATIENCE * 1000)
        try:
            with client.connect(settings, serverSelectionTimeoutMS=patience) as connection:
                found = reports.read(client.system_database(connection, settings), service)
        except PyMongoError as error:
            return Health(False, _one_line(error))
        if not found or found[0]["at"].replace(tzinfo=UTC).timestamp() < started:
            return Health(False, "has not reported yet")
        age = datetime.now(UTC) - found[0]["at"].replace(tzinfo=UTC)
        if age < -FRESH:
            return Health(False, "has reported when it was later than now: a clock was set")
        seconds = int(age.total_seconds())
        is_fresh = age < FRESH
        return Health(is_fresh, tell(found[0]) if tell is not None and is_fresh else f"reported {seconds} s ago")

    return check


def _identity(address: str) -> dict[str, Any] | None:
    """Ask a scheduler who it is and which workers it has; None when it doesn't answer."""
    from distributed.core import rpc  # a second to import, and only some commands need it

    async def ask() -> dict[str, Any]:
        remote_at: Any = rpc  # distributed is not typed
        async with remote_at(address, timeout=PATIENCE) as remote:
            return dict(await asyncio.wait_for(remote.identity(n_workers=-1), PATIENCE))

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # that it doesn't answer is said by the caller
    try:
        return asyncio.run(ask())
    except (OSError, TimeoutError):
        return None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.partition(", Timeout:")[0]  # PyMongo goes on with the whole topology
