"""Storing a batch on a real MongoDB: repeated, overlapping and concurrent batches leave what one order leaves."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from bson import json_util
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient

from kowalski.archive import objects
from kowalski.archive.client import data_database
from kowalski.broker.avro import Decoder
from kowalski.broker.batch import Batch, Packet, Work
from kowalski.broker.context import WorkerContext
from kowalski.broker.stages import decode, recall, store
from kowalski.science import lightcurve
from kowalski.surveys import get

Record = dict[str, Any]
NAME = "ZTF23aaaaaaa"
YOUNG = {"ndethist": 1}
OLD = {"ndethist": 9, "jdstarthist": 2459000.5}


def prepared(packets: Sequence[Packet], context: WorkerContext) -> Batch:
    """Take packets up to where they would be stored."""
    batch = decode.decode(packets, context.survey, context.decoder)
    assert batch.rejected == []
    recall.recall(batch, context)
    return batch


def stored(packets: Sequence[Packet], context: WorkerContext) -> None:
    store.store(prepared(packets, context), context)


def state(context: WorkerContext) -> str:
    names = (context.survey.alerts, context.survey.objects)
    return json_util.dumps([list(context.data[name].find().sort("_id", 1)) for name in names])


def clear(context: WorkerContext) -> None:
    for name in (context.survey.alerts, context.survey.objects):
        context.data[name].delete_many({})


def known(context: WorkerContext, name: str = NAME) -> Record:
    found = context.data[context.survey.objects].find_one({"_id": name})
    assert found is not None
    return found


def together(*actions: Callable[[], None]) -> None:
    """Run actions at the same time; raise what any of them raised."""
    start, errors = threading.Barrier(len(actions)), list[BaseException]()

    def run(action: Callable[[], None]) -> None:
        try:
            start.wait()
            action()
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_an_empty_batch_stores_nothing(context: WorkerContext) -> None:
    store.store(Batch(context.survey), context)
    assert state(context) == "[[], []]"


def test_a_stored_alert_is_never_changed(context: WorkerContext, packet: Any) -> None:
    """The same candid with other content: what was stored first stays."""
    stored([packet(1, magpsf=18.0)], context)
    before = state(context)
    stored([packet(1, magpsf=17.0), packet(1, magpsf=16.0)], context)
    assert state(context) == before


def test_scores_and_positions_are_stored_with_the_alert(context: WorkerContext, packet: Any) -> None:
    batch = prepared([packet(1), packet(2, "ZTF23aaaaaab")], context)
    batch.works[0].scores = {"braai": 0.5, "braai_version": "v"}
    batch.matches = {NAME: {"Gaia": [{"_id": 7}]}}
    store.store(batch, context)
    found = {one["_id"]: one for one in context.data[context.survey.alerts].find()}
    assert found[1]["classifications"] == {"braai": 0.5, "braai_version": "v"}
    assert found[2]["classifications"] == {}
    assert found[1]["coordinates"]["radec_str"] == ["10:00:00.0000", "20:00:00.000"]
    assert known(context)["cross_matches"] == {"Gaia": [{"_id": 7}]}
    assert known(context, "ZTF23aaaaaab")["cross_matches"] == {}


def test_cross_matches_of_a_known_object_stay(context: WorkerContext, packet: Any) -> None:
    batch = prepared([packet(1)], context)
    batch.matches = {NAME: {"Gaia": [{"_id": 7}]}}
    store.store(batch, context)
    again = prepared([packet(2, jd=2460001.5)], context)
    again.matches = {NAME: {"Gaia": []}}
    store.store(again, context)
    assert known(context)["cross_matches"] == {"Gaia": [{"_id": 7}]}


def test_an_append_costs_no_merge_and_a_merge_no_append(
    context: WorkerContext, packet: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New rows after the stored ones are appended; anything else is merged; what is known costs no write."""
    used: list[str] = []
    for way in ("append_rows", "merge_rows"):
        original = getattr(objects, way)
        monkeypatch.setattr(
            objects, way, lambda *args, way=way, original=original: (used.append(way), original(*args))[1]
        )
    rows = [make.detection(2460000.5 + i, candid=i + 1) for i in range(5)]
    for way, sent in ((None, rows[1:3]), (None, rows[1:3]), ("append_rows", rows[1:4]), ("merge_rows", rows[:2])):
        stored([packet(10 + len(sent), jd=2460009.5, prv_candidates=sent)], context)
        assert used == ([way] if way else [])
        used.clear()
    assert [row["jd"] for row in known(context)["prv_candidates"]] == [2460000.5 + i for i in range(4)]


def test_alerts_of_one_object_in_a_batch_leave_what_one_by_one_leaves(
    context: WorkerContext, packet: Any, make: Any
) -> None:
    """The earliest alert of the batch decides whether the object keeps forced photometry, whatever their order."""
    for first, second, keeps in ((YOUNG, OLD, True), (OLD, YOUNG, False)):
        packets = [
            packet(1, jd=2460000.5, fp_hists=[make.forced(2459999.5)], magpsf=18.0, **first),
            packet(2, jd=2460001.5, fp_hists=[make.forced(2459999.5), make.forced(2460000.5)], magpsf=17.0, **second),
            packet(3, jd=2460002.5, fp_hists=[make.forced(2460001.5)], prv_candidates=[make.detection(1.0)], **second),
        ]
        clear(context)
        for one in packets:
            stored([one], context)
        expected = state(context)
        assert ("fp_hists" in known(context)) is keeps
        for order in (packets, packets[::-1], packets * 2):
            clear(context)
            stored(order, context)
            assert state(context) == expected
    clear(context)
    stored(packets[:1], context)
    stored(packets[1:], context)
    assert state(context) == expected


def test_the_brightest_alert_of_a_batch_carries_forced_photometry(
    context: WorkerContext, packet: Any, make: Any
) -> None:
    forced = [make.forced(2459999.5), make.forced(2460000.5)]
    packets = [packet(i, jd=2460001.5 + i, magpsf=mag, fp_hists=forced) for i, mag in ((1, 18.0), (2, 16.0), (3, 17.0))]
    stored(packets, context)
    assert [row["alert_mag"] for row in known(context)["fp_hists"]] == [16.0, 16.0]


def test_an_object_without_a_history_gets_one(context: WorkerContext, packet: Any, make: Any) -> None:
    """As documents of other origin may be: detections are kept, forced photometry is not begun."""
    context.data[context.survey.objects].insert_one({"_id": NAME, "cross_matches": {}})
    stored([packet(1, prv_candidates=[make.detection(2459999.5)], fp_hists=[make.forced(2459999.5)])], context)
    found = known(context)
    assert [row["jd"] for row in found["prv_candidates"]] == [2459999.5]
    assert "fp_hists" not in found


def test_an_object_that_was_stored_in_the_meantime_is_merged(context: WorkerContext, packet: Any, make: Any) -> None:
    """Both batches take the object for new; the second finds it there, with the histories that the first decided."""
    first = prepared([packet(1, prv_candidates=[make.detection(2459998.5)], **OLD)], context)
    second = prepared(
        [packet(2, prv_candidates=[make.detection(2459997.5)], fp_hists=[make.forced(2459999.5)], **YOUNG)], context
    )
    store.store(first, context)
    store.store(second, context)
    found = known(context)
    assert [row["jd"] for row in found["prv_candidates"]] == [2459997.5, 2459998.5]
    assert "fp_hists" not in found
    assert context.data[context.survey.alerts].count_documents({}) == 2


def test_what_was_recalled_may_be_out_of_date(context: WorkerContext, packet: Any, make: Any) -> None:
    """Three batches recall an object, then are stored one after the other: none takes a row of another away."""
    stored([packet(1, prv_candidates=[make.detection(2459990.5)], fp_hists=[make.forced(2459990.5)])], context)
    rows = [
        ([make.detection(2459995.5)], [make.forced(2459995.5)]),
        ([make.detection(2459993.5), make.detection(2459995.5)], [make.forced(2459996.5)]),
        ([make.detection(2459999.5)], [make.forced(2459995.5, flux=1.0)]),
    ]
    batches = [
        prepared([packet(2 + i, jd=2460001.5, prv_candidates=one, fp_hists=two)], context)
        for i, (one, two) in enumerate(rows)
    ]
    for batch in batches:
        store.store(batch, context)
    found = known(context)
    assert [row["jd"] for row in found["prv_candidates"]] == [2459990.5, 2459993.5, 2459995.5, 2459999.5]
    assert [row["jd"] for row in found["fp_hists"]] == [2459990.5, 2459995.5, 2459996.5]
    assert found["fp_hists"][1]["forcediffimflux"] == 1.0  # of equal brightness: the content decides


ROWS = st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), max_size=4)


@given(
    sent=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), ROWS, ROWS), min_size=1, max_size=8),
    cuts=st.sets(st.integers(1, 7), max_size=3),
    data=st.data(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_split_order_and_repetition_leaves_all_rows_merged(
    context: WorkerContext, packet: Any, make: Any, sent: list[Any], cuts: set[int], data: st.DataObject
) -> None:
    """Three objects whose histories overlap; afterwards each holds the merge of what all its alerts brought."""
    packets = [
        packet(
            100 + i,
            f"ZTF23aaaaaa{which}",
            jd=2460010.5 + day,
            magpsf=18.0 - day,
            prv_candidates=[
                make.detection(2460000.5 + n, n if a else None, sigmapsf=0.1 + b) for n, a, b in detections
            ],
            fp_hists=[make.forced(2460000.5 + n, 500.0 - 900 * a, procstatus="0" if b else "56") for n, a, b in forced],
        )
        for i, (which, day, detections, forced) in enumerate(sent)
    ]
    batch = decode.decode(packets, context.survey, context.decoder)
    expected = {
        name: {
            history.name: lightcurve.merge(
                history, (row for work in works for row in work.alert.histories[history.name])
            )
            for history in context.survey.histories
        }
        for name, works in batch.objects().items()
    }
    order = data.draw(st.permutations(packets))
    again = data.draw(st.lists(st.sampled_from(packets), max_size=3))
    edges = [0, *sorted(cut for cut in cuts if cut < len(order)), len(order)]
    clear(context)
    for begin, end in itertools.pairwise(edges):
        stored(order[begin:end], context)
    if again:
        stored(again, context)
    extras = {"cross_matches": 0, "aliases": 0, "coordinates": 0}
    found = {one.pop("_id"): one for one in context.data[context.survey.objects].find({}, extras)}
    assert found == expected
    assert context.data[context.survey.alerts].count_documents({}) == len(packets)


def test_concurrent_batches_leave_the_union(
    context: WorkerContext, packet: Any, make: Any, mongo: MongoClient[Record]
) -> None:
    """Six workers, four rounds each, on the same objects, with shared and own rows, young objects and repeats."""
    data = data_database(mongo, context.settings)
    objects_of = [f"ZTF23aaaaaa{k}" for k in range(4)]
    rounds = [
        [
            [
                packet(
                    10_000 * worker + 100 * turn + k,
                    name,
                    jd=2460010.5 + turn,
                    magpsf=18.0 - worker,
                    prv_candidates=[make.detection(2460000.5 + turn), make.detection(2459000.5 + 10 * turn + worker)],
                    fp_hists=[make.forced(2460001.5 + turn), make.forced(2460002.5 + turn)],
                )
                for k, name in enumerate(objects_of)
            ]
            for turn in range(4)
        ]
        for worker in range(6)
    ]

    def work(batches: list[list[Packet]]) -> Callable[[], None]:
        def run() -> None:
            for packets in [*batches, batches[0]]:
                stored(packets, context)

        return run

    together(*(work(batches) for batches in rounds))
    everything = [one for batches in rounds for packets in batches for one in packets]
    batch = decode.decode(everything, context.survey, context.decoder)
    assert data[context.survey.alerts].count_documents({}) == len(everything) == 96
    groups: dict[str, list[Work]] = batch.objects()
    for name, works in groups.items():
        found = known(context, name)
        for history in context.survey.histories:
            rows = (row for one in works for row in one.alert.histories[history.name])
            assert found[history.name] == lightcurve.merge(history, rows)


def test_real_nights_in_any_order_leave_the_same_histories(
    context: WorkerContext, packet: Any, sample_data: Path
) -> None:
    """Real alerts, of one object up to five, in order of time and shuffled in small batches, some of them twice."""
    files = sorted((sample_data / "ztf_alerts" / "20231018").glob("*.avro"))
    packets = [packet.raw(path.read_bytes()) for path in files]
    stored(packets, context)
    expected = state(context)
    assert 1 < context.data[context.survey.objects].count_documents({}) < len(packets)
    clear(context)
    shuffled = random.Random(7).sample(packets, len(packets))
    for begin in range(0, len(shuffled), 16):
        stored(shuffled[max(0, begin - 4) : begin + 16], context)
    assert _without_keeping(state(context)) == _without_keeping(expected)


def _without_keeping(found: str) -> Any:
    """Leave out what the alert that comes first decides: whether an object holds forced photometry, and its place."""
    documents = json_util.loads(found)
    for document in documents[1]:
        document.pop("fp_hists", None)
        document.pop("coordinates", None)
    return documents


def test_a_history_of_another_schema_stays_in_the_document(packet: Any) -> None:
    """Whatever stands where rows should be is kept; rows without a time are refused, and the next packet is taken."""

    class Odd(Decoder):
        content: Any

        def records(self, value: bytes) -> list[Record]:
            (record,) = super().records(value)
            return [record | {"prv_candidates": self.content}] if record["candid"] == 1 else [record]

    decoder = Odd()
    for content in (5, "text", [1, 2], {"jd": 1.0}, [["jd"]]):
        decoder.content = content
        batch = decode.decode([packet(1), packet(2)], get("ZTF"), decoder)
        first, second = (work.alert for work in batch.works)
        assert first.document["prv_candidates"] == content
        assert "prv_candidates" not in second.document
        assert first.histories["prv_candidates"] == []
    decoder.content = [{"jd": "1"}]
    batch = decode.decode([packet(1), packet(2)], get("ZTF"), decoder)
    assert [work.alert.candid for work in batch.works] == [2]
    (refused,) = batch.rejected
    assert (refused.stage, "prv_candidates.jd" in refused.reason) == ("decode", True)
