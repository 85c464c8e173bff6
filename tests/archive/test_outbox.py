"""The outbox on a real MongoDB: whatever is repeated, in whatever order, nothing changes and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.collection import Collection

from kowalski.archive import names, outbox
from kowalski.archive.client import async_system_database, connect_async, system_database
from kowalski.archive.outbox import State
from kowalski.archive.queue import Queue
from kowalski.config import Settings
from kowalski.surveys.base import Alert, Stamps

NOW = datetime(2026, 3, 1, 4, 5, 6, 789123, tzinfo=UTC)
Document = dict[str, Any]


def alert(candid: int = 1, object_id: str = "ZTF20aaelulu", jd: float = 2459000.5, **candidate: Any) -> Alert:
    document = {"candid": candid, "objectId": object_id, "candidate": {"rb": 0.6, "drb": 0.9, **candidate}}
    return Alert(candid, object_id, jd, 185.7, 15.8, document, {}, Stamps(None, None, None), frozenset())


def passed(filter_id: int = 1, group_id: int = 1, **changes: Any) -> Document:
    return {
        "group_id": group_id,
        "filter_id": filter_id,
        "fid": "abc123",
        "permissions": [1],
        "update_annotations": False,
        "annotations": {"note": "young"},
        "autosave": None,
        "followup": None,
        "troubles": {},
    } | changes


def put(box: Collection[Document], *passes: Document, now: datetime = NOW, **changes: Any) -> int:
    """Write passes as the broker does; returns how many documents were made or changed."""
    given_alert = changes.pop("alert", alert())
    options: Document = {"kafka_timestamp": 1_700_000_000_000, "deliver": True, "keep_days": 30} | changes
    result = box.bulk_write([outbox.upsert("ZTF", given_alert, passes, now=now, **options)])
    return int(result.modified_count + result.upserted_count)


@pytest.fixture
def box(mongo: MongoClient[Document], settings: Settings) -> Iterator[Collection[Document]]:
    system = system_database(mongo, settings)
    outbox.ensure_indexes(system)
    return system[names.OUTBOX]


def test_a_document_says_all_that_is_known_of_the_alert(box: Collection[Document]) -> None:
    put(box, passed(7, 3))
    document = box.find_one({"_id": outbox.identity("ZTF", 1)})
    moment = NOW.replace(microsecond=789000, tzinfo=None)
    assert document == {
        "_id": {"survey": "ZTF", "candid": 1},
        "objectId": "ZTF20aaelulu",
        "jd": 2459000.5,
        "ra": 185.7,
        "dec": 15.8,
        "score": 0.9,
        "kafka_timestamp": 1_700_000_000_000,
        "created_at": moment,
        "state": "pending",
        "passes": {"3:7": passed(7, 3) | {"passed_at": moment, "deliver": True}},
        "photometry": None,
        "steps": [],
        "refused": {},
        "intents": {},
        "attempts": 0,
        "next_attempt_at": moment,
        "error": None,
    }


@pytest.mark.parametrize(("candidate", "score"), [({}, 0.9), ({"drb": None}, 0.6), ({"drb": None, "rb": None}, None)])
def test_score_is_drb_or_rb(candidate: Document, score: float | None) -> None:
    assert outbox.score_of(alert(**candidate).document) == score


def test_a_redelivered_batch_changes_nothing(box: Collection[Document]) -> None:
    put(box, passed(1), passed(2))
    before = box.find_one()
    again = alert(jd=1.0, drb=0.1)
    later = passed(2, annotations={"note": "changed"})
    assert put(box, later, passed(1), now=NOW + timedelta(hours=1), alert=again, kafka_timestamp=5) == 0
    assert box.find_one() == before


def test_a_new_pass_reopens_a_delivered_document(box: Collection[Document]) -> None:
    put(box, passed(1))
    done = {"state": State.DELIVERED.value, "steps": ["candidate:1:1"], "expires_at": NOW, "attempts": 4}
    box.update_one({}, {"$set": done})
    put(box, passed(1), passed(2), now=NOW + timedelta(hours=1))
    document = box.find_one() or {}
    assert document["state"] == "pending"
    assert document["steps"] == ["candidate:1:1"]
    assert "expires_at" not in document
    assert document["passes"]["1:2"]["passed_at"] - document["passes"]["1:1"]["passed_at"] == timedelta(hours=1)


@pytest.mark.parametrize("state", list(State))
def test_known_passes_leave_the_state_alone(box: Collection[Document], state: State) -> None:
    put(box, passed(1))
    box.update_one({}, {"$set": {"state": state.value}})
    assert put(box, passed(1), now=NOW + timedelta(days=1)) == 0


def test_what_passes_while_skyportal_is_off_is_kept_and_never_delivered(box: Collection[Document]) -> None:
    put(box, passed(1), deliver=False)
    document = box.find_one() or {}
    assert (document["state"], document["passes"]["1:1"]["deliver"]) == ("kept", False)
    assert document["expires_at"] == NOW.replace(microsecond=789000, tzinfo=None) + timedelta(days=30)
    put(box, passed(1), now=NOW + timedelta(hours=1))  # SkyPortal is on again and the batch comes once more
    assert (box.find_one() or {})["state"] == "kept"
    put(box, passed(2), now=NOW + timedelta(hours=2))
    document = box.find_one() or {}
    assert document["state"] == "pending"
    assert [each["deliver"] for each in document["passes"].values()] == [False, True]


def test_a_light_curve_is_kept_only_where_it_is_to_be_delivered(box: Collection[Document]) -> None:
    def held() -> Any:
        return (box.find_one() or {})["photometry"]

    put(box, passed(1), deliver=False, photometry={"since": 1.0})
    assert held() is None
    put(box, passed(2), photometry={"since": 2.0})
    assert held() == {"since": 2.0}
    put(box, passed(1), passed(2), photometry={"since": 3.0})
    put(box, passed(3), photometry={"since": 3.0})
    assert held() == {"since": 2.0}
    put(box, alert=alert(2), photometry={"since": 4.0})
    assert (box.find_one({"_id.candid": 2}) or {})["photometry"] == {"since": 4.0}


def test_a_pass_while_skyportal_is_off_does_not_hold_up_others(box: Collection[Document]) -> None:
    put(box, passed(1))
    put(box, passed(2), deliver=False)
    document = box.find_one() or {}
    assert (document["state"], len(document["passes"]), "expires_at" in document) == ("pending", 2, False)


def test_annotations_are_content_not_expressions(box: Collection[Document]) -> None:
    odd = {"$add": [1, 2], "a.b": "$objectId", "deep": {"$literal": 1, "x": ["$$ROOT"]}, "none": None}
    put(box, passed(1, annotations=odd))
    put(box, passed(1, annotations=odd))
    assert (box.find_one() or {})["passes"]["1:1"]["annotations"] == odd


def test_a_pass_without_one_of_its_fields_is_a_mistake() -> None:
    incomplete = passed(1)
    del incomplete["permissions"]
    with pytest.raises(KeyError, match="permissions"):
        outbox.upsert("ZTF", alert(), [incomplete], kafka_timestamp=0, now=NOW, deliver=True, keep_days=1)


batches = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=4)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=batches, repeats=st.lists(st.integers(0, 3), max_size=4))
def test_repeating_batches_leaves_what_running_them_once_leaves(
    box: Collection[Document], batches: list[list[int]], repeats: list[int]
) -> None:
    box.delete_many({})
    for number, filters in enumerate(batches):
        put(box, *map(passed, filters), now=NOW + timedelta(seconds=number))
    once = box.find_one()
    for number in repeats:
        assert put(box, *map(passed, batches[number % len(batches)]), now=NOW + timedelta(days=number + 1)) == 0
    assert box.find_one() == once
    first = {str(one): min(at for at, filters in enumerate(batches) if one in filters) for one in {*chain(*batches)}}
    moment = NOW.replace(microsecond=789000, tzinfo=None)
    found = {key: (one["passed_at"] - moment).seconds for key, one in (once or {})["passes"].items()}
    assert found == {f"1:{one}": at for one, at in first.items()}


def test_counts(mongo: MongoClient[Document], settings: Settings, box: Collection[Document]) -> None:
    system = system_database(mongo, settings)
    assert outbox.counts(system) == {"pending": 0, "delivered": 0, "failed": 0, "kept": 0, "dropped": 0, "oldest": None}
    put(box, passed(1), alert=alert(1))
    put(box, passed(1), alert=alert(2), now=NOW - timedelta(days=1))
    put(box, passed(1), alert=alert(3), deliver=False, now=NOW - timedelta(days=2))
    found = outbox.counts(system)
    assert (found["pending"], found["kept"]) == (2, 1)
    assert found["oldest"] == NOW.replace(microsecond=789000) - timedelta(days=1)


def test_indexes_serve_the_courier_and_the_clean_up(box: Collection[Document]) -> None:
    ready = {"state": "pending", "next_attempt_at": {"$lte": NOW}}
    lane = {"_id.survey": "ZTF", "objectId": "A", "state": "pending"}
    order = [("jd", 1), ("created_at", 1)]
    plans = [box.find(ready).sort("next_attempt_at"), box.find(lane).sort(order), box.find({"state": "failed"})]
    for plan in plans:
        winner = str(plan.explain()["queryPlanner"]["winningPlan"])
        assert "IXSCAN" in winner
        assert "'SORT'" not in winner
    assert box.index_information()["expires_at"]["expireAfterSeconds"] == 0


class TestQueue:
    """What the courier sees."""

    async def due(
        self, settings: Settings, now: datetime = NOW, busy: tuple[str, ...] = (), wanted: int = 10
    ) -> list[int]:
        async with connect_async(settings) as client:
            queue = Queue(async_system_database(client, settings))
            return [document["_id"]["candid"] for document in await queue.due(now, busy, wanted)]

    async def test_first_of_each_object_by_jd(self, settings: Settings, box: Collection[Document]) -> None:
        put(box, passed(), alert=alert(1, "A", jd=3.0), now=NOW - timedelta(hours=3))
        put(box, passed(), alert=alert(2, "A", jd=1.0), now=NOW - timedelta(hours=1))
        put(box, passed(), alert=alert(3, "B", jd=9.0), now=NOW - timedelta(hours=2))
        assert await self.due(settings) == [2, 3]
        assert await self.due(settings, wanted=1) == [2]
        assert await self.due(settings, busy=("A",)) == [3]

    async def test_nothing_overtakes_the_first(self, settings: Settings, box: Collection[Document]) -> None:
        put(box, passed(), alert=alert(1, "A", jd=1.0))
        put(box, passed(), alert=alert(2, "A", jd=2.0))
        async with connect_async(settings) as client:
            queue = Queue(async_system_database(client, settings))
            (first,) = await queue.due(NOW, (), 5)
            await queue.postpone(first, NOW + timedelta(seconds=30), "away")
            put(box, passed(), alert=alert(3, "A", jd=3.0), now=NOW + timedelta(seconds=1))
            assert await queue.due(NOW + timedelta(seconds=2), (), 5) == []
            (again,) = await queue.due(NOW + timedelta(seconds=31), (), 5)
            assert (again["_id"]["candid"], again["attempts"], again["error"]) == (1, 1, "away")

    async def test_a_pass_that_comes_meanwhile_keeps_the_document_open(
        self, settings: Settings, box: Collection[Document]
    ) -> None:
        put(box, passed(1))
        async with connect_async(settings) as client:
            queue = Queue(async_system_database(client, settings))
            (document,) = await queue.due(NOW, (), 1)
            await queue.record(document["_id"], ["candidate:1:1"], known=False)
            put(box, passed(2))
            assert not await queue.finish(document, {}, NOW, 30)
            (document,) = await queue.due(NOW, (), 1)
            assert (document["steps"], document["known"]) == (["candidate:1:1"], False)
            assert await queue.finish(document, {}, NOW, 30)
        stored = box.find_one() or {}
        assert stored["state"] == "delivered"
        assert stored["expires_at"] - stored["delivered_at"] == timedelta(days=30)

    async def test_a_refusal_is_kept_for_someone_to_look_at(
        self, settings: Settings, box: Collection[Document]
    ) -> None:
        put(box, passed(1))
        async with connect_async(settings) as client:
            queue = Queue(async_system_database(client, settings))
            (document,) = await queue.due(NOW, (), 1)
            await queue.refuse(document["_id"], "annotation:1:1", "$400: no such group")
            await queue.finish(document, {"annotation:1:1": "$400: no such group"}, NOW, 30)
            assert (await queue.backlog())["failed"] == 1
        stored = box.find_one() or {}
        assert (stored["state"], stored["error"]) == ("failed", "$400: no such group")
        assert stored["refused"] == {"annotation:1:1": "$400: no such group"}
        assert "expires_at" not in stored
