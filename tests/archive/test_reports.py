"""Reports of services on a real MongoDB."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from kowalski.archive import client, names, reports
from kowalski.config import Settings


@pytest.fixture
def system(mongo: MongoClient[dict[str, Any]], settings: Settings) -> Database[dict[str, Any]]:
    return client.system_database(mongo, settings)


def test_a_report_replaces_the_one_before(system: Database[dict[str, Any]]) -> None:
    reports.put(system, "worker:tcp://127.0.0.1:1", models={"braai": "d6_m9"}, missing=["x"])
    reports.put(system, "worker:tcp://127.0.0.1:1", models={})
    (found,) = reports.read(system, "worker")
    assert found.pop("at") is not None
    assert found == {"_id": "worker:tcp://127.0.0.1:1", "models": {}}


async def test_reports_may_be_written_from_asyncio(system: Database[dict[str, Any]], settings: Settings) -> None:
    async with client.connect_async(settings) as connection:
        await reports.put_async(client.async_system_database(connection, settings), "courier", backlog=3)
    (found,) = reports.read(system, "courier")
    assert found["backlog"] == 3


def test_recent_reports_of_a_kind_newest_first(system: Database[dict[str, Any]]) -> None:
    for number, service in enumerate(("broker", "broker:ZTF", "brokers", "courier", "broker:OTHER", "broker:gone")):
        reports.put(system, service)
        age = 2 * reports.STALE if service == "broker:gone" else -reports.STALE * number / 100
        system[names.REPORTS].update_one({"_id": service}, {"$set": {"at": datetime.now(UTC) - age}})
    assert [found["_id"] for found in reports.read(system, "broker")] == ["broker:OTHER", "broker:ZTF", "broker"]
    assert reports.read(system, "worker") == []
