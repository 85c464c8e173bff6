"""A crash at every point of a delivery: whichever call it follows, the next attempt leaves what one attempt leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from pymongo.asynchronous.database import AsyncDatabase

from kowalski.archive import outbox
from kowalski.archive.client import Document, async_data_database, async_system_database, connect_async
from kowalski.archive.queue import Queue
from kowalski.config import Settings
from kowalski.courier.progress import Desk, Progress
from kowalski.skyportal.client import SkyPortal
from kowalski.skyportal.delivery import Delivery, Tools
from kowalski.skyportal.directory import Directory
from kowalski.skyportal.followups import allocations
from kowalski.skyportal.material import Material
from kowalski.skyportal.outlet import SkyPortalOutlet

SAVED = {"comment": "saved", "ignore_group_ids": [], "saver_id": None}
FOLLOWUP = {
    "allocation_id": 5,
    "payload": {"observation_type": "IFU", "priority": 3},
    "priority_key": "priority",
    "comment": "asked",
    "target_group_ids": [1],
}
CRASHES = range(26)
"""More than a delivery writes."""


class Crash(BaseException):
    """The process is gone."""


class Frail(Queue):
    """An outbox whose user dies at its n-th write: just before it, or just after."""

    def __init__(self, system: AsyncDatabase[Document], deadly: int, *, after: bool) -> None:
        super().__init__(system)
        self._left, self._after = deadly, after

    async def _survive(self, write: Any) -> None:
        self._left -= 1
        if self._left == 0 and not self._after:
            write.close()
            raise Crash
        await write
        if self._left == 0:
            raise Crash

    async def record(self, *given: Any, **fields: Any) -> None:
        await self._survive(super().record(*given, **fields))

    async def intend(self, *given: Any) -> None:
        await self._survive(super().intend(*given))


@pytest.fixture
async def databases(settings: Settings, archive: Any) -> AsyncIterator[tuple[Any, Any]]:
    async with connect_async(settings) as client:
        yield async_data_database(client, settings), async_system_database(client, settings)


def put(archive: Any, number: int, candid: int) -> Document:
    packet = archive.packet(candid, f"object {number}", 2459000.5 + candid % 2, ra=10.0 + number)
    one = archive.a_pass(1, 1, update_annotations=True, autosave=SAVED, followup=FOLLOWUP)
    other = archive.a_pass(2, 2, autosave=SAVED | {"ignore_group_ids": [1]})
    archive.both(packet, one, other)
    return outbox.identity("ZTF", candid)


def progress(desk: Desk, archive: Any, identity: Document) -> Progress:
    return Progress(desk, archive.outbox.find_one({"_id": identity}), answered=lambda: None)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_at_any_point(
    archive: Any, fake: Any, skyportal: SkyPortal, databases: tuple[Any, Any], after: bool
) -> None:
    data, system = databases
    tools = Tools(skyportal, Directory(skyportal), Material(data), allocations(), system)
    crashes = 0
    for number in CRASHES:
        for candid in (2 * number, 2 * number + 1):  # first of its object, then of one that SkyPortal has
            identity = put(archive, number, candid)
            frail = Desk(Frail(system, number + 1, after=after), lambda: False, settle=0.0)
            try:
                await Delivery(tools, progress(frail, archive, identity)).run()
            except Crash:
                crashes += 1
            desk = Desk(Queue(system), lambda: False, settle=0.0)
            delivery = Delivery(tools, progress(desk, archive, identity))
            await delivery.run()
            assert delivery.refused == {}
    assert 15 < crashes < 2 * len(CRASHES)  # every write of both kinds of delivery was a deadly one
    check(fake, {f"object {number}" for number in CRASHES})


def check(fake: Any, names: set[str]) -> None:
    memory = fake.memory
    posted = Counter((each["passing_alert_id"], each["filter_id"]) for each in memory.candidates)
    assert posted == {(candid, number): 1 for candid in range(2 * len(CRASHES)) for number in (1, 2)}
    updates = {key: one["updates"] for key, one in memory.annotations.items()}
    assert set(updates) == {f"{name}|group {number}:filter {number}" for name in names for number in (1, 2)}
    assert set(memory.thumbnails) == {f"{name}|{ttype}" for name in names for ttype in ("new", "ref", "sub")}
    assert Counter(each["obj_id"] for each in memory.photometry.values()) == dict.fromkeys(names, 2)
    assert {key for key in memory.sources if key.endswith("|1")} == {f"{name}|1" for name in names}
    comments = Counter((each["obj_id"], each["text"], each["groups"][0]["id"]) for each in memory.comments)
    ours = {key: count for key, count in comments.items() if key[2] == 1}
    assert ours == {(name, text, 1): 1 for name in names for text in ("saved", "asked")}
    assert Counter(one["obj_id"] for one in fake.requests) == dict.fromkeys(names, 1)


async def test_a_delivery_that_is_done_makes_no_calls(
    settings: Settings, archive: Any, fake: Any, databases: tuple[Any, Any]
) -> None:
    outlet = SkyPortalOutlet(settings.skyportal, *databases, stopping=lambda: False)
    identity = put(archive, 1, 1)
    answers: list[None] = []
    await outlet.deliver(archive.outbox.find_one({"_id": identity}), lambda: answers.append(None))
    assert answers
    calls = Counter(fake.memory.calls)
    document = archive.outbox.find_one({"_id": identity})
    answers.clear()
    assert await outlet.deliver(document, lambda: answers.append(None)) == {}
    assert not answers
    assert fake.memory.calls == calls
    assert document["steps"][:2] == ["candidate:1:1", "candidate:2:2"]
    assert document["created_at"] < datetime.now(UTC).replace(tzinfo=None)
    await outlet.aclose()
