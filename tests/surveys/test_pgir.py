"""PGIR's packets: one band, a history of a thousand days, text for the sign of the difference."""

from __future__ import annotations

from pathlib import Path

from kowalski import surveys
from kowalski.broker.avro import Decoder
from kowalski.science import lightcurve, stamps
from kowalski.science.photometry import alert_photometry

PGIR = surveys.get("PGIR")
(HISTORY,) = PGIR.histories


def test_a_real_packet(sample_data: Path) -> None:
    (record,) = Decoder().records((sample_data / "pgir_alerts" / "20210629" / "114297926.avro").read_bytes())
    alert = PGIR.shape(record)
    assert (alert.candid, alert.object_id) == (114297926, "PGIR19aacbvv")
    assert alert.document == {name: value for name, value in record.items() if name != "prv_candidates"}
    rows = alert.histories["prv_candidates"]
    assert len(rows) == len(lightcurve.merge(HISTORY, rows)) == 71
    curve = alert_photometry([alert.document["candidate"], *rows], PGIR.bands)
    assert len(curve) == 71
    assert set(curve.band) == {"cspjs"}
    assert (curve.flux[~(curve.flux != curve.flux)] > 0.0).all()
    for data in (alert.stamps.science, alert.stamps.template, alert.stamps.difference):
        assert stamps.read(data or b"").shape == (61, 61)


def test_all_real_packets_are_taken_in(sample_data: Path) -> None:
    decoder = Decoder()
    files = sorted((sample_data / "pgir_alerts").rglob("*.avro"))
    alerts = [PGIR.shape(record) for file in files for record in decoder.records(file.read_bytes())]
    assert len({alert.candid for alert in alerts}) == 10
    assert len({alert.object_id for alert in alerts}) == 8
    assert [alert.candid for alert in alerts] == [int(file.stem) for file in files]
