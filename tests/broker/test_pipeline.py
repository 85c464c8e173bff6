"""A batch through all stages against a real MongoDB: once, again, in pieces, and with what does not belong in it."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from bson import json_util
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo.errors import AutoReconnect

from kowalski.archive import filters, names
from kowalski.broker import pipeline
from kowalski.broker.batch import Batch, Packet
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import SystemFault, process

BRIGHT = [{"$match": {"candidate.magpsf": {"$lt": 18.5}}}, {"$project": {"annotations": {"mag": "$candidate.magpsf"}}}]


def add_filter(context: WorkerContext, stages: list[dict[str, Any]], filter_id: int = 1) -> None:
    version = filters.new_version(json.dumps(stages))
    context.system[names.FILTERS].insert_one(
        {
            "filter_id": filter_id, "group_id": 7, "catalog": context.survey.alerts, "permissions": [1], "active": True,
            "autosave": False, "update_annotations": False, "active_fid": version["fid"], "fv": [version],
        }
    )  # fmt: skip


def state(context: WorkerContext) -> str:
    """Everything that a batch leaves behind, but for the moments at which it happened."""
    found = [
        list(context.data[context.survey.alerts].find().sort("_id", 1)),
        list(context.data[context.survey.objects].find().sort("_id", 1)),
        list(context.system[names.OUTBOX].find().sort("_id", 1)),
        list(context.system[names.DEAD_LETTERS].find({}, {"at": 0}).sort("_id", 1)),
    ]
    return json_util.dumps(found)


def clear(context: WorkerContext) -> None:
    for collection in (context.survey.alerts, context.survey.objects):
        context.data[collection].delete_many({})
    for name in (names.OUTBOX, names.DEAD_LETTERS):
        context.system[name].delete_many({})


def test_an_alert_leaves_its_documents(context: WorkerContext, packet: Any, make: Any) -> None:
    add_filter(context, BRIGHT)
    history = [make.detection(2459999.5, candid=5), make.detection(2459998.5)]
    report = process([packet(10, prv_candidates=history, fp_hists=[make.forced(2459999.5)])], context)
    alert = context.data["ZTF_alerts"].find_one()
    assert alert is not None
    assert (alert["_id"], alert["candid"], alert["objectId"]) == (10, 10, "ZTF23aaaaaaa")
    assert alert["coordinates"]["radec_geojson"]["coordinates"] == [-30.0, 20.0]
    assert alert["classifications"] == {}
    assert "prv_candidates" not in alert
    known = context.data["ZTF_alerts_aux"].find_one({"_id": "ZTF23aaaaaaa"})
    assert known is not None
    assert [row["jd"] for row in known["prv_candidates"]] == [2459998.5, 2459999.5]  # not the alert itself
    assert "magpsf" not in known["prv_candidates"][0]  # nulls are dropped
    assert known["fp_hists"][0]["alert_mag"] == 18.0
    assert known["cross_matches"] == {}
    outbox = context.system[names.OUTBOX].find_one({"_id": {"survey": "ZTF", "candid": 10}})
    assert outbox is not None
    assert outbox["passes"]["7:1"]["annotations"] == {"mag": 18.0}
    assert (report.packets, report.alerts, report.passes, report.rejected) == (1, 1, 1, 0)
    assert set(report.stages) >= {"decode", "recall", "score", "crossmatch", "store", "filter", "handover"}


def test_the_same_packet_three_times_in_one_batch_or_several(context: WorkerContext, packet: Any, make: Any) -> None:
    add_filter(context, BRIGHT)
    packets = [
        packet(10 + i, f"ZTF23aaaaaa{i % 2}", 2460000.5 + i, prv_candidates=[make.detection(2459990.5 + i)])
        for i in range(4)
    ]
    process(packets, context)
    once = state(context)
    for again in (packets * 3, packets[2:], packets[::-1]):
        process(again, context)
        assert state(context) == once


def test_a_crash_between_the_stages_is_made_good_by_the_next_try(
    context: WorkerContext, packet: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_filter(context, BRIGHT)
    packets = [packet(10 + i, f"ZTF23aaaaaa{i}", prv_candidates=[make.detection(2459990.5)]) for i in range(3)]
    process(packets, context)
    whole = state(context)
    stages = pipeline.STAGES

    def die(batch: Batch, context: WorkerContext) -> None:
        raise AutoReconnect("gone")

    for broken in range(len(stages)):
        clear(context)
        monkeypatch.setattr(pipeline, "STAGES", (*stages[:broken], ("broken", die), *stages[broken:]))
        with pytest.raises(AutoReconnect):
            process(packets, context)
        monkeypatch.setattr(pipeline, "STAGES", stages)
        process(packets, context)
        assert _timeless(state(context)) == _timeless(whole)


def _timeless(found: str) -> Any:
    """Leave out when passes were noted."""
    documents = json_util.loads(found)
    for document in documents[2]:
        document.pop("created_at", None)
        document.pop("expires_at", None)
        document.pop("next_attempt_at")
        for each in document["passes"].values():
            each.pop("passed_at")
    return documents


@given(order=st.permutations(range(6)), cuts=st.sets(st.integers(1, 5)))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_histories_do_not_depend_on_order_or_batches(
    context: WorkerContext, packet: Any, make: Any, order: Sequence[int], cuts: set[int]
) -> None:
    """Six alerts of one old object, overlapping histories, one row of them sent with two contents."""
    rows = [make.detection(2459990.5 + i, candid=i or None) for i in range(8)]
    packets = [
        packet(
            100 + i,
            jd=2460000.5 + i,
            ndethist=20,
            jdstarthist=2459000.5,
            prv_candidates=[*rows[i : i + 3], make.detection(2459980.5, candid=9, sigmapsf=0.1 * (i + 1))],
        )
        for i in range(6)
    ]
    clear(context)
    process(packets, context)
    expected = state(context)
    clear(context)
    ordered = [packets[i] for i in order]
    edges = [0, *sorted(cuts), 6]
    for begin, end in itertools.pairwise(edges):
        process(ordered[begin:end], context)
    assert state(context) == expected


def test_concurrent_batches_leave_what_one_order_leaves(context: WorkerContext, packet: Any, make: Any) -> None:
    """Two batches see an object as new at the same time: the histories of both are there."""
    batches = [
        [
            packet(1000 + 10 * i + k, f"ZTF23aaaaaa{k}", 2460000.5 + i, prv_candidates=[make.detection(2459000.5 + i)])
            for k in range(8)
        ]
        for i in range(6)
    ]
    threads = [threading.Thread(target=process, args=(batch, context)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert context.data["ZTF_alerts"].count_documents({}) == 48
    for known in context.data["ZTF_alerts_aux"].find():
        assert [row["jd"] for row in known["prv_candidates"]] == [2459000.5 + i for i in range(6)]


def test_forced_photometry_belongs_to_objects_that_are_young_at_first_sight(
    context: WorkerContext, packet: Any, make: Any
) -> None:
    forced = [make.forced(2459999.5)]
    old = {"ndethist": 9, "jdstarthist": 2459000.5}
    process([packet(1, "ZTF23aaaaold", fp_hists=forced, **old)], context)
    process([packet(2, "ZTF23aaaanew", fp_hists=forced)], context)
    process(
        [
            packet(3, "ZTF23aaaaold", 2460001.5, fp_hists=forced),
            packet(4, "ZTF23aaaanew", 2460001.5, fp_hists=[make.forced(2460000.5)]),
        ],
        context,
    )
    found = {known["_id"]: known for known in context.data["ZTF_alerts_aux"].find()}
    assert "fp_hists" not in found["ZTF23aaaaold"]
    assert [row["jd"] for row in found["ZTF23aaaanew"]["fp_hists"]] == [2459999.5, 2460000.5]


def test_unreadable_packets_become_dead_letters_and_stop_nobody(context: WorkerContext, packet: Any, make: Any) -> None:
    good = make.encode(make.record(5))
    schemaless = make.record(6)
    del schemaless["prv_candidates"]
    odd = [b"", b"no avro at all", good[:-20], good[:200]]
    packets = [packet(1), *(packet.raw(value) for value in odd), packet(2, "ZTF23aaaaaab")]
    report = process(packets, context)
    assert (report.alerts, report.rejected) == (2, 4)
    letters = list(context.system[names.DEAD_LETTERS].find().sort("_id.offset", 1))
    assert [letter["_id"]["offset"] for letter in letters] == [1, 2, 3, 4]
    assert [letter["value"] for letter in letters] == odd
    assert all(letter["stage"] == "decode" and letter["reason"] for letter in letters)
    assert {letter["_id"]["topic"] for letter in letters} == {"ztf_20230225_programid1"}


@pytest.mark.parametrize(
    "changes",
    [{"ra": 360.5}, {"dec": -91.0}, {"ra": float("nan")}, {"jd": float("inf")}, {"name": ""}],
)
def test_impossible_alerts_are_refused(context: WorkerContext, packet: Any, changes: dict[str, Any]) -> None:
    report = process([packet(1, **{"name": "ZTF23aaaaaaa", **changes}), packet(2)], context)
    assert (report.alerts, report.rejected) == (1, 1)


@pytest.mark.parametrize("codec", ["deflate", "snappy"])
def test_compressed_packets_and_null_histories_are_taken(
    context: WorkerContext, packet: Any, make: Any, codec: str
) -> None:
    report = process([packet.raw(make.encode(make.record(1, prv_candidates=None, fp_hists=None), codec))], context)
    assert (report.alerts, report.rejected) == (1, 0)
    known = context.data["ZTF_alerts_aux"].find_one()
    assert known is not None
    assert known["prv_candidates"] == []


def test_one_candid_of_two_objects_is_refused_naming_the_first(context: WorkerContext, packet: Any) -> None:
    report = process([packet(1, "ZTF23aaaaaaa"), packet(1, "ZTF23bbbbbbb")], context)
    assert (report.alerts, report.rejected) == (1, 1)
    process([packet(1, "ZTF23ccccccc"), packet(2, "ZTF23ddddddd")], context)
    reasons = [letter["reason"] for letter in context.system[names.DEAD_LETTERS].find()]
    assert len(reasons) == 2
    assert all("candid 1 already belongs to object ZTF23aaaaaaa" in reason for reason in reasons)
    assert context.data["ZTF_alerts"].count_documents({}) == 2


def poisonous(batch: Batch, context: WorkerContext) -> None:
    if any(work.alert.candid % 5 == 0 for work in batch.works):
        raise ZeroDivisionError("five divides it")


def test_a_packet_that_breaks_a_stage_is_found_and_refused(
    context: WorkerContext, packet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "STAGES", (*pipeline.STAGES, ("poison", poisonous)))
    report = process([packet(i, f"ZTF23aaaa{i:03d}") for i in range(1, 12)], context)
    assert (report.alerts, report.rejected) == (9, 2)
    letters = list(context.system[names.DEAD_LETTERS].find())
    assert {(letter["stage"], letter["reason"]) for letter in letters} == {
        ("poison", "ZeroDivisionError: five divides it")
    }


def test_a_stage_that_fails_on_everything_refuses_nothing(
    context: WorkerContext, packet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "STAGES", (*pipeline.STAGES, ("poison", poisonous)))
    with pytest.raises(SystemFault, match="five divides it"):
        process([packet(5 * i, f"ZTF23aaaa{i:03d}") for i in range(1, 12)], context)
    assert context.system[names.DEAD_LETTERS].count_documents({}) == 0


def test_what_mongodb_cannot_hold_is_the_packets_fault(context: WorkerContext, packet: Any, make: Any) -> None:
    rows = [make.detection(float(i), candid=i) for i in range(150_000)]
    report = process([packet(1), packet(2, "ZTF23toolarge", prv_candidates=rows), packet(3, "ZTF23aaaaaab")], context)
    assert (report.alerts, report.rejected) == (2, 1)
    (letter,) = context.system[names.DEAD_LETTERS].find()
    assert letter["stage"] == "store"


def test_a_mongodb_that_is_away_refuses_nothing(
    context: WorkerContext, packet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(batch: Batch, context: WorkerContext) -> None:
        raise AutoReconnect("connection refused")

    monkeypatch.setattr(pipeline, "STAGES", (("store", away),))
    packets: list[Packet] = [packet(1), packet.raw(b"odd")]
    with pytest.raises(AutoReconnect):
        process(packets, context)
    assert context.system[names.DEAD_LETTERS].count_documents({}) == 0
