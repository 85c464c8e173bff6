"""Rubin's packets, real ones where they are at hand: all forms and versions become documents of one shape."""

from __future__ import annotations

import copy
import gzip
import json
import math
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.time import Time
from pymongo import MongoClient

from kowalski import surveys
from kowalski.api import extjson
from kowalski.archive import indexes, names
from kowalski.broker.avro import Decoder
from kowalski.broker.batch import Packet
from kowalski.broker.context import WorkerContext
from kowalski.broker.pipeline import process
from kowalski.broker.schemas import SchemaStore
from kowalski.config import Settings
from kowalski.science import stamps, triplets
from kowalski.surveys.base import PacketError
from kowalski.testing import simulator

Record = dict[str, Any]

LSST = surveys.get("lsst")
VERSIONS = {701: "7.1", 703: "7.3", 704: "7.4", 900: "9.0", 1000: "10.0"}


@pytest.fixture
def record() -> Record:
    """A simulated packet of an object that stays, with earlier detections."""
    made = simulator.packets(40, "LSST")
    return next(each.packet for each in made if each.packet["diaObject"] and each.packet["prvDiaSources"])


def add_schemas(sample_data: Path, folder: Path) -> SchemaStore:
    store = SchemaStore(LSST, folder)
    for version in VERSIONS.values():
        name = f"lsst.v{version.replace('.', '_')}.alert.avsc"
        store.add(sample_data / "lsst_alerts" / "schema" / version / name)
    return store


def real_messages(sample_data: Path) -> list[bytes]:
    folder = sample_data / "lsst_alerts"
    paths = [*folder.glob("ocf_*/*.avro"), *folder.glob("wire_format/*.avro"), *folder.glob("schema/*/fakeAlert.avro")]
    return [path.read_bytes() for path in sorted(paths)]


# Shape


def test_a_packet_becomes_a_document_of_the_common_shape(record: Record) -> None:
    before = copy.deepcopy(record)
    alert = LSST.shape(record)
    assert record == before
    source, candidate = before["diaSource"], alert.document["candidate"]
    assert (alert.candid, alert.object_id) == (source["diaSourceId"], str(source["diaObjectId"]))
    assert alert.document["candid"] == alert.candid
    assert alert.document["objectId"] == alert.object_id
    assert {name: candidate[name] for name in source} == source
    assert candidate["magpsf"] == pytest.approx(31.4 - 2.5 * math.log10(abs(source["psfFlux"])))
    assert candidate["sigmapsf"] == pytest.approx(2.5 / math.log(10) * source["psfFluxErr"] / abs(source["psfFlux"]))
    assert candidate["diffmaglim"] == pytest.approx(31.4 - 2.5 * math.log10(5 * source["psfFluxErr"]))
    assert candidate["isdiffpos"] is (source["psfFlux"] > 0)
    assert candidate["jd"] == pytest.approx(Time(source["midpointMjdTai"], format="mjd", scale="tai").utc.jd, abs=1e-9)
    assert {"diaSource", "prvDiaSources", "prvDiaForcedSources", "prv_candidates"}.isdisjoint(alert.document)
    assert alert.document["diaObject"] == before["diaObject"]
    assert [row["candid"] for row in alert.histories["prv_candidates"]] == [
        row["diaSourceId"] for row in before["prvDiaSources"]
    ]
    assert len(alert.histories["fp_hists"]) == len(before["prvDiaForcedSources"])
    assert not alert.moves


def test_missing_values_of_rows_are_left_out(record: Record) -> None:
    record["prvDiaSources"] = [record["diaSource"] | {"templateFlux": math.nan, "apFlux": None, "psfFlux": math.nan}]
    (row,) = LSST.shape(record).histories["prv_candidates"]
    assert {"templateFlux", "apFlux", "psfFlux", "magpsf", "isdiffpos"}.isdisjoint(row)
    assert row["diffmaglim"] > 0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"ra": None}, "diaSource.ra is null"),
        ({"midpointMjdTai": math.nan}, "impossible jd"),
        ({"diaSourceId": 1.5}, "candid 1.5 must be an integer"),
        ({"diaObjectId": 0, "ssObjectId": None}, "neither diaObjectId nor ssObjectId"),
    ],
)
def test_a_packet_without_what_is_promised_is_refused(record: Record, change: Record, text: str) -> None:
    record["diaSource"] = record["diaSource"] | change
    record["diaObject"] = None
    with pytest.raises(PacketError, match=text):
        LSST.shape(record)
    del record["diaSource"]["ra"]
    with pytest.raises(PacketError, match=r"diaSource\.ra is missing"):
        LSST.shape(record)


def test_a_moving_object_is_named_by_its_solar_system_identifier(record: Record) -> None:
    record["diaSource"] |= {"diaObjectId": 0, "ssObjectId": 2**62 + 1}
    record["diaObject"] = dict.fromkeys(record["diaObject"])  # as version 10 has it: all null
    alert = LSST.shape(record)
    assert (alert.object_id, alert.moves) == (str(2**62 + 1), True)


def test_light_curves_are_of_the_fluxes_as_they_came(record: Record) -> None:
    alert = LSST.shape(record)
    curve = LSST.alert_curve([alert.document["candidate"], *alert.histories["prv_candidates"]])
    fluxes = sorted(row["psfFlux"] for row in (record["diaSource"], *record["prvDiaSources"]))
    assert sorted(curve.flux.tolist()) == pytest.approx(fluxes)
    assert set(curve.zp) == {31.4}
    assert set(curve.band) <= {"lsstg", "lsstr"}
    forced = LSST.forced_curve(alert.histories["fp_hists"])
    rows = {row["jd"]: row for row in alert.histories["fp_hists"]}
    significant = [abs(row["psfFlux"] / row["psfFluxErr"]) >= 3.0 for _, row in sorted(rows.items())]
    assert np.isfinite(forced.flux).tolist() == significant


def test_bands_topics_and_schema_numbers() -> None:
    assert {LSST.bands[band] for band in "ugrizy"} == {f"lsst{band}" for band in "ugrizy"}
    assert LSST.topic_of(date(2026, 3, 5)) == "lsst_20260305"
    assert LSST.schema_number("lsst.v7_1.alert") == 701
    assert LSST.schema_number("lsst.v11_0.alert") == 1100
    assert LSST.schema_number("alert") is None


def test_stamps_may_be_in_gzip(record: Record) -> None:
    plain = LSST.shape(record).stamps.science or b""
    record["cutoutScience"] = gzip.compress(plain)
    packed = LSST.shape(record).stamps.science or b""
    assert (stamps.read(packed) == stamps.read(plain)).all()


# Real packets


def test_the_simulated_schema_is_the_real_one(sample_data: Path, tmp_path: Path) -> None:
    real = json.loads(add_schemas(sample_data, tmp_path).text(1000))
    assert without_words(real) == without_words(simulator.writer("LSST").schema)


def without_words(schema: Any) -> Any:
    """A schema's names and types."""
    if isinstance(schema, list):
        return [without_words(each) for each in schema]
    if isinstance(schema, dict) and set(schema) <= {"type", "doc"}:
        return without_words(schema["type"])
    if isinstance(schema, dict):
        kept = {
            key: value for key, value in schema.items() if key in ("name", "type", "fields", "items", "logicalType")
        }
        return {key: without_words(value) for key, value in kept.items()}
    return schema


def test_all_forms_and_versions_of_real_packets(sample_data: Path, tmp_path: Path) -> None:
    decoder = Decoder(add_schemas(sample_data, tmp_path))
    records = [record for message in real_messages(sample_data) for record in decoder.records(message)]
    alerts = [LSST.shape(record) for record in records]
    assert len(alerts) == 40 + 7 + 4 + 2
    assert sum(alert.moves for alert in alerts) == 2 + 2  # version 10, and version 9 with an ssSource
    with_stamps = [alert for alert in alerts if alert.stamps.science is not None]
    assert len(with_stamps) == 49
    _, valid = triplets.make([alert.stamps for alert in with_stamps])
    large = [max(stamps.read(alert.stamps.science or b"").shape) > triplets.SIDE for alert in with_stamps]
    assert (~valid).tolist() == large
    rich = max(alerts, key=lambda alert: len(alert.histories["prv_candidates"]))
    assert len(rich.histories["prv_candidates"]) == 391
    fields = {name for alert in alerts for name in alert.document}
    assert {"ssSource", "mpc_orbits", "MPCORB", "prvDiaNondetectionLimits", "lc_features", "clf"} <= fields


def test_a_night_of_all_versions_is_stored_and_read_back_to_the_digit(
    sample_data: Path, settings: Settings, mongo: MongoClient[Record], tmp_path: Path
) -> None:
    store = add_schemas(sample_data, tmp_path)
    settings.path.data = tmp_path / "data"
    context = WorkerContext.open(settings, LSST)
    indexes.ensure(context.data, settings, LSST)
    context.decoder = Decoder(store)
    messages = real_messages(sample_data)
    packets = [Packet("lsst_20260305", 0, offset, 1_700_000_000_000, value) for offset, value in enumerate(messages)]
    packets.append(Packet("lsst_20260305", 0, len(messages), 1_700_000_000_000, b"\x00\x00\x00\x04\x4crubbish"))
    for _ in range(2):  # a repetition changes nothing
        report = process(packets, context)
        assert report.rejected == 1
        expected = {
            record["diaSource"]["diaSourceId"]: record for m in messages for record in Decoder(store).records(m)
        }
        stored = {document["_id"]: document for document in context.data[LSST.alerts].find()}
        assert stored.keys() == expected.keys()
    (letter,) = context.system[names.DEAD_LETTERS].find()
    assert "schema 1100" in letter["reason"]
    for candid, document in stored.items():
        (read,) = extjson_roundtrip([document])
        assert read["candid"] == candid == read["candidate"]["diaSourceId"]
        for name, value in expected[candid]["diaSource"].items():
            same = document["candidate"][name]
            assert same == value or (math.isnan(same) and math.isnan(value))
    rich = context.data[LSST.objects].find_one({"_id": "314002971860926640"}) or {}
    assert (len(rich["prv_candidates"]), len(rich["fp_hists"])) == (391, 340)
    context.data.client.close()


def extjson_roundtrip(documents: list[Record]) -> list[Record]:
    """What a client gets of documents."""
    from bson import json_util

    decoded: list[Record] = json_util.loads(extjson.dumps(documents).decode())
    return decoded
