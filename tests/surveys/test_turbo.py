"""TURBO's packets: nearly everything is null, and their schema is none by the letter of the specification."""

from __future__ import annotations

from pathlib import Path

from kowalski import surveys
from kowalski.broker.avro import Decoder
from kowalski.science import stamps
from kowalski.science.photometry import alert_photometry

TURBO = surveys.get("TURBO")


def test_all_real_packets_are_taken_in(sample_data: Path) -> None:
    decoder = Decoder()
    files = sorted((sample_data / "turbo_alerts").glob("*.avro"))
    alerts = [TURBO.shape(record) for file in files for record in decoder.records(file.read_bytes())]
    assert sorted(alert.candid for alert in alerts) == [0, 1, 2, 4, 8, 9, 10]
    for alert in alerts:
        assert alert.object_id.startswith("None.")
        assert alert.histories == {"prv_candidates": []}
        assert stamps.read(alert.stamps.science or b"").shape == (63, 63)
        # without a limiting magnitude there is no photometry
        assert len(alert_photometry([alert.document["candidate"]], TURBO.bands)) == 0


def test_filters_have_numbers_for_names() -> None:
    row = {"jd": 2459875.5, "fid": 1, "magpsf": 15.0, "sigmapsf": 0.1, "diffmaglim": 17.5, "isdiffpos": 1.0}
    assert alert_photometry([row], TURBO.bands).band.tolist() == ["1"]
