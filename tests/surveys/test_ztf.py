"""ZTF's packets, on real ones where they are at hand: what becomes of their fields, and what filters see of them."""

from __future__ import annotations

import copy
import itertools
import math
import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.database import Database

from kowalski import surveys
from kowalski.archive import client, objects
from kowalski.broker.avro import Decoder
from kowalski.config import Settings
from kowalski.science import lightcurve
from kowalski.surveys.base import Alert, PacketError

Record = dict[str, Any]

ZTF = surveys.get("ZTF")
DETECTIONS, FORCED = ZTF.histories
JD = 2460000.5


def decoded(sample_data: Path, night: str, candid: int) -> Record:
    (record,) = Decoder().records((sample_data / "ztf_alerts" / night / f"{candid}.avro").read_bytes())
    return record


def packet(**changes: Any) -> Record:
    """A packet with the fields that matter here; ``changes`` go to ``candidate`` if they are fields of it."""
    candidate = {"jd": JD, "ra": 150.0, "dec": 20.0, "magpsf": 18.0, "programid": 1, "ndethist": 1, "jdstarthist": JD}
    record: Record = {
        "schemavsn": "4.02",
        "objectId": "ZTF23aaaaaaa",
        "candid": 10,
        "candidate": candidate,
        "prv_candidates": None,
        "fp_hists": None,
        "cutoutScience": {"fileName": "s", "stampData": b"science"},
        "cutoutTemplate": {"fileName": "t", "stampData": b"template"},
        "cutoutDifference": {"fileName": "d", "stampData": b"difference"},
    }
    for key, value in changes.items():
        (candidate if key in candidate else record)[key] = value
    return record


def forced(jd: float = JD - 1.0, **changes: Any) -> Record:
    row = {"jd": jd, "fid": 1, "forcediffimflux": 500.0, "forcediffimfluxunc": 20.0, "magzpsci": 26.0}
    return row | {"procstatus": "0", "programid": 1} | changes


# Real packets


def test_a_real_packet_becomes_its_document(sample_data: Path) -> None:
    record = decoded(sample_data, "20200202", 1127561445515015011)
    before = copy.deepcopy(record)
    alert = ZTF.shape(record)
    assert record == before  # what was decoded is not changed
    assert (alert.candid, alert.object_id) == (1127561445515015011, "ZTF20aajcbhr")
    assert alert.document["candid"] == 1127561445515015011
    assert len(alert.histories["prv_candidates"]) == 31
    assert alert.histories["fp_hists"] == []
    assert alert.document == {key: value for key, value in before.items() if key not in ("prv_candidates", "fp_hists")}
    assert all(None not in row.values() for row in alert.histories["prv_candidates"])
    assert alert.stamps.science == before["cutoutScience"]["stampData"]
    assert alert.stamps.difference == before["cutoutDifference"]["stampData"]


def test_forced_photometry_of_a_real_packet(sample_data: Path) -> None:
    record = decoded(sample_data, "20231012", 2475433850015010009)
    alert = ZTF.shape(record)
    assert alert.object_id == "ZTF17aadcvhq"
    assert len(alert.histories["prv_candidates"]) == 20
    rows = alert.histories["fp_hists"]
    assert len(rows) == len(record["fp_hists"]) == 21
    assert all(one["jd"] < two["jd"] for one, two in itertools.pairwise(rows))
    oldest = min(record["fp_hists"], key=lambda row: row["jd"])
    assert oldest["forcediffimflux"] in (None, -99999.0)
    assert "forcediffimflux" not in rows[0]
    assert all(value not in (None, -99999, -99999.0) for row in rows for value in row.values())
    candidate = record["candidate"]
    carrier = {"alert_mag": candidate["magpsf"], "alert_ra": candidate["ra"], "alert_dec": candidate["dec"]}
    assert all(carrier.items() <= row.items() for row in rows)
    assert sum("snr" in row for row in rows) > 0


def as_from(rows: list[Record], magnitude: float) -> list[Record]:
    return [row | {"alert_mag": magnitude} for row in rows]


def test_the_brightest_alert_carries_forced_photometry(
    sample_data: Path, mongo: MongoClient[Record], settings: Settings
) -> None:
    """Of one epoch, the measurement that came with the brightest alert stays: in memory as in the archive."""
    alert = ZTF.shape(decoded(sample_data, "20231012", 2475433850015010009))
    rows, magnitude = alert.histories["fp_hists"], alert.document["candidate"]["magpsf"]
    collection = client.data_database(mongo, settings)[ZTF.objects]
    collection.insert_one({"_id": alert.object_id, "prv_candidates": [], "fp_hists": rows[:14]})
    stored = rows[:14]
    updates = [
        (as_from(rows[11:19], 30.0), [magnitude] * 14 + [30.0] * 5),
        (as_from(rows[11:], 15.0), [magnitude] * 11 + [15.0] * 10),
    ]
    for update, expected in updates:
        stored = lightcurve.merge(FORCED, stored + update)
        collection.bulk_write([objects.merge_rows(alert.object_id, ZTF.histories, {"fp_hists": update})])
        found = collection.find_one()
        assert found is not None
        assert [row["alert_mag"] for row in stored] == expected
        assert [row["jd"] for row in stored] == [row["jd"] for row in rows[: len(expected)]]
        assert found["fp_hists"] == stored


def test_every_real_packet_is_taken(sample_data: Path) -> None:
    """Of all schema versions; a history has one row per key, and shaping the same packet again gives the same."""
    decoder, versions, count = Decoder(), set(), 0
    folders = [path for path in (sample_data / "ztf_alerts").iterdir() if path.is_dir() and path.name != "damaged"]
    for path in sorted(path for folder in folders for path in folder.glob("*.avro"))[::5]:
        (record,) = decoder.records(path.read_bytes())
        alert = ZTF.shape(record)
        assert alert.candid == int(path.stem)
        for history in ZTF.histories:
            rows = alert.histories[history.name]
            merged = lightcurve.merge(history, rows)
            assert len(merged) == len(rows)
            assert lightcurve.merge(history, reversed(rows)) == merged
        versions.add(record.get("schemavsn"))
        count += 1
    assert count > 100
    assert {None, "3.2", "4.02"} <= versions


def test_a_packet_of_2018_has_neither_version_nor_drb(sample_data: Path) -> None:
    alert = ZTF.shape(decoded(sample_data, "20180626", 541232923515015002))
    assert "schemavsn" not in alert.document
    assert alert.histories["fp_hists"] == []
    features = ZTF.features(alert, ())
    assert features["drb"] == alert.document["candidate"]["rb"]


def test_null_stamps_are_no_stamps(sample_data: Path) -> None:
    path = next((sample_data / "ztf_alerts" / "20210720_nocutouts").glob("*.avro"))
    (record,) = Decoder().records(path.read_bytes())
    stamps = ZTF.shape(record).stamps
    assert (stamps.science, stamps.template, stamps.difference) == (None, None, None)


# Packets of which something is missing


@pytest.mark.parametrize("name", ["prv_candidates", "fp_hists", "cutoutScience", "schemavsn"])
def test_what_may_be_null_may_be_absent(name: str) -> None:
    record = packet()
    del record[name]
    alert = ZTF.shape(record)
    assert alert.histories == {"prv_candidates": [], "fp_hists": []}
    assert name not in alert.document
    assert (alert.stamps.science is None) == (name == "cutoutScience")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *[((name,), None) for name in ("candid", "objectId", "candidate")],
        *[(("candidate", name), None) for name in ("jd", "ra", "dec")],
        *[(("candidate", name), math.nan) for name in ("jd", "ra", "dec")],
        (("candidate", "jd"), math.inf),
        (("candidate", "jd"), "yesterday"),
        (("candidate", "ra"), -0.001),
        (("candidate", "ra"), 360.001),
        (("candidate", "dec"), 90.001),
        (("candidate", "dec"), -90.001),
        (("candid",), "10"),
        (("candid",), 10.0),
        (("objectId",), ""),
        (("objectId",), 7),
        (("candidate",), "none"),
        (("prv_candidates",), [{"fid": 1}]),
        (("prv_candidates",), [{"jd": None}]),
        (("prv_candidates",), [{"jd": math.nan}]),
        (("fp_hists",), [{"jd": "now"}]),
    ],
)
def test_impossible_packets_are_refused_with_the_reason(path: tuple[str, ...], value: Any) -> None:
    record = packet()
    *outer, name = path
    holder = record[outer[0]] if outer else record
    holder[name] = value
    with pytest.raises(PacketError) as refused:
        ZTF.shape(record)
    assert name in str(refused.value)
    if value is None:
        del holder[name]
        with pytest.raises(PacketError, match=f"required field .*{name}.* is missing"):
            ZTF.shape(record)


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (360.0, 90.0), (359.999, -90.0)])
def test_the_ends_of_the_sky_are_possible(ra: float, dec: float) -> None:
    alert = ZTF.shape(packet(ra=ra, dec=dec))
    assert (alert.ra, alert.dec) == (ra, dec)


@pytest.mark.parametrize(
    ("changes", "young"),
    [
        ({"ndethist": 1, "jdstarthist": JD - 1000.0}, True),
        ({"ndethist": 9, "jdstarthist": JD - 29.9}, True),
        ({"ndethist": 9, "jdstarthist": JD - 30.0}, False),
        ({"ndethist": 9, "jdstarthist": None}, False),
        ({"ndethist": None, "jdstarthist": None}, True),
        ({"ndethist": 0, "jdstarthist": None}, True),
    ],
)
def test_young_objects_keep_forced_photometry(changes: Record, young: bool) -> None:
    assert ZTF.shape(packet(**changes)).keeps == ({"prv_candidates", "fp_hists"} if young else {"prv_candidates"})


# Forced photometry


def test_magnitudes_of_forced_photometry() -> None:
    (row,) = ZTF.shape(packet(fp_hists=[forced()])).histories["fp_hists"]
    assert row["snr"] == 25.0
    assert row["mag"] == pytest.approx(26.0 - 2.5 * math.log10(500.0))
    assert row["magerr"] == pytest.approx(1.0857 * 20.0 / 500.0, rel=1e-4)
    assert row["limmag3sig"] == pytest.approx(26.0 - 2.5 * math.log10(60.0))
    assert row["limmag5sig"] == pytest.approx(26.0 - 2.5 * math.log10(100.0))
    assert (row["alert_mag"], row["alert_ra"], row["alert_dec"]) == (18.0, 150.0, 20.0)


DERIVED = {"snr", "mag", "magerr", "limmag3sig", "limmag5sig"}


@pytest.mark.parametrize(
    ("changes", "derived"),
    [
        ({}, DERIVED),
        ({"forcediffimflux": -500.0}, {"snr", "limmag3sig", "limmag5sig"}),
        ({"forcediffimflux": 0.0}, {"snr", "limmag3sig", "limmag5sig"}),
        ({"forcediffimflux": None}, set()),
        ({"forcediffimflux": -99999.0}, set()),
        ({"forcediffimfluxunc": -99999}, set()),
        ({"forcediffimfluxunc": 0.0}, set()),
        ({"forcediffimfluxunc": -20.0}, set()),
        ({"forcediffimflux": math.nan}, set()),
        ({"forcediffimfluxunc": math.nan}, set()),
        ({"magzpsci": None}, set()),
        ({"magzpsci": math.nan}, {"snr", "magerr"}),
    ],
)
def test_what_cannot_be_computed_is_left_out(changes: Record, derived: set[str]) -> None:
    (row,) = ZTF.shape(packet(fp_hists=[forced(**changes)])).histories["fp_hists"]
    assert row.keys() & DERIVED == derived
    assert all(math.isfinite(row[name]) for name in derived)
    assert None not in row.values()
    assert -99999 not in row.values()


@given(st.floats(), st.floats(), st.floats())
def test_no_flux_breaks_forced_photometry(flux: float, error: float, zero: float) -> None:
    changes = {"forcediffimflux": flux, "forcediffimfluxunc": error, "magzpsci": zero}
    (row,) = ZTF.shape(packet(fp_hists=[forced(**changes)])).histories["fp_hists"]
    assert all(math.isfinite(row[name]) for name in row.keys() & DERIVED)


def test_forced_photometry_is_in_order_of_time_the_first_of_one_jd_stays() -> None:
    rows = [forced(JD - 1.0, fid=1), forced(JD - 3.0, fid=2), forced(JD - 1.0, fid=3), forced(JD - 2.0, fid=4)]
    found = ZTF.shape(packet(fp_hists=rows)).histories["fp_hists"]
    assert [(row["jd"], row["fid"]) for row in found] == [(JD - 3.0, 2), (JD - 2.0, 4), (JD - 1.0, 1)]


def test_an_alert_without_magnitude_carries_none() -> None:
    alert = ZTF.shape(packet(magpsf=None, fp_hists=[forced()]))
    assert alert.document["candidate"]["magpsf"] is None  # nulls of the alert itself are kept
    assert alert.histories["fp_hists"][0]["alert_mag"] is None


# Features


def featured(past: list[tuple[float, float]], **changes: Any) -> Record:
    alert = ZTF.shape(packet(**changes))
    alert.document["candidate"] |= {"ncovhist": 50, "rb": 0.5, "drb": 0.9}
    return dict(ZTF.features(alert, past))


def test_features_of_a_light_curve() -> None:
    past = [(JD - 10.0, 19.0), (JD - 4.0, 16.5), (JD + 1.0, 12.0)]  # the last one is not yet known to the alert
    found = featured(past, jdstarthist=JD - 20.0, ndethist=3)
    assert found["peakmag_so_far"] == 16.5
    assert found["maxmag_so_far"] == 19.0
    assert (found["days_since_peak"], found["days_to_peak"], found["age"]) == (4.0, 16.0, 20.0)
    assert (found["nnondet"], found["drb"]) == (47, 0.9)
    assert found["magpsf"] == 18.0


def test_features_of_a_first_detection() -> None:
    found = featured([])
    assert (found["peakmag_so_far"], found["maxmag_so_far"]) == (18.0, 18.0)
    assert (found["days_since_peak"], found["days_to_peak"], found["age"]) == (0.0, 0.0, 0.0)


def test_a_history_without_a_beginning_has_no_features() -> None:
    found = featured([(JD - 1.0, 17.0)], jdstarthist=None)
    assert not ZTF.history_features & found.keys()


# Topics


@pytest.mark.parametrize("topic", ["ztf_20231012_programid1", "ztf_20991231_programid2", "ztf_20180601_programid3"])
def test_topics_of_ztf(topic: str) -> None:
    found = re.match(ZTF.topics, topic)
    assert found is not None
    assert found["date"] == topic[4:12]
    night = date.fromisoformat(f"{topic[4:8]}-{topic[8:10]}-{topic[10:12]}")
    assert ZTF.topic_of(night, int(topic[-1])) == topic


@pytest.mark.parametrize(
    "topic",
    [
        "ztf_20231012_programid4",
        "ztf_20231012_programid1_test",
        "xztf_20231012_programid1",
        "ztf_2023101_programid1",
        "ztf_20231012_programid",
        "ZTF_20231012_programid1",
        "ztf_20231012",
    ],
)
def test_what_is_no_topic_of_ztf(topic: str) -> None:
    assert re.match(ZTF.topics, topic) is None


# What filters see


@pytest.fixture
def data(mongo: MongoClient[Record], settings: Settings) -> Database[Record]:
    return client.data_database(mongo, settings)


def stored(data: Database[Record], alert: Alert, **known: Any) -> None:
    document = {"_id": alert.candid, **alert.document, "classifications": {"braai": 0.9}, "coordinates": {"l": 1.0}}
    data[ZTF.alerts].insert_one(document)
    if known:
        data[ZTF.objects].insert_one({"_id": alert.object_id, **known})


def seen(data: Database[Record], candids: list[int] | None, permissions: list[int]) -> dict[int, Record]:
    found = data[ZTF.alerts].aggregate(ZTF.filter_prefix(candids, permissions))
    return {document["_id"]: document for document in found}


def test_filters_see_a_year_of_history_of_their_programs(data: Database[Record]) -> None:
    """Every combination of age, program and status: a row is visible exactly if all conditions hold."""
    ages = [-1.0, 0.0, 1.0, 364.99, 365.0, 365.01, 1000.0]
    rows = [
        {"jd": JD - age, "programid": program, "procstatus": status, "n": n}
        for n, (age, program, status) in enumerate(
            (age, program, status) for age in ages for program in (1, 2, 3) for status in ("0", "56", 0)
        )
    ]
    matches = {"Gaia": [{"_id": 1}]}
    stored(data, ZTF.shape(packet()), prv_candidates=rows, fp_hists=rows, cross_matches=matches)
    for permissions in ([1], [1, 2], [1, 2, 3]):
        (found,) = seen(data, [10], permissions).values()
        visible = [row for row in rows if JD - row["jd"] < 365.0 and row["programid"] in permissions]
        assert found["prv_candidates"] == visible
        assert found["fp_hists"] == [row for row in visible if row["procstatus"] == "0"]
        assert found["cross_matches"] == matches
        assert 0 < len(found["fp_hists"]) < len(visible) < len(rows)


def test_filters_see_the_alert_without_its_stamps(data: Database[Record]) -> None:
    alert = ZTF.shape(packet(publisher="ZTF", extra=1))
    stored(data, alert, prv_candidates=[], cross_matches={})
    (found,) = seen(data, [10], [1]).values()
    shown = {name: alert.document[name] for name in ("schemavsn", "publisher", "objectId", "candid", "candidate")}
    derived = {"classifications": {"braai": 0.9}, "coordinates": {"l": 1.0}}
    histories = {"prv_candidates": [], "fp_hists": [], "cross_matches": {}}
    assert found == {"_id": 10, **shown, **derived, **histories}


def test_filters_see_alerts_of_their_programs_only(data: Database[Record]) -> None:
    for candid, program in ((1, 1), (2, 2), (3, 3)):
        record = packet(candid=candid, objectId=f"ZTF23aaaaaa{candid}", programid=program)
        stored(data, ZTF.shape(record), prv_candidates=[])
    assert seen(data, [1, 2, 3], [1]).keys() == {1}
    assert seen(data, [1, 2, 3], [1, 3]).keys() == {1, 3}
    assert seen(data, [2, 3, 99], [1, 2]).keys() == {2}
    assert seen(data, None, [1, 2]).keys() == {1, 2}
    assert seen(data, [1], []) == {}


def test_an_alert_whose_object_is_unknown_has_no_history(data: Database[Record]) -> None:
    stored(data, ZTF.shape(packet()))
    (found,) = seen(data, [10], [1]).values()
    assert (found["prv_candidates"], found["fp_hists"]) == ([], [])
    assert "cross_matches" not in found
