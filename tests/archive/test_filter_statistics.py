"""Counting how filters do: many workers at once, and a database that is away for a while."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from kowalski.archive import filter_statistics
from kowalski.archive.client import Role, async_system_database, connect, connect_async, system_database
from kowalski.archive.filter_statistics import Statistics
from kowalski.config import Settings


async def test_workers_add_up(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> None:
    system = system_database(mongo, settings)

    def work() -> None:
        statistics = Statistics()
        for _ in range(5):
            statistics.count((1, "abcdef"), 10, 2, 1.5)
            statistics.count((1, "abcdef"), 10, 0, None)
            statistics.write(system)

    await asyncio.gather(*(asyncio.to_thread(work) for _ in range(4)))
    filter_statistics.add_error(system, (1, "abcdef"), "failed: it")
    filter_statistics.add_error(system, (1, "ghijkl"), "failed: at once")
    async with connect_async(settings, Role.WRITER) as client:
        found = await filter_statistics.of_filter(async_system_database(client, settings), 1)
        known = found["abcdef"]
        assert (known["alerts"], known["passes"], known["pass_rate"]) == (400, 40, 0.1)
        assert (known["ms_per_alert"], known["errors"], known["last_error"]) == (0.15, 1, "failed: it")
        unknown = found["ghijkl"]
        assert (unknown["alerts"], unknown["pass_rate"], unknown["ms_per_alert"], unknown["errors"]) == (
            0,
            None,
            None,
            1,
        )
        await filter_statistics.remove(async_system_database(client, settings), 1)
        assert await filter_statistics.of_filter(async_system_database(client, settings), 1) == {}


def test_what_could_not_be_written_is_kept(settings: Settings, mongo: MongoClient[dict[str, Any]]) -> None:
    statistics = Statistics()
    statistics.count((1, "abcdef"), 10, 2, None)
    with connect(settings, Role.WRITER) as closed:
        gone = system_database(closed, settings)
    with pytest.raises(PyMongoError):
        statistics.write(gone)
    statistics.count((1, "abcdef"), 5, 1, None)
    system = system_database(mongo, settings)
    statistics.write(system)
    (found,) = system["filter_statistics"].find()
    assert (found["alerts"], found["passes"]) == (15, 3)
