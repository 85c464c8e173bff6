from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from distributed import Scheduler, Worker
from pymongo import MongoClient

from kowalski.archive import client, names, reports
from kowalski.config import Settings
from kowalski.runtime import health
from kowalski.testing import services


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE", 1.0)


@pytest.fixture
def nowhere() -> Settings:
    """An instance of which nothing runs."""
    settings = Settings()
    ports = services.free_ports(4)
    settings.server.port, settings.database.port, settings.kafka.port, settings.dask.scheduler_port = ports
    return settings


@pytest.mark.parametrize("check", [health.mongodb, health.kafka, health.scheduler, health.workers, health.api])
def test_who_does_not_answer_is_not_well(nowhere: Settings, check: health.Check) -> None:
    found = check(nowhere, 0.0)
    assert not found.ok
    assert found.detail
    assert "\n" not in found.detail


def test_mongodb_answers(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> None:
    assert health.mongodb(settings).ok


def test_mongodb_that_does_not_let_us_in(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> None:
    other = settings.model_copy(deep=True)
    other.database.password = "not it"
    found = health.mongodb(other)
    assert not found.ok
    assert "Authentication failed" in found.detail


def test_mongodb_that_takes_no_writes(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> None:
    with client.connect(settings, client.Role.ADMIN) as admin:
        admin.admin.command("fsync", lock=True)
        try:
            found = health.mongodb(settings)
        finally:
            admin.admin.command("fsyncUnlock")
    assert not found.ok
    assert found.detail.startswith("it takes no writes: ")
    assert health.mongodb(settings).ok


def test_kafka_answers(settings: Settings, kafka: str) -> None:
    assert health.kafka(settings).ok


async def test_scheduler_and_workers(nowhere: Settings) -> None:
    port = nowhere.dask.scheduler_port
    nowhere.dask.n_workers = 2
    async with Scheduler(host="127.0.0.1", port=port, dashboard=False) as scheduler:
        assert (await asyncio.to_thread(health.scheduler, nowhere)).ok
        found = await asyncio.to_thread(health.workers, nowhere)
        assert found == health.Health(False, "0 of 2 registered")
        async with Worker(scheduler.address, dashboard=False):
            found = await asyncio.to_thread(health.workers, nowhere)
            assert found == health.Health(True, "1 of 2 registered")
            nowhere.dask.scheduler_address = scheduler.address
            assert (await asyncio.to_thread(health.workers, nowhere)).detail == "1 registered"


@pytest.mark.parametrize(("status", "ok"), [(200, True), (503, False)])
async def test_the_api_answers(nowhere: Settings, status: int, ok: bool) -> None:
    async def readyz(_: web.Request) -> web.Response:
        return web.json_response({}, status=status)

    app = web.Application()
    app.router.add_get("/readyz", readyz)
    async with TestServer(app, host="127.0.0.1") as server:
        assert server.port is not None
        nowhere.server.port = server.port
        found = await asyncio.to_thread(health.api, nowhere)
    assert found == health.Health(ok, f"HTTP {status}")


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1:4000"),
        ("0.0.0.0", "127.0.0.1:4000"),
        ("::", "[::1]:4000"),
        ("fe80::1", "[fe80::1]:4000"),
    ],
)
def test_where_the_api_is_asked(host: str, address: str) -> None:
    settings = Settings()
    settings.server.host = host
    assert health.local_address(settings) == address


def test_a_service_that_reports(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> None:
    system = client.system_database(mongo, settings)
    check = health.reporting("broker:ZTF")
    assert not check(settings, 0.0).ok
    reports.put(system, "broker:ZTF", paused=False)
    reports.put(system, "broker:OTHER")
    assert check(settings, 0.0).ok
    assert not check(settings, time.time() + 1.0).ok  # it has been started since
    to_come = datetime.now(UTC) + timedelta(days=1)
    system[names.REPORTS].update_one({"_id": "broker:ZTF"}, {"$set": {"at": to_come}})
    assert not check(settings, 0.0).ok  # it may have ended before the clock was set
    old = datetime.now(UTC) - 2 * health.FRESH
    system[names.REPORTS].update_one({"_id": "broker:ZTF"}, {"$set": {"at": old}})
    found = check(settings, 0.0)
    assert not found.ok
    assert found.detail == f"reported {int(2 * health.FRESH / timedelta(seconds=1))} s ago"
