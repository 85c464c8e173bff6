"""Autosave: once per group, with its comment, as the groups wish, through lost answers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kowalski.archive import outbox
from kowalski.config import Settings
from kowalski.testing.courier import running, until
from kowalski.testing.skyportal import Fault, shapes

OBJECT = "ZTF20aaelulu"


def saving(**changes: Any) -> dict[str, Any]:
    return {"comment": None, "ignore_group_ids": [], "saver_id": None} | changes


async def deliver_all(settings: Settings, archive: Any) -> None:
    async with running(settings):
        await until(archive.all_are("delivered", "failed"))


def texts(fake: Any) -> list[tuple[str, list[int]]]:
    return [(each["text"], [group["id"] for group in each["groups"]]) for each in fake.memory.comments]


async def test_an_object_is_saved_to_the_groups_of_its_filters(settings: Settings, archive: Any, fake: Any) -> None:
    archive.both(
        archive.packet(1),
        archive.a_pass(1, 1, autosave=saving(comment="one")),
        archive.a_pass(2, 2, autosave=saving(saver_id=7)),
        archive.a_pass(3, 3),
        archive.a_pass(4, 1, autosave=saving(comment="four")),
    )
    await deliver_all(settings, archive)
    assert fake.memory.sources == {f"{OBJECT}|1": {"saved_by": 1}, f"{OBJECT}|2": {"saved_by": 7}}
    assert texts(fake) == [("one", [1]), ("four", [1])]
    assert fake.memory.calls["POST /api/sources"] == 1


async def test_who_has_it_already_gets_neither_source_nor_comment(settings: Settings, archive: Any, fake: Any) -> None:
    for candid in (1, 2):
        jd = 2459000.5 + candid
        one = archive.a_pass(1, 1, autosave=saving(comment="one"))
        archive.both(archive.packet(candid, jd=jd), one, *[archive.a_pass(2, 2, autosave=saving())] * (candid - 1))
    await deliver_all(settings, archive)
    assert set(fake.memory.sources) == {f"{OBJECT}|1", f"{OBJECT}|2"}
    assert texts(fake) == [("one", [1])]
    saved = archive.outbox.find_one({"_id.candid": 2})
    assert (saved["saving"], saved["saved"]) == ([2], [2])


@pytest.mark.parametrize("known", [False, True])
async def test_groups_that_are_ignored(settings: Settings, archive: Any, fake: Any, known: bool) -> None:
    """For new objects as for known ones; another filter of the group may want it all the same."""
    fake.memory.add_source(shapes.Source(id=OBJECT, ra=185.7, dec=15.8, group_ids=[9]))
    if not known:  # it has the position of another survey's object, but no candidate and no source
        fake.memory.sources.clear()
        fake.memory.add_source(shapes.Source(id="other", ra=1.0, dec=1.0, group_ids=[9]))
    archive.both(
        archive.packet(1),
        archive.a_pass(1, 1, autosave=saving(comment="no", ignore_group_ids=[9])),
        archive.a_pass(2, 2, autosave=saving(comment="no", ignore_group_ids=[9])),
        archive.a_pass(3, 2, autosave=saving(comment="yes", ignore_group_ids=[8])),
    )
    await deliver_all(settings, archive)
    mine = {key.partition("|")[2] for key in fake.memory.sources if key.startswith(OBJECT)}
    assert mine == ({"2", "9"} if known else {"1", "2"})


@pytest.mark.parametrize("path", ["/api/sources$", "/api/sources/.*/comments"])
async def test_a_lost_answer(settings: Settings, archive: Any, fake: Any, path: str) -> None:
    fake.fail(Fault(method="POST", path=path, drop=True, times=1))
    archive.both(archive.packet(1), archive.a_pass(1, 1, autosave=saving(comment="one", ignore_group_ids=[2])))
    await deliver_all(settings, archive)
    assert archive.states() == {1: "delivered"}
    assert set(fake.memory.sources) == {f"{OBJECT}|1"}
    assert texts(fake) == [("one", [1])]


async def test_a_comment_that_arrives_late(settings: Settings, archive: Any, fake: Any) -> None:
    """The call times out here, and is carried out there a while later: it is not made again in between."""
    settings.skyportal.settle_seconds = 1.0
    fake.fail(Fault(method="POST", path="/api/sources/.*/comments", delay=1.5, times=1))
    archive.both(archive.packet(1), archive.a_pass(1, 1, autosave=saving(comment="one")))
    await deliver_all(settings, archive)
    assert texts(fake) == [("one", [1])]
    assert fake.memory.calls["POST /api/sources/{obj_id}/comments"] == 1


@pytest.mark.parametrize("days", [1, -1])
async def test_a_comment_whose_beginning_was_noted_by_a_wrong_clock(
    settings: Settings, archive: Any, fake: Any, days: int
) -> None:
    """A courier that is begun anew waits as long as an effect may be on its way, whatever the time was said to be."""
    settings.skyportal.settle_seconds = 0.3
    archive.both(archive.packet(1), archive.a_pass(1, 1, autosave=saving(comment="one")))
    noted = datetime.now(UTC) + timedelta(days=days)
    archive.outbox.update_one({}, {"$set": {"intents": {"comment:1:1": noted}}})
    begun = datetime.now(UTC).replace(tzinfo=None)
    await deliver_all(settings, archive)
    assert texts(fake) == [("one", [1])]
    took = archive.outbox.find_one()["delivered_at"] - begun
    assert took >= timedelta(seconds=2 * settings.skyportal.settle_seconds - 0.01)


async def test_a_group_that_is_gone_does_not_keep_others_out(settings: Settings, archive: Any, fake: Any) -> None:
    archive.both(
        archive.packet(1),
        archive.a_pass(1, 1, autosave=saving(comment="one")),
        archive.a_pass(2, 5000, annotations={}, autosave=saving(comment="two")),
    )
    await deliver_all(settings, archive)
    document = archive.outbox.find_one()
    assert document["state"] == "failed"
    assert set(document["refused"]) == {"save:5000"}
    assert "Cannot find group_id 5000" in document["error"]
    assert set(fake.memory.sources) == {f"{OBJECT}|1"}
    assert texts(fake) == [("one", [1])]


async def test_what_was_refused_is_made_up_for(settings: Settings, archive: Any, fake: Any) -> None:
    archive.both(
        archive.packet(1),
        archive.a_pass(1, 1, autosave=saving(comment="one")),
        archive.a_pass(2, 5000, autosave=saving(comment="two")),
    )
    await deliver_all(settings, archive)
    assert set(archive.outbox.find_one()["refused"]) == {"annotation:5000:2", "save:5000"}
    fake.memory.add_group(shapes.Group(id=5000, name="late", filters={"2": "two"}))
    outbox.retry(archive.outbox, [outbox.identity("ZTF", 1)], datetime.now(UTC))
    await deliver_all(settings, archive)
    assert archive.states() == {1: "delivered"}
    assert set(fake.memory.sources) == {f"{OBJECT}|1", f"{OBJECT}|5000"}
    assert texts(fake) == [("one", [1]), ("two", [5000])]
    assert len(fake.memory.annotations) == 2
    assert len(fake.memory.candidates) == 2
