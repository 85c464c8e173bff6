"""WINTER's packets of today and of 2022: one shape of document for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kowalski import surveys
from kowalski.broker.avro import Decoder
from kowalski.science import stamps
from kowalski.science.photometry import alert_photometry
from kowalski.surveys.base import Alert

WINTER = surveys.get("WNTR")
ROW = {"jd": 2460380.5, "fid": 2, "magpsf": 15.0, "sigmapsf": 0.1, "diffmaglim": 17.5, "isdiffpos": True}


def shaped(folder: Path) -> dict[int, Alert]:
    decoder = Decoder()
    records = [record for file in sorted(folder.glob("*.avro")) for record in decoder.records(file.read_bytes())]
    return {alert.candid: alert for alert in map(WINTER.shape, records)}


def test_a_real_packet(sample_data: Path) -> None:
    alert = shaped(sample_data / "wntr_alerts" / "20240311")[3608694]
    assert alert.object_id == alert.document["objectid"] == "WNTR24awati"
    (row,) = alert.histories["prv_candidates"]
    assert row["jd"] == 2460380.0425021877
    curve = alert_photometry([alert.document["candidate"], row], WINTER.bands)
    assert (len(curve), curve.band.tolist()) == (1, ["2massj"])  # the earlier detection has no limiting magnitude
    assert curve.flux[0] > 0.0
    assert {"cutout_science", "cutout_template", "cutout_difference"} <= alert.document.keys()
    assert stamps.read(alert.stamps.difference or b"").shape == (81, 81)


@pytest.mark.parametrize(("night", "count", "objects"), [("20240311", 7, "WNTR24"), ("20220815", 3, "WIRC21")])
def test_all_real_packets_are_taken_in(sample_data: Path, night: str, count: int, objects: str) -> None:
    alerts = shaped(sample_data / "wntr_alerts" / night)
    assert len(alerts) == count
    for alert in alerts.values():
        assert alert.object_id.startswith(objects)
        assert not {"objectId", "cutoutScience"} & alert.document.keys()
        assert alert.document["objectid"] == alert.object_id
        assert stamps.read(alert.stamps.science or b"").shape == (81, 81)
        assert len(alert_photometry([alert.document["candidate"]], WINTER.bands)) == 1


@pytest.mark.parametrize(
    ("fid", "bands"), [(1, ["ps1::y"]), (2, ["2massj"]), (3, ["2massh"]), (4, []), (0, []), (None, [])]
)
def test_dark_exposures_have_no_flux(fid: int | None, bands: list[str]) -> None:
    assert alert_photometry([ROW | {"fid": fid}], WINTER.bands).band.tolist() == bands


@pytest.mark.parametrize(
    ("sign", "positive"),
    [(True, True), (False, False), (1, True), (0, False), (1.0, True), ("1", True), ("t", True), ("f", False)],
)
def test_the_sign_of_the_difference_may_be_of_any_type(sign: Any, positive: bool) -> None:
    assert bool(alert_photometry([ROW | {"isdiffpos": sign}], WINTER.bands).flux[0] > 0.0) == positive
