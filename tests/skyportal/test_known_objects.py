"""Objects that SkyPortal has get new photometry whether a filter passes or not, and nobody asks for each alert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kowalski.archive import known_objects, names
from kowalski.archive.client import async_system_database, connect_async
from kowalski.broker.batch import Batch, Packet, Work
from kowalski.broker.context import WorkerContext
from kowalski.broker.stages.handover import hand_over
from kowalski.config import Settings
from kowalski.courier.errors import TryAgain
from kowalski.skyportal.client import SkyPortal
from kowalski.skyportal.reconciliation import Reconciler
from kowalski.surveys import get
from kowalski.testing.courier import running, until
from kowalski.testing.skyportal import Fault

pytestmark = pytest.mark.usefixtures("fake")


@asynccontextmanager
async def reconciler(settings: Settings) -> AsyncIterator[Reconciler]:
    client = SkyPortal(settings.skyportal)
    async with connect_async(settings) as connection:
        yield Reconciler(client, async_system_database(connection, settings), 600.0)
    await client.aclose()


def known(archive: Any) -> set[str]:
    return {document["_id"] for document in archive.system[names.KNOWN_OBJECTS].find()}


async def deliver_all(settings: Settings, archive: Any) -> None:
    async with running(settings):
        await until(archive.all_are("delivered", "failed"))


def save(fake: Any, *object_ids: str, at: datetime | None = None) -> None:
    """Somebody saves sources by hand."""
    moment = (at or datetime.now(UTC)).replace(tzinfo=None).isoformat()
    for name in object_ids:
        fake.memory.positions[name] = (1.0, 2.0)
        fake.memory.sources[f"{name}|1"] = {"saved_by": 1}
        fake.memory.saved_at[name] = moment


def test_only_alerts_of_known_objects_are_handed_over_without_a_pass(settings: Settings, archive: Any) -> None:
    settings.ml.of("ZTF").models.clear()
    settings.database.xmatch["ZTF"] = {}
    survey = get("ZTF")
    context = WorkerContext.open(settings, survey)
    archive.system[names.KNOWN_OBJECTS].insert_one({"_id": "ZTF20aaelulu"})
    packets = [archive.packet(1), archive.packet(2, "ZTF20another"), archive.packet(3, "ZTF20another")]
    for packet in packets:
        archive.store(packet)
    works = [Work(Packet("t", 0, i, 0, b""), survey.shape(packet)) for i, packet in enumerate(packets)]
    works[2].passes = [archive.a_pass(5)]
    for _ in range(2):  # a batch may come again
        hand_over(Batch(survey, works), context)
    found = {each["_id"]["candid"]: each for each in archive.outbox.find()}
    assert {candid: (each["state"], list(each["passes"])) for candid, each in found.items()} == {
        1: ("pending", []),
        3: ("pending", ["1:5"]),
    }
    settings.skyportal.enabled = False
    archive.outbox.delete_many({})
    hand_over(Batch(survey, works[:1]), context)
    assert archive.outbox.count_documents({}) == 0


async def test_photometry_without_a_pass_reaches_skyportal(settings: Settings, archive: Any, fake: Any) -> None:
    archive.both(archive.packet(1, jd=2459000.5))
    await deliver_all(settings, archive)
    assert known(archive) == {"ZTF20aaelulu"}
    posted, pictures = len(fake.memory.photometry), dict(fake.memory.thumbnail_posts)
    packet = archive.packet(2, jd=2459001.5)
    archive.store(packet)
    archive.hand_over_photometry(packet)
    await deliver_all(settings, archive)
    assert archive.states() == {1: "delivered", 2: "delivered"}
    assert len(fake.memory.photometry) == posted + 1
    assert len(fake.memory.candidates) == 1
    assert dict(fake.memory.thumbnail_posts) == pictures


async def test_an_object_that_skyportal_no_longer_has_is_forgotten(settings: Settings, archive: Any, fake: Any) -> None:
    archive.system[names.KNOWN_OBJECTS].insert_one({"_id": "ZTF20aaelulu"})
    packet = archive.packet(1)
    archive.store(packet)
    archive.hand_over_photometry(packet)
    await deliver_all(settings, archive)
    assert archive.states() == {1: "delivered"}
    assert not known(archive)
    assert not fake.memory.photometry


async def test_sources_of_others_are_found_page_by_page_then_only_new_ones(
    settings: Settings, archive: Any, fake: Any
) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=100)
    save(fake, *(f"ZTF19{number:06d}" for number in range(1200)), at=long_ago)
    async with reconciler(settings) as found:
        await found.look_through()
        assert len(known(archive)) == 1200
        assert fake.memory.calls["GET /api/sources"] == 3
        save(fake, "ZTF20aaelulu")
        await found.look_through()
        assert len(known(archive)) == 1201
        assert fake.memory.calls["GET /api/sources"] == 4
    summary = known_objects.summary(archive.system)
    assert summary["objects"] == 1201
    assert datetime.now(UTC) - summary["looked_through"] < timedelta(minutes=5)


async def test_sources_are_looked_through_anew_where_a_clock_was_wrong(
    settings: Settings, archive: Any, fake: Any
) -> None:
    async with reconciler(settings) as found:
        await known_objects.look_through(found._system, datetime.now(UTC) + timedelta(days=1))
        save(fake, "ZTF20aaelulu", at=datetime.now(UTC) - timedelta(hours=1))
        await found.look_through()
    assert known(archive) == {"ZTF20aaelulu"}
    assert known_objects.summary(archive.system)["looked_through"] <= datetime.now(UTC)


async def test_an_interrupted_look_begins_where_it_did(settings: Settings, archive: Any, fake: Any) -> None:
    save(fake, "ZTF20aaelulu", at=datetime.now(UTC) - timedelta(days=100))
    async with reconciler(settings) as found:
        fake.fail(Fault(path="/api/sources", status=502))
        with pytest.raises(TryAgain):
            await found.look_through()
        assert known_objects.summary(archive.system) == {"objects": 0, "looked_through": None}
        fake.fail()
        await found.look_through()
        assert known(archive) == {"ZTF20aaelulu"}


async def test_the_courier_looks_by_itself(settings: Settings, archive: Any, fake: Any) -> None:
    save(fake, "ZTF20aaelulu")
    async with running(settings):
        await until(lambda: bool(known(archive)))
    assert known(archive) == {"ZTF20aaelulu"}
