"""Auto-follow-up: which request stands for which, and exactly one of them whatever happens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kowalski.archive.rules import Request
from kowalski.config import Settings
from kowalski.skyportal.followups import counts, in_order, matches, to_improve
from kowalski.skyportal.payloads import FollowupRequest, SourceGroup
from kowalski.testing.courier import running, until
from kowalski.testing.skyportal import Fault, shapes

OBJECT = "ZTF20aaelulu"
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SAVED: dict[str, Any] = {"comment": None, "ignore_group_ids": [], "saver_id": None}


def wanted(priority: float = 2, **changes: Any) -> Request:
    payload = changes.pop("payload", {"observation_type": "IFU"}) | {"priority": priority}
    facts = {"allocation_id": 5, "payload": payload, "priority_key": "priority", "target_group_ids": [1]}
    return Request.model_validate(facts | changes)


def there(priority: Any = 2, **changes: Any) -> FollowupRequest:
    payload = changes.pop("payload", {"observation_type": "IFU", "priority": priority, "start_date": "2026"})
    facts = {"id": 1, "obj_id": OBJECT, "allocation_id": 5, "status": "submitted", "payload": payload}
    return FollowupRequest.model_validate(facts | {"target_groups": [SourceGroup(id=1)]} | changes)


@pytest.mark.parametrize(
    ("status", "hours", "expected"),
    [
        ("submitted", 0, True),
        ("pending submission", 0, True),
        ("Completed", 1000, True),
        ("deleted", 1000, True),
        ("failed to submit: no route", 11, True),
        ("failed to submit: no route", 13, False),
        ("rejected", 0, False),
    ],
)
def test_which_requests_count(status: str, hours: float, expected: bool) -> None:
    modified = (NOW - timedelta(hours=hours)).replace(tzinfo=None)
    assert counts(there(status=status, modified=modified), NOW) is expected


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ({}, {}, True),
        ({}, {"allocation_id": 6}, False),
        ({"target_group_ids": [2, 3]}, {"target_groups": [SourceGroup(id=3)]}, True),
        ({"target_group_ids": [2]}, {"target_groups": [SourceGroup(id=3)]}, False),
        ({"target_group_ids": []}, {"target_groups": []}, True),
        ({"target_group_ids": [1]}, {"target_groups": []}, False),
        ({"payload": {"filters": ["g"]}}, {"payload": {"filters": ["g"], "exposures": 1}}, True),
        ({"payload": {"filters": ["g"]}}, {"payload": {"filters": ["r"]}}, False),
        ({"payload": {"advanced": 1, "urgency": 9}}, {"payload": {"Urgency": 3}}, True),
        ({"payload": {"observation_type": "IFU"}}, {"payload": {"observation_type": "4-shot+IFU"}}, True),
        ({"payload": {"observation_type": "4-shot (ugri)"}}, {"payload": {"observation_type": "3-shot (gri)"}}, False),
        ({"payload": {"observation_type": "3-shot (gri)"}}, {"payload": {"observation_type": "4-shot (ugri)"}}, True),
        (
            {"payload": {"observation_type": "Mix 'n Match", "observation_choices": ["IFU", "u"]}},
            {"payload": {"observation_type": "4-shot+IFU"}},
            True,
        ),
        (
            {"payload": {"observation_type": "IFU"}},
            {"payload": {"observation_type": "Mix 'n Match", "observation_choices": ["r"]}},
            False,
        ),
        ({"payload": {"observation_type": "Spectroscopy"}}, {"payload": {"observation_type": "Imaging"}}, False),
    ],
)
def test_when_one_request_stands_for_another(ours: dict[str, Any], theirs: dict[str, Any], expected: bool) -> None:
    assert matches(wanted(**ours), there(**theirs)) is expected


@pytest.mark.parametrize(
    ("order", "ours", "theirs", "improves"),
    [
        ("asc", 3, 2, True),
        ("asc", 2, 2, False),
        ("asc", 1, 2, False),
        ("desc", 1, 2, True),
        ("desc", 2, 2, False),
        ("desc", 3, 2, False),
        ("asc", 3, "2", True),
        ("asc", 3, None, False),
    ],
)
def test_a_better_priority_improves_a_request(order: str, ours: float, theirs: Any, improves: bool) -> None:
    asked = wanted(ours, priority_order=order)
    assert (to_improve(asked, [there(theirs)]) is not None) is improves
    assert to_improve(asked, [there(theirs, status="completed")]) is None
    assert to_improve(wanted(ours, priority_order=order, implements_update=False), [there(theirs)]) is None


def test_the_most_urgent_request_is_the_one_that_counts() -> None:
    requests = [there(1, id=1), there(4, id=2), there(2, id=3)]
    assert to_improve(wanted(3), requests) is None
    best = to_improve(wanted(5), requests)
    assert best is not None
    assert best.id == 2


def test_order() -> None:
    requests = {
        "a": wanted(1),
        "b": wanted(3),
        "c": wanted(4, priority_order="desc"),
        "d": wanted(2, priority_order="desc"),
    }
    assert [key for key, _ in in_order(requests)] == ["d", "c", "b", "a"]


def asking(filter_id: int, priority: float = 2, *, group: int = 1, **changes: Any) -> dict[str, Any]:
    """What a pass of a filter of ``group`` says."""
    facts = {"comment": f"please (priority: {priority})", "target_group_ids": [group]} | changes
    request = wanted(priority, **facts)
    return {"filter_id": filter_id, "group_id": group, "autosave": SAVED, "followup": request.model_dump()}


async def deliver(settings: Settings, archive: Any) -> None:
    async with running(settings):
        await until(archive.all_are("delivered", "failed"))


def put(archive: Any, candid: int, *passes: dict[str, Any], name: str = OBJECT, **changes: Any) -> None:
    packet = archive.packet(candid, name, 2459000.5 + candid, **changes)
    archive.both(packet, *[archive.a_pass(**one) for one in passes])


def requests(fake: Any) -> list[tuple[int, Any, str]]:
    return [(one["id"], one["payload"]["priority"], one["status"]) for one in fake.requests]


def comments(fake: Any) -> list[str]:
    return [each["text"] for each in fake.memory.comments]


def outcome(archive: Any, candid: int) -> dict[str, str]:
    document = archive.outbox.find_one({"_id.candid": candid})
    return {key: one["outcome"] for key, one in document["followups"].items()}


async def test_two_passes_at_once_make_one_request(settings: Settings, archive: Any, fake: Any) -> None:
    both = {"target_group_ids": [1, 2]}
    put(archive, 1, asking(1, 2, **both), asking(2, 3, group=2, **both))
    await deliver(settings, archive)
    assert archive.states() == {1: "delivered"}
    assert requests(fake) == [(1, 3, "submitted")]
    assert outcome(archive, 1) == {"1:1": "exists", "2:2": "created"}
    assert comments(fake) == ["please (priority: 3)"]
    (made,) = fake.requests
    assert [group["id"] for group in made["target_groups"]] == [1, 2]


async def test_a_later_pass_improves_or_leaves_it(settings: Settings, archive: Any, fake: Any) -> None:
    steps = [
        (asking(1, 3), (3, "created")),
        (asking(2, 4, implements_update=False), (3, "exists")),
        (asking(3, 4), (4, "updated")),
        (asking(4, 1), (4, "exists")),
        (asking(5, 1, priority_order="desc"), (1, "updated")),
        (asking(6, 2, target_group_ids=[1, 7]), (2, "updated")),
    ]
    for candid, (one, (priority, expected)) in enumerate(steps, 1):
        put(archive, candid, one)
        await deliver(settings, archive)
        assert requests(fake) == [(1, priority, "submitted")]
        assert set(outcome(archive, candid).values()) == {expected}
    assert comments(fake) == ["please (priority: 3)"]


@pytest.mark.parametrize("status", ["deleted", "completed", "failed to submit: clouds"])
async def test_what_is_over_is_not_asked_for_again(settings: Settings, archive: Any, fake: Any, status: str) -> None:
    put(archive, 1, asking(1, 3))
    await deliver(settings, archive)
    fake.set_status(1, status)
    put(archive, 2, asking(1, 4))
    await deliver(settings, archive)
    assert requests(fake) == [(1, 3, status)]
    assert f"{OBJECT}|1" in fake.memory.sources


async def test_what_failed_last_night_is_asked_for_again(settings: Settings, archive: Any, fake: Any) -> None:
    put(archive, 1, asking(1, 3))
    await deliver(settings, archive)
    fake.set_status(1, "failed to submit", datetime.now(UTC) - timedelta(hours=13))
    put(archive, 2, asking(1, 4))
    await deliver(settings, archive)
    assert requests(fake) == [(1, 3, "failed to submit"), (2, 4, "submitted")]


@pytest.mark.parametrize("facts", [{"classified": True}, {"spectra": True}, {"tns_name": "SN 2020oi"}])
async def test_conditions_are_skyportals(settings: Settings, archive: Any, fake: Any, facts: dict[str, Any]) -> None:
    fake.memory.add_facts(OBJECT, shapes.Facts(**facts))
    put(archive, 1, asking(1))
    await deliver(settings, archive)
    assert archive.states() == {1: "delivered"}
    assert requests(fake) == []
    assert comments(fake) == []
    (one,) = archive.outbox.find_one()["followups"].values()
    assert one["outcome"] == "ignored"
    assert "not submitting" in one["reason"]


async def test_an_object_that_was_not_saved_is_not_followed_up(settings: Settings, archive: Any, fake: Any) -> None:
    fake.memory.add_source(shapes.Source(id=OBJECT, ra=185.7, dec=15.8, group_ids=[9]))
    one = asking(1, ignore_source_group_ids=[9])
    put(archive, 1, one | {"autosave": SAVED | {"ignore_group_ids": [9]}})
    await deliver(settings, archive)
    assert set(fake.memory.sources) == {f"{OBJECT}|9"}
    assert requests(fake) == []


async def test_a_refused_request_loses_nothing_else(settings: Settings, archive: Any, fake: Any) -> None:
    put(archive, 1, asking(1, allocation_id=5000), asking(2))
    await deliver(settings, archive)
    document = archive.outbox.find_one()
    assert document["state"] == "failed"
    assert set(document["refused"]) == {"followup:1:1"}
    assert "Could not find allocation with ID 5000" in document["error"]
    assert [each["filter_id"] for each in fake.memory.candidates] == [1, 2]
    assert requests(fake) == [(1, 2, "submitted")]


async def test_a_request_whose_time_is_over_is_not_made(settings: Settings, archive: Any, fake: Any) -> None:
    put(archive, 1, asking(1, ends_at=datetime.now(UTC) - timedelta(minutes=1)))
    await deliver(settings, archive)
    assert requests(fake) == []
    assert outcome(archive, 1) == {"1:1": "expired"}


async def test_a_lost_answer(settings: Settings, archive: Any, fake: Any) -> None:
    fake.fail(Fault(method="POST", path="/api/followup_request", drop=True, times=1))
    put(archive, 1, asking(1))
    await deliver(settings, archive)
    assert requests(fake) == [(1, 2, "submitted")]
    assert outcome(archive, 1) == {"1:1": "created"}
    assert comments(fake) == ["please (priority: 2)"]
    assert fake.memory.calls["POST /api/followup_request"] == 1


async def test_a_request_that_arrives_late(settings: Settings, archive: Any, fake: Any) -> None:
    """The call times out here, and is carried out there a while later: it is not made again in between."""
    fake.fail(Fault(method="POST", path="/api/followup_request", delay=1.5, times=1))
    put(archive, 1, asking(1))
    await deliver(settings, archive)
    assert requests(fake) == [(1, 2, "submitted")]
    assert fake.memory.calls["POST /api/followup_request"] == 1
    assert comments(fake) == ["please (priority: 2)"]


@pytest.mark.parametrize("fault", [Fault(status=429, times=2), Fault(status=500, times=1), Fault(status=503, times=2)])
async def test_a_request_that_skyportal_could_not_take(
    settings: Settings, archive: Any, fake: Any, fault: Fault
) -> None:
    fake.fail(fault.model_copy(update={"method": "POST", "path": "/api/followup_request"}))
    put(archive, 1, asking(1))
    await deliver(settings, archive)
    assert requests(fake) == [(1, 2, "submitted")]


async def test_objects_at_one_place_get_one_request(settings: Settings, archive: Any, fake: Any) -> None:
    """Two lanes at the same time, two objects that are one to SkyPortal."""
    fake.fail(Fault(path="/api/followup_request", delay=0.1))
    for candid in range(1, 7):
        put(archive, candid, asking(1), name=f"object {candid}")
    await deliver(settings, archive)
    assert len(fake.requests) == 1
    assert sorted(outcome(archive, candid)["1:1"] for candid in range(1, 7)) == ["created"] + ["ignored"] * 5
