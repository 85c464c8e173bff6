"""Simulated packets of every survey: whole, readable by both Avro readers, and one story per object."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from kowalski import surveys
from kowalski.broker.avro import Decoder
from kowalski.science import lightcurve, stamps
from kowalski.science.photometry import alert_photometry
from kowalski.surveys import Survey
from kowalski.surveys.base import Alert
from kowalski.testing import simulator
from kowalski.testing.simulator.places import julian_date

COUNT = 30
NIGHT = date(2024, 3, 1)
SIMULATED = [survey for survey in surveys.SURVEYS.values() if survey.simulator is not None]
REAL = {"PGIR": "pgir_alerts/20210629", "WNTR": "wntr_alerts/20240311", "TURBO": "turbo_alerts"}
"""Folders of real packets."""

pytestmark = pytest.mark.parametrize("survey", SIMULATED, ids=lambda survey: survey.name)


def files(survey: Survey, count: int = COUNT, seed: int = 3) -> list[bytes]:
    writer = simulator.writer(survey.name)
    return [writer.encode(each.packet) for each in simulator.packets(count, survey.name, seed, NIGHT)]


def shaped(survey: Survey) -> list[Alert]:
    decoder = Decoder()
    return [survey.shape(record) for file in files(survey) for record in decoder.records(file)]


def without_words(schema: Any) -> Any:
    """A schema without descriptions, and without what readers note in it."""
    if isinstance(schema, list):
        return [without_words(each) for each in schema]
    if isinstance(schema, dict):
        kept = {key: value for key, value in schema.items() if key != "doc" and not key.startswith("__")}
        return {key: value if key == "default" else without_words(value) for key, value in kept.items()}
    return schema


def test_alerts_are_as_many_as_asked_for_and_of_the_night(survey: Survey) -> None:
    alerts = shaped(survey)
    assert len({alert.candid for alert in alerts}) == COUNT
    assert len({alert.object_id for alert in alerts}) == COUNT - int(COUNT * simulator.REPEATS)
    start = julian_date(NIGHT)
    assert all(start < alert.jd < start + 1.0 for alert in alerts)
    for alert in alerts:
        for data in (alert.stamps.science, alert.stamps.template, alert.stamps.difference):
            assert min(stamps.read(data or b"").shape) > 20


def test_equal_arguments_give_equal_bytes(survey: Survey) -> None:
    assert files(survey, 5) == files(survey, 5)
    assert not set(files(survey, 5)) & set(files(survey, 5, seed=4))


def test_both_readers_find_the_same(survey: Survey) -> None:
    fast, reference = Decoder(), Decoder(fast=False)
    for file in files(survey, 5):
        found = fast.records(file)
        assert reference.records(file) == found


def test_rows_of_histories_agree_between_packets(survey: Survey) -> None:
    """What one alert says of a measurement, all alerts of the object say; and an alert is in the next one's history."""
    known: dict[tuple[str, str, Any], Any] = {}
    earlier: dict[str, list[Alert]] = defaultdict(list)
    for alert in shaped(survey):
        for history in survey.histories:
            rows = alert.histories[history.name]
            assert len(lightcurve.merge(history, rows)) == len(rows)
            assert all(row["jd"] < alert.jd for row in rows)
            for row in rows if not history.prefer else ():
                key = (alert.object_id, history.name, lightcurve.sort_key(history, row))
                assert known.setdefault(key, row) == row
        times = {row["jd"] for rows in alert.histories.values() for row in rows}
        assert not times or {before.jd for before in earlier[alert.object_id]} <= times
        earlier[alert.object_id].append(alert)
    assert max(map(len, earlier.values())) > 1


def test_alerts_have_fluxes_in_bands_of_the_survey(survey: Survey) -> None:
    rows = [alert.document["candidate"] | {"diffmaglim": 20.0} for alert in shaped(survey)]
    curve = alert_photometry(rows, survey.bands)
    assert len(curve) == COUNT
    assert set(curve.band) <= set(survey.bands.values())
    assert (curve.flux > 0.0).any()


def test_schema_is_that_of_real_packets(survey: Survey, sample_data: Path) -> None:
    if survey.name not in REAL:
        pytest.skip(f"the schema of {survey.name} is compared elsewhere")
    path = next((sample_data / REAL[survey.name]).glob("*.avro"))
    header = path.read_bytes()
    start = header.index(b'{"')
    real, _ = json.JSONDecoder().raw_decode(header[start:].decode(errors="replace"))
    assert simulator.writer(survey.name).schema == without_words(real)
