"""Objects on a real MongoDB: however rows arrive, the document holds what merging all of them at once gives."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.collection import Collection

from kowalski import surveys
from kowalski.archive import client, objects
from kowalski.config import Settings
from kowalski.science import lightcurve
from kowalski.surveys.base import History

Row = dict[str, Any]
Objects = Collection[Row]

SURVEY = surveys.get("ZTF")
DETECTIONS, FORCED = SURVEY.histories
NAME = "ZTF23aaaaaaa"

bounded = hypothesis_settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def collection(mongo: MongoClient[Row], settings: Settings) -> Objects:
    return client.data_database(mongo, settings)[SURVEY.objects]


def optional(name: str, values: Sequence[Any]) -> st.SearchStrategy[Row]:
    return st.one_of(st.just({}), st.sampled_from(values).map(lambda value: {name: value}))


def rows_of(*fields: tuple[str, Sequence[Any]]) -> st.SearchStrategy[Row]:
    """Rows with a jd and some of ``fields``, in the order of a schema."""
    jd = st.sampled_from([2460000.5, 2460001.5, 2460002, 2460003.25])
    drawn = st.tuples(jd.map(lambda value: {"jd": value}), *(optional(name, values) for name, values in fields))
    return drawn.map(lambda parts: {name: value for part in parts for name, value in part.items()})


DETECTION = rows_of(
    ("fid", [1, 2]), ("pid", [7, 8.0]), ("candid", [1, 2**60 + 1, None]), ("magpsf", [18.5, math.nan, 19])
)
FORCED_ROW = rows_of(
    ("forcediffimflux", [3.0, -2, math.nan, None]), ("procstatus", ["0", "56", True]), ("alert_mag", [15.0, 18, None])
)
PACKET = st.tuples(st.lists(DETECTION, max_size=4), st.lists(FORCED_ROW, max_size=4))
WAYS = ("merge", "append", "append late", "insert")


def equal(found: Row, rows: dict[str, list[Row]]) -> bool:
    """Whether a document holds exactly these histories; NaN equals NaN."""
    held = {history.name: found[history.name] for history in SURVEY.histories if history.name in found}
    return repr(held) == repr(rows)


def merged(packets: Sequence[dict[str, list[Row]]]) -> dict[str, list[Row]]:
    """What all packets give at once, every history by the rules of `lightcurve.merge`."""
    return {
        history.name: lightcurve.merge(history, (row for packet in packets for row in packet[history.name]))
        for history in SURVEY.histories
    }


def apply(collection: Objects, packet: dict[str, list[Row]], way: str) -> None:
    """Bring rows in as the broker does, or, for "append late", as if another batch had been in between."""
    if way == "insert":
        met = objects.insert_new(collection, [{"_id": NAME, **packet}])
        if not met:
            return
        assert met == {NAME}
    if way in ("append", "append late"):
        known = objects.recall(collection, [NAME], SURVEY.histories, -math.inf)[NAME]
        fresh = {
            history.name: rows
            for history in SURVEY.histories
            if (rows := lightcurve.news(history, known.rows[history.name], packet[history.name]))
        }
        in_order = all(
            not known.rows[history.name]
            or lightcurve.sort_key(history, known.rows[history.name][-1])
            < lightcurve.sort_key(history, fresh[history.name][0])
            for history in SURVEY.histories
            if history.name in fresh
        )
        if fresh and in_order:
            sizes = {name: size + (way == "append late") for name, size in known.sizes.items()}
            done = collection.bulk_write([objects.append_rows(NAME, fresh, sizes)])
            assert done.matched_count == (way == "append")
            if done.matched_count:
                return
    collection.bulk_write([objects.merge_rows(NAME, SURVEY.histories, packet)])


@given(st.lists(st.tuples(PACKET, st.sampled_from(WAYS)), min_size=1, max_size=6), st.data())
@bounded
def test_any_order_and_way_gives_the_merge_of_all(
    collection: Objects, sent: list[tuple[Any, str]], data: st.DataObject
) -> None:
    packets = [merged([dict(zip(("prv_candidates", "fp_hists"), rows, strict=True))]) for rows, _ in sent]
    steps = data.draw(st.permutations(list(zip(packets, (way for _, way in sent), strict=True))))
    again = data.draw(st.lists(st.sampled_from(steps), max_size=2))
    collection.delete_many({})
    objects.insert_new(collection, [{"_id": NAME, **steps[0][0]}])
    for packet, way in [*steps[1:], *again]:
        apply(collection, packet, way)
    found = collection.find_one()
    assert found is not None
    assert equal(found, merged(packets))


@given(st.lists(PACKET, min_size=2, max_size=5))
@bounded
def test_an_object_without_forced_photometry_never_gets_any(collection: Objects, sent: list[Any]) -> None:
    packets = [merged([dict(zip(("prv_candidates", "fp_hists"), rows, strict=True))]) for rows in sent]
    collection.delete_many({})
    collection.insert_one({"_id": NAME, "prv_candidates": packets[0]["prv_candidates"], "cross_matches": {"Gaia": []}})
    collection.bulk_write([objects.merge_rows(NAME, SURVEY.histories, packet) for packet in packets])
    expected = merged(packets)
    assert repr(collection.find_one()) == repr(
        {"_id": NAME, "prv_candidates": expected["prv_candidates"], "cross_matches": {"Gaia": []}}
    )


def test_an_object_without_any_history_gets_detections(collection: Objects) -> None:
    collection.insert_one({"_id": NAME})
    rows = {"prv_candidates": [detection(1)], "fp_hists": [{"jd": 2460000.5}]}
    collection.bulk_write([objects.merge_rows(NAME, SURVEY.histories, rows)])
    assert collection.find_one() == {"_id": NAME, "prv_candidates": [detection(1)]}


def test_merging_does_not_create_objects(collection: Objects) -> None:
    collection.bulk_write([objects.merge_rows(NAME, SURVEY.histories, {"prv_candidates": [detection(1)]})])
    assert collection.find_one() is None


def test_values_that_look_like_expressions_are_kept_as_they_are(collection: Objects) -> None:
    collection.insert_one({"_id": NAME, "prv_candidates": []})
    row = detection(1) | {"note": "$prv_candidates", "rule": {"$add": [1, 1]}, "path": "$$ROOT"}
    collection.bulk_write([objects.merge_rows(NAME, SURVEY.histories, {"prv_candidates": [row]})])
    assert collection.find_one() == {"_id": NAME, "prv_candidates": [row]}


def detection(number: int, **changes: Any) -> Row:
    return {"jd": 2460000.5 + number, "fid": 1, "pid": number, "candid": number, "magpsf": 18.0} | changes


@pytest.mark.parametrize("history", SURVEY.histories, ids=lambda history: history.name)
def test_threads_that_update_one_object_leave_the_union(collection: Objects, history: History) -> None:
    """Each thread brings its rows one by one, appending where it may, as batches of several workers do."""
    collection.insert_one({"_id": NAME, "prv_candidates": [], "fp_hists": []})
    shares = [[detection(7 * i + k, alert_mag=18.0 - k) for i in range(12)] for k in range(6)]
    shared = [detection(1000 + i, alert_mag=17.0 + k) for i in range(4) for k in range(6)]  # one key, six contents
    start = threading.Barrier(len(shares))
    errors: list[BaseException] = []

    def bring(share: list[Row]) -> None:
        try:
            start.wait()
            for row in share:
                known = objects.recall(collection, [NAME], [history], row["jd"])[NAME]
                news = {history.name: lightcurve.news(history, known.rows[history.name], [row])}
                done = 0
                if not known.rows[history.name]:
                    done = collection.bulk_write([objects.append_rows(NAME, news, known.sizes)]).matched_count
                if not done:
                    collection.bulk_write([objects.merge_rows(NAME, SURVEY.histories, {history.name: [row]})])
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=bring, args=(share + shared[k::6],)) for k, share in enumerate(shares)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = collection.find_one()
    assert found is not None
    assert found[history.name] == lightcurve.merge(history, [row for share in shares for row in share] + shared)


def test_only_new_objects_are_inserted_and_known_ones_named(collection: Objects) -> None:
    assert objects.insert_new(collection, []) == set()
    assert objects.insert_new(collection, [{"_id": "a", "n": 1}, {"_id": "b", "n": 1}]) == set()
    assert objects.insert_new(collection, [{"_id": name, "n": 2} for name in "abcd"]) == {"a", "b"}
    assert {found["_id"]: found["n"] for found in collection.find()} == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_recall_reads_what_is_recent_and_counts_all(collection: Objects) -> None:
    rows = [detection(number) for number in range(5)]
    collection.insert_many(
        [
            {"_id": "both", "prv_candidates": rows, "fp_hists": rows[:2], "cross_matches": {}},
            {"_id": "one", "prv_candidates": []},
            {"_id": "none"},
        ]
    )
    known = objects.recall(collection, ["both", "one", "none", "absent"], SURVEY.histories, since=rows[3]["jd"])
    assert set(known) == {"both", "one", "none"}
    assert known["both"].rows == {"prv_candidates": rows[3:], "fp_hists": []}
    assert known["both"].sizes == {"prv_candidates": 5, "fp_hists": 2}
    assert (known["one"].rows, known["one"].sizes) == ({"prv_candidates": []}, {"prv_candidates": 0})
    assert (known["none"].rows, known["none"].sizes) == ({}, {})
    assert all(one.past == [] for one in known.values())  # nobody asked


def test_recall_gives_all_past_detections(collection: Objects) -> None:
    rows = [detection(0), detection(1, magpsf=None), {"jd": 2460002.5}, detection(3, magpsf=15.5)]
    collection.insert_many([{"_id": NAME, "prv_candidates": rows}, {"_id": "none"}])
    known = objects.recall(collection, [NAME, "none"], SURVEY.histories, math.inf, SURVEY.light_curve)
    assert known[NAME].past == [(2460000.5, 18.0), (2460003.5, 15.5)]
    assert known["none"].past == []


def test_an_append_is_refused_once_any_of_its_histories_has_grown(collection: Objects) -> None:
    collection.insert_one({"_id": NAME, "prv_candidates": [detection(0)], "fp_hists": [detection(0)]})
    rows = {"prv_candidates": [detection(1)], "fp_hists": [detection(1)]}
    update = objects.append_rows(NAME, rows, {"prv_candidates": 1, "fp_hists": 1})
    assert collection.bulk_write([update]).matched_count == 1
    for sizes in ({"prv_candidates": 1, "fp_hists": 2}, {"prv_candidates": 2, "fp_hists": 1}):
        assert collection.bulk_write([objects.append_rows(NAME, rows, sizes)]).matched_count == 0
    found = collection.find_one()
    assert found is not None
    assert found["prv_candidates"] == found["fp_hists"] == [detection(0), detection(1)]


@pytest.mark.sample_data
def test_forced_photometry_of_a_real_alert_that_others_carry_again(collection: Objects, sample_data: Path) -> None:
    """Fourteen points; then eight of the last ten from a fainter alert, then the last ten from a brighter one."""
    with (sample_data / "ztf_alerts/20231012/2475433850015010009.avro").open("rb") as file:
        packet: Any = next(fastavro.reader(file))
    candidate = packet["candidate"]

    def carried(points: list[Row], magnitude: float) -> list[Row]:
        return SURVEY.format_history("fp_hists", points, candidate | {"magpsf": magnitude})

    points = sorted(packet["fp_hists"], key=lambda row: row["jd"])
    assert len(points) == 21
    objects.insert_new(collection, [{"_id": NAME, "fp_hists": carried(points[:14], candidate["magpsf"])}])

    def after(rows: list[Row]) -> list[tuple[float, float]]:
        collection.bulk_write([objects.merge_rows(NAME, SURVEY.histories, {"fp_hists": rows})])
        (found,) = collection.find()
        return [(row["jd"], row["alert_mag"]) for row in found["fp_hists"]]

    own, jd = candidate["magpsf"], [row["jd"] for row in points]
    assert after(carried(points[11:19], 30.0)) == list(zip(jd, [own] * 14 + [30.0] * 5, strict=False))
    assert after(carried(points[11:], 15.0)) == list(zip(jd, [own] * 11 + [15.0] * 10, strict=True))
