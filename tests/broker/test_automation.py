"""Autosave and follow-up are decided for each alert that passes; a bad block never costs the pass itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kowalski.archive import filters, names
from kowalski.archive.automation import AutoFollowup
from kowalski.archive.rules import Request
from kowalski.broker.automation import request
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import process

NOW = datetime(2026, 3, 1, 4, 5, 6, 789000, tzinfo=UTC)
CANDIDS = list(range(1, 9))
Block = dict[str, Any]
ALL: list[Block] = [{"$match": {}}]
IFU: Block = {"active": True, "allocation_id": 5, "payload": {"observation_type": "IFU", "priority": "2"}}
EVEN: Block = {"$match": {"$expr": {"$eq": [{"$mod": ["$candid", 2]}, 0]}}}
SLOW: Block = {"$match": {"$expr": {"$gt": [{"$reduce": {
    "input": {"$range": [0, 1_000_000]},
    "initialValue": 0, "in": {"$add": ["$$value", "$candid"]}}}, -1]}}}  # fmt: skip
ODD_FAILS: Block = {"$match": {"$expr": {"$gt": [{"$divide": [1, {"$mod": ["$candid", 2]}]}, 0]}}}


@pytest.fixture
def add(context: WorkerContext) -> Callable[..., None]:
    """Stores active filters that pass everything; they run at once."""

    def store(filter_id: int, autosave: Any = False, auto_followup: Any = None, **changes: Any) -> None:
        version = filters.new_version(json.dumps(ALL))
        document = {
            "filter_id": filter_id, "group_id": 10 * filter_id, "catalog": context.survey.alerts, "permissions": [1],
            "active": True, "autosave": autosave, "auto_followup": auto_followup or {}, "update_annotations": False,
            "active_fid": version["fid"], "fv": [version], **changes,
        }  # fmt: skip
        context.system[names.FILTERS].insert_one(document)
        context.filters._loaded_at = None

    return store


@pytest.fixture
def alerts(context: WorkerContext, packet: Any) -> list[int]:
    packets = [packet(candid, f"ZTF23aaaaaa{candid}", magpsf=17.0 + candid) for candid in CANDIDS]
    assert process(packets, context).alerts == len(CANDIDS)
    return CANDIDS


def decided(context: WorkerContext, candids: list[int], filter_id: int = 1) -> dict[int, Block]:
    """Candid -> the pass of a filter."""
    found = context.filters.run(candids)
    return {candid: one for candid, passes in found.items() for one in passes if one["filter_id"] == filter_id}


NOTHING = {"comment": None, "ignore_group_ids": [], "saver_id": None}


@pytest.mark.parametrize(
    ("autosave", "expected"),
    [
        (False, None),
        (True, NOTHING),
        (None, None),
        ({}, None),
        ({"active": False, "comment": "new"}, None),
        ({"active": True, "comment": "new"}, NOTHING | {"comment": "new"}),
        ({"active": True, "saver_id": 7, "ignore_group_ids": [3]}, NOTHING | {"saver_id": 7, "ignore_group_ids": [3]}),
    ],
)
def test_what_autosave_may_be(
    context: WorkerContext, add: Any, alerts: list[int], autosave: Any, expected: Block | None
) -> None:
    add(1, autosave)
    passes = decided(context, alerts[:2])
    assert [one["autosave"] for one in passes.values()] == [expected] * 2
    assert all(one["followup"] is None and one["troubles"] == {} for one in passes.values())


def test_pipelines_decide_alert_by_alert_and_together(context: WorkerContext, add: Any, alerts: list[int]) -> None:
    bright = [{"$match": {"candidate.magpsf": {"$lt": 21.5}}}]
    faint_ifu = IFU | {
        "pipeline": json.dumps([EVEN, {"$addFields": {"comment": "even", "payload.priority": "$candid"}}])
    }
    add(1, {"active": True, "pipeline": json.dumps(bright)}, faint_ifu)
    add(2, {"active": True, "pipeline": [EVEN, {"$limit": 1}]}, IFU | {"pipeline": ALL, "comment": "all"})
    first, second = decided(context, alerts), decided(context, alerts, 2)
    assert set(first) == set(second) == set(alerts)
    assert {candid for candid, one in first.items() if one["autosave"]} == {1, 2, 3, 4}
    asked = {candid: one["followup"] for candid, one in first.items() if one["followup"]}
    assert {candid: one["payload"]["priority"] for candid, one in asked.items()} == {2: 2, 4: 4}  # 6 and 8: not saved
    assert {one["comment"] for one in asked.values()} == {"even (priority: 2)", "even (priority: 4)"}
    # a pipeline that sees several documents is run for each alert, and means the same
    assert {candid for candid, one in second.items() if one["autosave"]} == {2, 4, 6, 8}
    assert {candid for candid, one in second.items() if one["followup"]} == {2, 4, 6, 8}
    assert second[2]["followup"]["target_group_ids"] == [20]


def test_permissions_hold_for_blocks_too(context: WorkerContext, add: Any, packet: Any, make: Any) -> None:
    rows = [make.detection(2459990.5, candid=100, programid=2)]
    process([packet(1, prv_candidates=rows)], context)
    seen = [{"$match": {"prv_candidates.programid": 2}}]
    add(1, {"active": True, "pipeline": seen})
    add(2, {"active": True, "pipeline": seen}, permissions=[1, 2])
    assert [bool(decided(context, [1], number)[1]["autosave"]) for number in (1, 2)] == [False, True]


@pytest.mark.parametrize(
    ("block", "trouble"),
    [
        (IFU | {"pipeline": ALL, "payload": {}}, "no payload"),
        ({"active": True, "payload": {"priority": 1}}, "no pipeline, allocation_id"),
        (IFU | {"pipeline": []}, "no pipeline"),
        (IFU | {"pipeline": ALL, "payload": {"priority": "high"}}, "priority must be a number"),
        (IFU | {"pipeline": "[{"}, "not valid JSON"),
        (IFU | {"pipeline": ALL, "color": "red"}, "color"),
        (IFU | {"pipeline": ALL, "validity_days": "a week"}, "validity_days"),
        (IFU | {"pipeline": [{"$match": {"$expr": {"$divide": [1, 0]}}}]}, "divide by zero"),
        (IFU | {"pipeline": [{"$addFields": {"payload.priority": "urgent"}}]}, "no request can be made of it"),
        (IFU | {"pipeline": [{"$addFields": {"payload": "urgent"}}]}, "payload is no object"),
        ("observe!", "auto_followup"),
    ],
)
def test_a_bad_follow_up_block_never_loses_the_candidate(
    context: WorkerContext, add: Any, alerts: list[int], block: Any, trouble: str
) -> None:
    add(1, True, block)
    add(2, {"active": True, "comment": "fine"}, IFU | {"pipeline": ALL})
    passes, others = decided(context, alerts), decided(context, alerts, 2)
    assert set(passes) == set(others) == set(alerts)
    assert all(one["autosave"] == NOTHING and one["followup"] is None for one in passes.values())
    assert any(trouble in str(one["troubles"]) for one in passes.values())
    assert all(one["troubles"].keys() == {"auto_followup"} for one in passes.values())
    assert all(one["followup"] and one["troubles"] == {} for one in others.values())
    stored = context.system[names.FILTERS].find_one({"filter_id": 1}) or {}
    assert "suspended" not in stored


def test_a_slow_block_never_loses_the_candidate(context: WorkerContext, add: Any, alerts: list[int]) -> None:
    context.settings.filters.max_time_ms = context.settings.filters.batch_max_time_ms = 50
    add(1, {"active": True, "pipeline": [SLOW]})
    passes = decided(context, alerts)
    assert set(passes) == set(alerts)
    assert all(one["autosave"] is None for one in passes.values())
    assert "took" in passes[1]["troubles"]["autosave"]
    assert "keeps failing" in passes[8]["troubles"]["autosave"]


def test_a_bad_autosave_saves_nothing_and_loses_nothing(context: WorkerContext, add: Any, alerts: list[int]) -> None:
    add(1, {"active": True, "saver_id": "me"}, IFU | {"pipeline": ALL})
    passes = decided(context, alerts)
    assert set(passes) == set(alerts)
    assert all(one["autosave"] is None and one["followup"] is None for one in passes.values())
    assert "saver_id" in passes[1]["troubles"]["autosave"]
    assert passes[1]["troubles"]["auto_followup"] == "it needs an active autosave"


def test_a_block_that_fails_on_some_alerts_works_on_the_others(
    context: WorkerContext, add: Any, alerts: list[int]
) -> None:
    add(1, {"active": True, "pipeline": [ODD_FAILS]})
    passes = decided(context, alerts)
    assert {candid for candid, one in passes.items() if one["autosave"]} == {1, 3, 5, 7}
    assert {candid for candid, one in passes.items() if "autosave" in one["troubles"]} == {2, 4, 6, 8}
    statistics = context.system[names.FILTER_STATISTICS].find_one({"_id.filter_id": 1}) or {}
    assert statistics["errors"] == 4
    assert "autosave: failed" in statistics["last_error"]


def test_a_block_that_keeps_failing_is_left_out_until_it_is_changed(
    context: WorkerContext, add: Any, alerts: list[int]
) -> None:
    add(1, {"active": True, "pipeline": [{"$match": {"$expr": {"$divide": [1, 0]}}}]})
    for _ in range(2):
        assert set(decided(context, alerts)) == set(alerts)
    statistics = context.system[names.FILTER_STATISTICS].find_one({"_id.filter_id": 1}) or {}
    assert statistics["errors"] == context.settings.filters.max_failures
    context.system[names.FILTERS].update_one({}, {"$set": {"autosave.pipeline": [EVEN]}})
    context.filters._loaded_at = None
    assert {candid for candid, one in decided(context, alerts).items() if one["autosave"]} == {2, 4, 6, 8}


def test_decisions_and_light_curve_are_in_the_outbox(context: WorkerContext, add: Any, packet: Any, make: Any) -> None:
    context.settings.skyportal.enabled = True
    add(1, {"active": True, "comment": "new"}, IFU | {"pipeline": ALL})
    rows = [make.detection(2459990.5, candid=100), make.detection(2459995.5)]
    forced = [make.forced(2459994.5, magzpsci=26.0, diffmaglim=20.0)]
    process([packet(1, prv_candidates=rows, fp_hists=forced)], context)
    document = context.system[names.OUTBOX].find_one() or {}
    one = document["passes"]["10:1"]
    assert one["autosave"]["comment"] == "new"
    assert Request.model_validate(one["followup"]).allocation_id == 5
    photometry = document["photometry"]
    assert photometry["since"] == 59990.0
    assert photometry["alerts"]["mjd"] == [59990.0, 59995.0, 60000.0]
    assert photometry["alerts"]["flux"][1] is None
    stored = context.data[context.survey.objects].find_one() or {}
    assert len(stored["fp_hists"]) == 1


def block(**changes: Any) -> AutoFollowup:
    return AutoFollowup.model_validate(IFU | {"pipeline": ALL} | changes)


def asked(one: AutoFollowup, answer: Block | None = None) -> Request:
    return request(30, one, [8], answer or {}, NOW)


def test_a_request_with_a_priority_is_valid_for_some_days() -> None:
    made = asked(block(payload={"observation_type": "IFU", "priority": 3}, radius=1.0, validity_days=3))
    assert made.payload["priority"] == 3
    start, end = (datetime.fromisoformat(made.payload[key]) for key in ("start_date", "end_date"))
    assert end - start == timedelta(days=3)
    assert (made.ends_at, made.radius) == (NOW + timedelta(days=3), 1.0)
    assert (made.target_group_ids, made.ignore_source_group_ids) == ([30], [8])
    assert asked(block()).ends_at == NOW + timedelta(days=7)


@pytest.mark.parametrize("key", ["urgency", "Urgency"])
def test_a_request_with_an_urgency_has_no_dates(key: str) -> None:
    made = asked(block(payload={key: "5", "mode": "a"}, comment="look"))
    assert made.payload == {key: 5, "mode": "a"}
    assert (made.priority_key, made.ends_at, made.comment) == (key, None, f"look ({key}: 5)")


def test_a_pipeline_replaces_comment_and_what_is_in_the_payload() -> None:
    given = {"comment": "Overwritten by pipeline", "payload": {"urgency": 5, "filters": ["g"], "unknown": 1}}
    made = asked(block(payload={"urgency": 1, "filters": ["r"]}, comment="mine"), given)
    assert made.payload == {"urgency": 5, "filters": ["g"]}
    assert made.comment == "Overwritten by pipeline (urgency: 5)"


@pytest.mark.parametrize(("order", "priority"), [(None, 0), ("asc", 0), ("desc", 5)])
def test_without_a_priority_a_request_is_the_least_urgent(order: str | None, priority: int) -> None:
    made = asked(block(payload={"observation_type": "IFU"}, priority_order=order, target_group_ids=[4, 30]))
    assert (made.payload["priority"], made.priority_order) == (priority, order or "asc")
    assert made.target_group_ids == [4, 30]
    assert made.comment is None


@pytest.mark.parametrize("priority", ["high", None, float("nan"), True, [1]])
def test_a_priority_must_be_a_number(priority: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        asked(block(), {"payload": {"priority": priority}})
