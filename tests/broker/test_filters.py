"""Users' filters on a batch give what they give alert by alert, and a bad one harms nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from kowalski.archive import filters, names
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import process

Stages = list[dict[str, Any]]
AddFilter = Callable[..., None]
CANDIDS = list(range(1, 13))

SLOW: dict[str, Any] = {"$match": {"$expr": {"$gt": [{"$reduce": {
    "input": {"$range": [0, 1_000_000]},
    "initialValue": 0, "in": {"$add": ["$$value", "$candid"]}}}, -1]}}}  # fmt: skip


@pytest.fixture
def add(context: WorkerContext) -> AddFilter:
    """Stores active filters; they run at once."""

    def store(filter_id: int, stages: Stages, permissions: tuple[int, ...] = (1,), **changes: Any) -> None:
        version = filters.new_version(json.dumps(stages))
        document = {
            "filter_id": filter_id, "group_id": 1, "catalog": context.survey.alerts, "permissions": list(permissions),
            "active": True, "autosave": False, "update_annotations": False, "active_fid": version["fid"],
            "fv": [version], **changes,
        }  # fmt: skip
        context.system[names.FILTERS].insert_one(document)
        context.filters._loaded_at = None

    return store


@pytest.fixture
def alerts(context: WorkerContext, packet: Any, make: Any) -> list[int]:
    """Twelve alerts of six objects, half of them of program 2, with some history."""
    packets = [
        packet(
            candid,
            f"ZTF23aaaaaa{candid % 6}",
            2460000.5 + candid,
            magpsf=17.0 + 0.25 * candid,
            programid=1 + candid % 2,
            drb=candid / 12,
            prv_candidates=[make.detection(2459990.5 + candid, candid=100 + candid, programid=1 + candid % 2)],
        )
        for candid in CANDIDS
    ]
    assert process(packets, context).alerts == len(CANDIDS)
    return CANDIDS


def passing(context: WorkerContext, candids: list[int]) -> dict[int, set[int]]:
    """Candid -> numbers of the filters that it passes."""
    return {candid: {each["filter_id"] for each in found} for candid, found in context.filters.run(candids).items()}


def test_passes_carry_what_the_outbox_needs(context: WorkerContext, add: AddFilter, alerts: list[int]) -> None:
    add(
        3,
        [{"$match": {"candid": 3}}, {"$project": {"annotations.mag": "$candidate.magpsf"}}],
        (1, 2),
        autosave={"active": True},
    )
    (passed,) = context.filters.run(alerts)[3]
    assert passed["annotations"] == {"mag": 17.75}
    assert passed["autosave"] == {"comment": None, "ignore_group_ids": [], "saver_id": None}
    assert (passed["followup"], passed["troubles"]) == (None, {})
    assert passed["permissions"] == [1, 2]
    assert len(passed["fid"]) == filters.FID_LENGTH


def test_permissions_hide_alerts_and_history(context: WorkerContext, add: AddFilter, alerts: list[int]) -> None:
    add(1, [{"$match": {}}], (1,))
    add(2, [{"$match": {}}], (1, 2))
    add(3, [{"$match": {}}], ())
    add(4, [{"$match": {"prv_candidates.programid": 2}}], (1,))
    found = passing(context, alerts)
    assert {candid for candid, numbers in found.items() if 1 in numbers} == {c for c in alerts if c % 2 == 0}
    assert {candid for candid, numbers in found.items() if 2 in numbers} == set(alerts)
    assert not any({3, 4} & numbers for numbers in found.values())


STAGES = st.sampled_from(
    [
        {"$match": {"candidate.magpsf": {"$lt": 18.5}}},
        {"$match": {"candidate.drb": {"$gt": 0.4}}},
        {"$match": {"prv_candidates.0": {"$exists": True}}},
        {"$addFields": {"n": {"$size": "$prv_candidates"}}},
        {"$addFields": {"candid": "$candidate.pid"}},
        {"$addFields": {"_id": "$objectId"}},
        {"$set": {"annotations": {"mag": "$candidate.magpsf"}}},
        {"$project": {"candidate": 1, "candid": 1}},
        {"$project": {"_id": 0, "candidate": 1, "candid": 1}},
        {"$project": {"_id": 0, "candidate": 1}},
        {"$project": {"coordinates": 0}},
        {"$unset": "_id"},
        {"$unset": ["_id", "candid"]},
        {"$replaceRoot": {"newRoot": "$candidate"}},
        {"$group": {"_id": "$objectId", "n": {"$sum": 1}}},
        {"$group": {"_id": None, "candid": {"$max": "$candid"}}},
        {"$sort": {"candidate.magpsf": 1}},
        {"$limit": 1},
        {"$skip": 1},
        {"$count": "candid"},
        {"$unwind": "$prv_candidates"},
        {"$sortByCount": "$objectId"},
        {"$facet": {"a": [{"$match": {}}]}},
        {"$sample": {"size": 100}},
        {"$bucketAuto": {"groupBy": "$candidate.jd", "buckets": 2}},
    ]
)


@given(pipelines=st.lists(st.lists(STAGES, min_size=1, max_size=4), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_batch_gives_what_alerts_give_one_by_one(
    context: WorkerContext, add: AddFilter, alerts: list[int], pipelines: list[Stages]
) -> None:
    """Also for pipelines that see several documents, or drop what tells them apart."""
    context.system[names.FILTERS].delete_many({})
    for number, stages in enumerate(pipelines):
        add(number, stages)
    collection = context.data[context.survey.alerts]
    expected: dict[int, set[int]] = {}
    for candid in alerts:
        for number, stages in enumerate(pipelines):
            try:
                alone = list(collection.aggregate(context.survey.filter_prefix([candid], (1,)) + stages))
            except OperationFailure:
                continue
            if len(alone) == 1:
                expected.setdefault(candid, set()).add(number)
    assert passing(context, alerts) == expected


def test_a_filter_that_fails_on_one_alert_passes_the_others(
    context: WorkerContext, add: AddFilter, alerts: list[int]
) -> None:
    odd = {"$match": {"$expr": {"$gt": [{"$divide": [1, {"$subtract": ["$candid", 4]}]}, 0]}}}
    add(1, [odd], (1, 2))
    add(2, [{"$match": {}}], (1, 2))
    found = passing(context, alerts)
    assert all(2 in found[candid] for candid in alerts)
    assert {candid for candid in alerts if 1 in found[candid]} == {5, 6, 7, 8, 9, 10, 11, 12}
    statistics = context.system[names.FILTER_STATISTICS].find_one({"_id.filter_id": 1})
    assert statistics is not None
    assert statistics["errors"] == 1
    assert "divide by zero" in statistics["last_error"]
    assert context.system[names.FILTERS].count_documents({"suspended": {"$exists": True}}) == 0


@pytest.mark.parametrize(
    ("stages", "reason"),
    [([{"$match": {"$expr": {"$divide": [1, 0]}}}], "5 failures in a row; the last: failed"), ([SLOW], "took")],
    ids=["failing", "slow"],
)
def test_a_filter_that_always_fails_is_switched_off(
    context: WorkerContext, add: AddFilter, alerts: list[int], stages: Stages, reason: str
) -> None:
    context.settings.filters.max_time_ms = context.settings.filters.batch_max_time_ms = 50
    add(1, stages, (1, 2))
    add(2, [{"$match": {"candid": {"$lt": 5}}}], (1, 2))
    assert passing(context, alerts) == {candid: {2} for candid in (1, 2, 3, 4)}
    stored = context.system[names.FILTERS].find_one({"filter_id": 1})
    assert stored is not None
    assert reason in stored["suspended"]["reason"]
    assert context.system[names.FILTERS].count_documents({"suspended": {"$exists": True}}) == 1


def test_answers_too_large_for_one_document_split_the_batch(
    context: WorkerContext, add: AddFilter, alerts: list[int]
) -> None:
    text = "x" * 3_000_000
    for number in range(3):
        add(number, [{"$project": {"annotations": {"text": {"$concat": [text, "y"]}}}}], (1, 2))
    found = context.filters.run(alerts)
    assert {candid: len(passes) for candid, passes in found.items()} == dict.fromkeys(alerts, 3)
    assert all(len(each["annotations"]["text"]) == 3_000_001 for passes in found.values() for each in passes)


def test_changes_are_picked_up(context: WorkerContext, add: AddFilter, alerts: list[int]) -> None:
    context.settings.filters.reload_seconds = 1e-6
    assert passing(context, alerts) == {}
    add(1, [{"$match": {"candid": 1}}], (1, 2))
    assert passing(context, alerts) == {1: {1}}
    version = filters.new_version(json.dumps([{"$match": {"candid": 2}}]))
    change = {"$push": {"fv": version}, "$set": {"active_fid": version["fid"]}}
    context.system[names.FILTERS].update_one({"filter_id": 1}, change)
    assert passing(context, alerts) == {2: {1}}
    context.system[names.FILTERS].update_one({"filter_id": 1}, {"$set": {"active": False}})
    assert passing(context, alerts) == {}


def test_trouble_with_mongodb_is_no_filters_fault(
    context: WorkerContext, add: AddFilter, alerts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(1, [{"$match": {}}], (1, 2))

    def broken(*_: Any, **__: Any) -> list[dict[str, Any]]:
        return [{"$match": {"$nonsense": 1}}]

    monkeypatch.setattr(type(context.survey), "filter_prefix", broken)
    with pytest.raises(OperationFailure):
        context.filters.run(alerts)
    assert context.system[names.FILTERS].count_documents({"suspended": {"$exists": True}}) == 0
    assert context.system[names.FILTER_STATISTICS].count_documents({}) == 0


def test_how_filters_do_is_counted(context: WorkerContext, add: AddFilter, alerts: list[int]) -> None:
    """By version; how long each one takes is known although they run together."""
    context.settings.filters.sample_every = 2
    add(1, [{"$match": {"candid": {"$lte": 4}}}], (1, 2))
    add(2, [{"$match": {"candid": 1}}, {"$limit": 1}], (1, 2))
    add(3, [{"$match": {"candid": {"$lt": 0}}}], (1, 2))
    context.filters.run(alerts[:8])
    context.filters.run(alerts[8:])
    context.filters.write_statistics()
    context.filters.run(alerts)
    context.filters.write_statistics()
    context.filters.write_statistics()
    found = {each["_id"]["filter_id"]: each for each in context.system[names.FILTER_STATISTICS].find()}
    assert (found[1]["alerts"], found[1]["passes"], found[1]["timed_alerts"]) == (24, 8, 4)
    assert (found[2]["alerts"], found[2]["passes"], found[2]["timed_alerts"]) == (24, 2, 24)
    assert all(each["ms"] > 0 and each["since"] <= each["last_at"] and "errors" not in each for each in found.values())
