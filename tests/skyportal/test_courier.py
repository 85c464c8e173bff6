"""The courier between a real MongoDB and the fake SkyPortal: once each, in order, through whatever happens."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import ConnectionFailure

from kowalski.archive import outbox, reports
from kowalski.archive.client import async_system_database, connect_async
from kowalski.archive.queue import Queue
from kowalski.config import Settings
from kowalski.courier.courier import main
from kowalski.courier.lease import Lease
from kowalski.monitoring import gathered
from kowalski.testing import services
from kowalski.testing.courier import running, until
from kowalski.testing.skyportal import Fault, shapes


async def deliver_all(settings: Settings, archive: Any) -> None:
    async with running(settings):
        await until(archive.all_are("delivered", "failed"))


def each_once(fake: Any) -> bool:
    keys = Counter((each["passing_alert_id"], each["filter_id"]) for each in fake.memory.candidates)
    return set(keys.values()) <= {1}


async def test_all_of_a_new_object(settings: Settings, archive: Any, fake: Any) -> None:
    packet = archive.packet(7, jd=2459000.5)
    earlier = archive.candidate(5, 2458999.5)
    limit = {"jd": 2458990.5, "fid": 2, "programid": 2, "diffmaglim": 20.1}
    forced = {"jd": 2458980.5, "fid": 1, "procstatus": "0", "diffmaglim": 20.0, "magzpsci": 26.0, "programid": 3}
    forced |= {"forcediffimflux": 400.0, "forcediffimfluxunc": 40.0, "alert_ra": 185.7, "alert_dec": 15.8}
    archive.store(packet, {"prv_candidates": [earlier, limit], "fp_hists": [forced]})
    archive.store(archive.packet(5, jd=2458999.5))  # in the history already
    archive.store(archive.packet(6, jd=2458999.9))  # not yet
    archive.hand_over(packet, archive.a_pass(1), archive.a_pass(2, annotations={}), archive.a_pass(3, 9))
    await deliver_all(settings, archive)
    memory = fake.memory
    assert archive.states() == {7: "delivered"}
    assert {each["filter_id"] for each in memory.candidates} == {1, 2, 3}
    assert {each["passed_at"] for each in memory.candidates} == {
        archive.outbox.find_one()["created_at"].isoformat(timespec="milliseconds") + "007"  # candid 7
    }
    assert {(each["id"], each["score"], each["origin"]) for each in memory.candidates} == {
        ("ZTF20aaelulu", 0.97, "Kowalski")
    }
    assert memory.calls["POST /api/candidates"] == 1
    assert {key: each["data"] for key, each in memory.annotations.items()} == {
        "ZTF20aaelulu|group 1:filter 1": {"age": 3.5},
        "ZTF20aaelulu|group 9:filter 3": {"age": 3.5},
    }
    points = sorted((each["mjd"], each["stream_ids"], each["origin"]) for each in memory.photometry.values())
    assert points == [
        (58980.0, [3], "alert_fp"),
        (58990.0, [2], None),
        (58999.0, [1], None),
        (pytest.approx(58999.4), [1], None),
        (59000.0, [1], None),
    ]
    assert memory.thumbnail_posts == {"ZTF20aaelulu|new": 1, "ZTF20aaelulu|ref": 1, "ZTF20aaelulu|sub": 1}


async def test_an_object_that_skyportal_has(settings: Settings, archive: Any, fake: Any) -> None:
    for candid, age in ((1, 3.5), (2, 4.5)):
        note = {"annotations": {"age": age}}
        archive.both(
            archive.packet(candid, jd=2459000.5 + candid),
            archive.a_pass(1, **note),
            archive.a_pass(2, update_annotations=True, **note),
        )
    await deliver_all(settings, archive)
    assert [each["passing_alert_id"] for each in fake.memory.candidates] == [1, 1, 2, 2]
    ages = {each["origin"]: each["data"]["age"] for each in fake.memory.annotations.values()}
    assert ages == {"group 1:filter 1": 3.5, "group 1:filter 2": 4.5}
    assert set(fake.memory.thumbnail_posts.values()) == {1}
    assert {each["mjd"] for each in fake.memory.photometry.values()} == {59001.0, 59002.0}


async def test_an_alert_without_stamps_or_with_damaged_ones(settings: Settings, archive: Any, fake: Any) -> None:
    packet = archive.packet(1)
    packet |= {"cutoutScience": None, "cutoutTemplate": {"fileName": "x", "stampData": b"\x1f\x8bdamaged"}}
    archive.both(packet)
    await deliver_all(settings, archive)
    assert archive.states() == {1: "delivered"}
    assert list(fake.memory.thumbnail_posts) == ["ZTF20aaelulu|sub"]


async def test_alerts_of_an_object_go_in_order_of_time(settings: Settings, archive: Any, fake: Any) -> None:
    fake.fail(Fault(probability=0.15, status=500), Fault(method="POST", probability=0.15, drop=True))
    jds = list(range(12))
    random.Random(3).shuffle(jds)
    for jd in jds:
        for name in ("A", "B", "C"):
            archive.both(archive.packet(100 * ord(name) + jd, name, 2459000.5 + jd))
    await deliver_all(settings, archive)
    for name in ("A", "B", "C"):
        order = [each["passing_alert_id"] for each in fake.memory.candidates if each["id"] == name]
        assert order == sorted(order)
        assert len(order) == 12
    assert each_once(fake)


async def test_alerts_of_an_object_that_pass_at_the_same_moment(settings: Settings, archive: Any, fake: Any) -> None:
    now = datetime.now(UTC)
    for candid in (1, 2, 3):
        packet = archive.packet(candid, jd=2459000.5 + candid)
        archive.store(packet)
        archive.hand_over(packet, now=now)
    await deliver_all(settings, archive)
    assert [each["passing_alert_id"] for each in fake.memory.candidates] == [1, 2, 3]


async def test_a_later_pass_of_the_same_alert(settings: Settings, archive: Any, fake: Any) -> None:
    packet = archive.packet(1)
    archive.both(packet)
    async with running(settings):
        await until(archive.all_are("delivered"))
        archive.hand_over(packet, archive.a_pass(1), archive.a_pass(2), now=datetime.now(UTC) + timedelta(hours=-1))
        await until(lambda: len(fake.memory.candidates) == 2)
        await until(archive.all_are("delivered"))
    assert [each["filter_id"] for each in fake.memory.candidates] == [1, 2]
    assert fake.memory.calls["PUT /api/photometry"] == 1
    assert set(fake.memory.thumbnail_posts.values()) == {1}


async def test_an_outage_loses_nothing_and_shows(settings: Settings, archive: Any, fake: Any, mongo: Any) -> None:
    await fake.stop()
    for candid in range(20):
        archive.both(archive.packet(candid, f"object {candid}"))
    async with running(settings):
        await until(lambda: any(each.get("last_error") for each in reports.read(archive.system, "courier")))
        (report,) = reports.read(archive.system, "courier")
        assert (report["backlog"], report["failed"], report["away"]) == (20, 0, True)
        assert report["oldest_seconds"] > 0.0
        await fake.start()
        await until(archive.all_are("delivered"))
    (report,) = reports.read(archive.system, "courier")
    assert (report["backlog"], report["delivered"], report["oldest"]) == (0, 20, None)
    assert len(fake.memory.candidates) == 20


async def test_skyportal_restarts_with_its_state(settings: Settings, archive: Any, fake: Any) -> None:
    settings.skyportal.lanes = 3
    for candid in range(30):
        archive.both(archive.packet(candid, f"object {candid % 10}", 2459000.5 + candid))
    async with running(settings):
        for count in (5, 12, 20):
            await until(lambda wanted=count: len(fake.memory.candidates) >= wanted)
            await fake.stop()
            await fake.start()
        await until(archive.all_are("delivered"))
    assert each_once(fake)
    assert len(fake.memory.candidates) == 30
    assert len(fake.memory.photometry) == 30


@pytest.mark.parametrize(
    "path", ["/api/candidates", "/api/sources/.*/annotations", "/api/photometry", "/api/thumbnail"]
)
async def test_a_lost_answer_of_any_call(settings: Settings, archive: Any, fake: Any, path: str) -> None:
    fake.fail(Fault(method="POST|PUT", path=path, drop=True, times=1))
    archive.both(archive.packet(1), archive.a_pass(1), archive.a_pass(2), archive.a_pass(3))
    await deliver_all(settings, archive)
    assert archive.states() == {1: "delivered"}
    assert [each["filter_id"] for each in fake.memory.candidates] == [1, 2, 3]
    assert len(fake.memory.annotations) == 3
    assert len(fake.memory.photometry) == 1
    assert len(fake.memory.thumbnails) == 3


async def test_skyportal_asks_to_wait(settings: Settings, archive: Any, fake: Any) -> None:
    fake.fail(Fault(method="POST", path="/api/candidates", status=429, retry_after=1, times=1))
    for candid in range(4):
        archive.both(archive.packet(candid, f"object {candid}"))
    await deliver_all(settings, archive)
    assert len(fake.memory.candidates) == 4


async def test_a_filter_that_is_gone_does_not_keep_others_out(settings: Settings, archive: Any, fake: Any) -> None:
    fake.memory.add_group(shapes.Group(id=5, name="g", filters={}))
    archive.both(archive.packet(1), archive.a_pass(1), archive.a_pass(2, 5))
    await deliver_all(settings, archive)
    document = archive.outbox.find_one()
    assert (document["state"], document["error"]) == ("failed", "group 5 has no filter 2")
    assert document["refused"] == {"annotation:5:2": "group 5 has no filter 2"}
    assert "ZTF20aaelulu|group 1:filter 1" in fake.memory.annotations
    assert len(fake.memory.thumbnails) == 3


async def test_a_refused_candidate_fails_alone(settings: Settings, archive: Any, fake: Any) -> None:
    fake.fail(Fault(method="POST", path="/api/candidates", status=400, times=2))  # all filters together, then filter 1
    archive.both(archive.packet(1), archive.a_pass(1), archive.a_pass(2))
    archive.both(archive.packet(2, "another"))
    settings.skyportal.lanes = 1
    await deliver_all(settings, archive)
    assert archive.states() == {1: "failed", 2: "delivered"}
    assert [(each["passing_alert_id"], each["filter_id"]) for each in fake.memory.candidates] == [(1, 2), (2, 1)]
    assert set(archive.outbox.find_one({"_id.candid": 1})["refused"]) == {"candidate:1:1"}


@pytest.mark.parametrize("path", ["/api/candidates", "/api/sources/.*/annotations", "/api/sources/.*/groups"])
async def test_a_look_up_that_is_refused_fails_one_document(
    settings: Settings, archive: Any, fake: Any, path: str
) -> None:
    fake.fail(Fault(method="HEAD|GET", path=path, status=403, times=1))
    settings.skyportal.lanes = 1
    saving = {"comment": None, "ignore_group_ids": [], "saver_id": None}
    archive.both(archive.packet(1), archive.a_pass(1, autosave=saving))
    archive.both(archive.packet(2, "another"), archive.a_pass(1, autosave=saving))
    await deliver_all(settings, archive)
    assert archive.states() == {1: "failed", 2: "delivered"}
    assert "403" in archive.outbox.find_one({"_id.candid": 1})["error"]
    outbox.retry(archive.outbox, [outbox.identity("ZTF", 1)], datetime.now(UTC))
    await deliver_all(settings, archive)
    assert archive.states() == {1: "delivered", 2: "delivered"}
    assert len(fake.memory.sources) == 2


async def test_an_object_that_skyportal_refuses_gets_no_further_calls(
    settings: Settings, archive: Any, fake: Any
) -> None:
    fake.fail(Fault(method="POST", path="/api/candidates", status=400))
    archive.both(archive.packet(1))
    await deliver_all(settings, archive)
    assert archive.states() == {1: "failed"}
    asked = set(fake.memory.calls) - {"GET /api/sources"}  # which is not about this object
    assert asked == {"HEAD /api/candidates/{obj_id}", "HEAD /api/sources/{obj_id}"}


async def test_content_that_makes_no_call_fails_alone(settings: Settings, archive: Any, fake: Any) -> None:
    archive.both(archive.packet(1))
    archive.outbox.update_one({}, {"$set": {"ra": "east"}})
    archive.both(archive.packet(2, jd=2459001.5))
    await deliver_all(settings, archive)
    assert archive.states() == {1: "failed", 2: "delivered"}
    assert "it can't be delivered" in archive.outbox.find_one({"_id.candid": 1})["error"]


async def test_what_skyportal_lacks_for_a_survey_holds_up_nothing_else(
    settings: Settings, archive: Any, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kowalski.skyportal.directory.MISSING", 0.3)
    with monkeypatch.context() as patched:
        patched.setattr("kowalski.testing.skyportal.app.INSTRUMENTS", ("Hubble",))
        archive.both(archive.packet(1))
        for candid in range(2, 12):
            archive.both(archive.packet(candid, f"object {candid}"))
        archive.outbox.update_many({"_id.candid": {"$gt": 1}}, {"$set": {"photometry": None}})  # needs no instrument
        async with running(settings):
            await until(lambda: sorted(archive.states().values()) == ["delivered"] * 10 + ["pending"])
            waiting = archive.outbox.find_one({"_id.candid": 1})
            assert (waiting["error"], waiting["attempts"]) == ("SkyPortal has no instrument ZTF", 0)
    await deliver_all(settings, archive)
    assert set(archive.states().values()) == {"delivered"}
    assert len(fake.memory.photometry) == 1


@pytest.mark.parametrize("hours", [1, 24])
async def test_a_clock_that_was_wrong_delays_nothing(settings: Settings, archive: Any, fake: Any, hours: int) -> None:
    """The one that handed it over was ahead, and so was the courier when it noted when to try again."""
    wrong = datetime.now(UTC) + timedelta(hours=hours, seconds=1)
    for candid in (1, 2):
        archive.both(archive.packet(candid, jd=2459000.5 + candid))
    change = {"next_attempt_at": wrong, "created_at": wrong, "attempts": 1}
    archive.outbox.update_one({"_id.candid": 1}, {"$set": change})
    fake.fail(Fault(method="POST", path="/api/candidates", status=500, times=1))
    await deliver_all(settings, archive)
    assert archive.states() == {1: "delivered", 2: "delivered"}
    assert each_once(fake)


async def test_who_waits_is_told_anew_when_clocks_are_right(settings: Settings, archive: Any) -> None:
    for candid in (1, 2):
        archive.both(archive.packet(candid, jd=2459000.5 + candid))
    now = datetime.now(UTC).replace(microsecond=0)
    moments = {1: now + timedelta(days=1), 2: now + timedelta(seconds=60)}
    for candid, moment in moments.items():
        archive.outbox.update_one({"_id.candid": candid}, {"$set": {"next_attempt_at": moment}})
    async with connect_async(settings) as client:
        queue = Queue(async_system_database(client, settings))
        (first,) = await queue.due(now, (), 5)
        assert first["_id"]["candid"] == 1
        await queue.postpone(first, now + timedelta(seconds=30), "again")
        assert await queue.due(now, (), 5) == []
    found = {one["_id"]["candid"]: one["next_attempt_at"].replace(tzinfo=UTC) - now for one in archive.outbox.find()}
    assert found == {1: timedelta(seconds=30), 2: timedelta(seconds=60)}


async def test_a_second_courier_waits_for_the_first(settings: Settings, archive: Any, fake: Any) -> None:
    async with connect_async(settings) as client:
        other = Lease(async_system_database(client, settings), "skyportal")
        other._me["host"] = "elsewhere"
        assert await other.hold()
        archive.both(archive.packet(1))
        async with running(settings):
            told = "another courier is at work: process"
            await until(lambda: told in str(reports.read(archive.system, "courier")))
            assert fake.memory.candidates == []
            await other.release()
            await until(archive.all_are("delivered"))
    assert len(fake.memory.candidates) == 1


async def test_what_was_kept_is_not_delivered(settings: Settings, archive: Any, fake: Any) -> None:
    packet = archive.packet(1)
    archive.both(packet, archive.a_pass(1))
    archive.outbox.update_one({}, {"$set": {"passes.1:1.deliver": False, "state": "kept"}})
    archive.hand_over(packet, archive.a_pass(2))
    async with running(settings):
        await until(archive.all_are("delivered"))
    assert [each["filter_id"] for each in fake.memory.candidates] == [2]


async def test_stopping_finishes_the_call_at_hand(settings: Settings, archive: Any, fake: Any) -> None:
    fake.fail(Fault(method="POST", path="/api/candidates", delay=0.5))
    archive.both(archive.packet(1))
    async with running(settings) as courier:
        await until(lambda: fake.memory.calls["POST /api/candidates"] == 1)
        courier.stop()
    document = archive.outbox.find_one()
    assert (document["state"], document["steps"], document["attempts"]) == ("pending", ["candidate:1:1"], 0)
    fake.fail()
    await deliver_all(settings, archive)
    assert fake.memory.calls["POST /api/candidates"] == 1


def process(settings: Settings, tmp_path: Path) -> services.Process:
    code = "from kowalski import config; from kowalski.courier.courier import main; main(config.load().settings)"
    return services.Process(
        "courier", [sys.executable, "-c", code], services.environment(settings), tmp_path / "courier.log"
    )


@pytest.mark.faults
async def test_metrics_tell_size_and_age_of_the_outbox(
    settings: Settings, archive: Any, fake: Any, tmp_path: Path
) -> None:
    archive.both(archive.packet(1, "delivered"))
    archive.both(archive.packet(2, "failed"), archive.a_pass(1, 5000))
    await deliver_all(settings, archive)
    fake.fail(Fault(status=503))
    archive.both(archive.packet(3, "pending"))

    def shown() -> dict[str, float]:
        lines = gathered.text(gathered.gather(settings, archive.system)).decode().splitlines()
        found = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in found}

    child = process(settings, tmp_path)
    child.start()
    try:
        await until(lambda: shown().get('kowalski_outlet_away{outlet="skyportal",service="courier"}') == 1.0)
        assert shown()['kowalski_outbox_documents{outlet="skyportal",state="pending"}'] == 1.0
        assert shown()['kowalski_outbox_documents{outlet="skyportal",state="failed"}'] == 1.0
        assert shown()['kowalski_outbox_oldest_seconds{outlet="skyportal"}'] > 0.0
        labels = 'call="HEAD candidates",outcome="TryAgain",outlet="skyportal",service="courier"'
        refused = f"kowalski_outlet_calls_total{{{labels}}}"
        assert shown()[refused] >= 1.0
        fake.fail()
        await until(lambda: shown().get('kowalski_outbox_documents{outlet="skyportal",state="pending"}') == 0.0)
        delivered = 'kowalski_outbox_delivered_total{outlet="skyportal",service="courier"}'
        await until(lambda: shown().get(delivered) == 1.0)
        assert shown()['kowalski_outbox_oldest_seconds{outlet="skyportal"}'] == 0.0
    finally:
        await asyncio.to_thread(child.stop)


@pytest.mark.faults
async def test_sigterm_ends_it_in_good_order(settings: Settings, archive: Any, fake: Any, tmp_path: Path) -> None:
    child = process(settings, tmp_path)
    child.start()
    try:
        await until(lambda: bool(reports.read(archive.system, "courier")))
        archive.both(archive.packet(1))
        await until(archive.all_are("delivered"))
        os.kill(child.pid, signal.SIGTERM)
        await until(lambda: not child.is_running)
    finally:
        await asyncio.to_thread(child.stop)
    (report,) = reports.read(archive.system, "courier")  # written as the last thing
    assert (report["backlog"], report["delivered"]) == (0, 1)


def is_there(archive: Any) -> bool:
    try:
        archive.outbox.find_one()
    except ConnectionFailure:
        return False
    return True


@pytest.mark.faults
async def test_mongodb_is_killed_meanwhile(settings: Settings, archive: Any, fake: Any, servers: Any) -> None:
    fake.fail(Fault(delay=0.02))
    for candid in range(40):
        archive.both(archive.packet(candid, f"object {candid % 10}", 2459000.5 + candid))
    async with running(settings):
        await until(lambda: len(fake.memory.candidates) >= 10)
        await asyncio.to_thread(servers.mongod.kill)
        await asyncio.sleep(1.0)
        servers.mongod.start()
        await until(lambda: is_there(archive))
        await until(archive.all_are("delivered"))
    assert each_once(fake)
    assert len(fake.memory.candidates) == 40
    assert len(fake.memory.photometry) == 40


def test_without_skyportal_there_is_nothing_to_do(settings: Settings) -> None:
    settings.skyportal.enabled = False
    main(settings)
