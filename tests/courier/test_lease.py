from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive import names
from kowalski.archive.client import async_system_database, connect_async
from kowalski.config import Settings
from kowalski.courier.lease import Lease

Document = dict[str, Any]


@pytest.fixture
async def system(settings: Settings, mongo: MongoClient[Document]) -> AsyncIterator[AsyncDatabase[Document]]:
    async with connect_async(settings) as client:
        yield async_system_database(client, settings)


def elsewhere(system: AsyncDatabase[Document], seconds: float = 60.0) -> Lease:
    """The lease of a courier on another machine, a new one each time."""
    lease = Lease(system, "skyportal", seconds)
    lease._me["host"] = f"machine {lease._me['token']}"
    return lease


async def test_one_at_a_time(system: AsyncDatabase[Document]) -> None:
    mine, other = Lease(system, "skyportal"), elsewhere(system)
    assert not mine.is_held
    assert await mine.hold()
    assert await mine.hold()
    assert mine.is_held
    assert not await other.hold()
    assert other.holder == f"process {os.getpid()} on {mine._me['host']}"
    assert await elsewhere(system).hold() is False
    assert await Lease(system, "kafka").hold()
    await mine.release()
    assert not mine.is_held
    assert await other.hold()
    assert not await mine.hold()


async def test_only_one_of_many_at_once_gets_it(system: AsyncDatabase[Document]) -> None:
    couriers = [elsewhere(system) for _ in range(8)]
    assert sum(await asyncio.gather(*(one.hold() for one in couriers))) == 1


async def test_it_ends_unless_it_is_renewed(system: AsyncDatabase[Document]) -> None:
    mine, other = Lease(system, "skyportal"), elsewhere(system, seconds=0.1)
    assert await other.hold()
    async with asyncio.timeout(30):
        while not await mine.hold():
            await asyncio.sleep(0.02)
    assert not other.is_held


async def test_it_lasts_as_long_as_it_is_renewed_whatever_clocks_say(system: AsyncDatabase[Document]) -> None:
    mine, other = Lease(system, "skyportal"), elsewhere(system, seconds=60.0)
    assert await other.hold()
    assert not await mine.hold()
    renewal, since = mine._seen
    mine._seen = (renewal, since - 61.0)  # so long ago it was seen
    assert await other.hold()
    assert not await mine.hold()
    mine._seen = (mine._seen[0], since - 61.0)
    assert await mine.hold()
    assert not await other.hold()


async def test_nobody_waits_for_a_process_that_is_gone(system: AsyncDatabase[Document]) -> None:
    lost = Lease(system, "skyportal", 3600.0)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        lost._me["pid"] = child.pid
        assert await lost.hold()
        mine = Lease(system, "skyportal")
        assert not await mine.hold()
    finally:
        child.kill()
        child.communicate()
    assert await mine.hold()
    assert (await system[names.LEASES].find_one({}) or {})["owner"]["pid"] == os.getpid()
