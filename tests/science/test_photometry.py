"""Light curves for SkyPortal: formulas, rules for what is dropped, and counts on real alerts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kowalski import surveys
from kowalski.science.photometry import alert_photometry, forced_photometry

BANDS = {1: "ztfg", 2: "ztfr"}
JD = 2460000.75


def detection(**changes: Any) -> dict[str, Any]:
    row = {"jd": JD, "fid": 1, "magpsf": 18.9, "sigmapsf": 0.1, "diffmaglim": 20.5, "isdiffpos": "t"}
    return row | {"ra": 10.0, "dec": -5.0, "programid": 1} | changes


def forced(**changes: Any) -> dict[str, Any]:
    row = {"jd": JD, "fid": 2, "procstatus": "0", "diffmaglim": 20.0, "magzpsci": 26.0, "programid": 1}
    flux = {"forcediffimflux": 400.0, "forcediffimfluxunc": 40.0}
    return row | flux | {"alert_ra": 10.0, "alert_dec": -5.0} | changes


def packet(sample_data: Path, name: str) -> Mapping[str, Any]:
    with (sample_data / "ztf_alerts" / name).open("rb") as file:
        record: Mapping[str, Any] = next(fastavro.reader(file))
    return record


def test_a_detection() -> None:
    curve = alert_photometry([detection()], BANDS)
    assert curve.mjd.tolist() == [60000.25]
    assert curve.flux[0] == pytest.approx(100.0)  # five magnitudes brighter than one microjansky
    assert curve.fluxerr[0] == pytest.approx(100.0 * 0.1 * math.log(10.0) / 2.5)
    assert (curve.zp[0], curve.band[0], curve.ra[0], curve.dec[0], curve.program[0]) == (23.9, "ztfg", 10.0, -5.0, 1)


def test_a_limit_is_the_five_sigma_depth() -> None:
    curve = alert_photometry([detection(magpsf=None, sigmapsf=None, ra=None, diffmaglim=21.4)], BANDS)
    assert np.isnan(curve.flux[0])
    assert curve.fluxerr[0] == pytest.approx(10.0 / 5.0)
    assert np.isnan(curve.ra[0])


@pytest.mark.parametrize(
    ("isdiffpos", "sign"),
    [
        *((value, 1) for value in ("t", "T", "1", "y", "Y", "true", 1, 1.0, True)),
        *((value, -1) for value in ("f", "0", 0, 0.0, False, None, "")),
    ],
)
def test_sign_of_the_difference(isdiffpos: Any, sign: int) -> None:
    curve = alert_photometry([detection(isdiffpos=isdiffpos)], BANDS)
    assert np.sign(curve.flux[0]) == sign
    assert curve.fluxerr[0] > 0.0


@pytest.mark.parametrize("changes", [{"diffmaglim": None}, {"diffmaglim": 0.0}, {"diffmaglim": -999.0}, {"fid": 9}])
def test_rows_without_depth_or_of_other_bands_are_dropped(changes: dict[str, Any]) -> None:
    assert len(alert_photometry([detection(**changes), detection()], BANDS)) == 1


def test_a_detection_without_error_is_dropped() -> None:
    assert len(alert_photometry([detection(sigmapsf=None)], BANDS)) == 0


def test_a_survey_of_one_band_has_no_filter_ids() -> None:
    row = detection()
    del row["fid"]
    assert alert_photometry([row], {None: "cspjs"}).band.tolist() == ["cspjs"]


def test_equal_rows_are_one_and_time_orders_them() -> None:
    limit = detection(jd=JD - 1.0, magpsf=None)
    rows = [detection(), detection(ra=11.0), detection(fid=2), detection(magpsf=19.0), limit, dict(limit)]
    curve = alert_photometry(rows, BANDS)
    assert np.diff(curve.mjd).min() >= 0.0
    assert len(curve) == 4
    assert curve.ra[1] == 10.0


def test_forced_points() -> None:
    rows = [
        forced(),
        forced(jd=JD + 1, forcediffimflux=100.0),  # 2.5 sigma: a limit
        forced(jd=JD + 2, forcediffimflux=-400.0),
        forced(jd=JD + 3, forcediffimflux=None, forcediffimfluxunc=None),
    ]
    curve = forced_photometry(rows, BANDS)
    assert curve.flux.tolist()[::2] == [400.0, -400.0]
    assert np.isnan(curve.flux[[1, 3]]).all()
    assert curve.fluxerr.tolist() == pytest.approx([40.0, 40.0, 40.0, 10 ** (0.4 * 6.0) / 5.0])
    assert curve.zp.tolist() == [26.0] * 4
    assert set(curve.band) == {"ztfr"}


@pytest.mark.parametrize(
    "changes", [{"procstatus": "56"}, {"procstatus": None}, {"diffmaglim": None}, {"magzpsci": None}, {"fid": 9}]
)
def test_forced_points_that_are_dropped(changes: dict[str, Any]) -> None:
    assert len(forced_photometry([forced(**changes)], BANDS)) == 0


@pytest.mark.parametrize("procstatus", ["0", 0])
def test_procstatus_may_be_text_or_number(procstatus: Any) -> None:
    assert len(forced_photometry([forced(procstatus=procstatus)], BANDS)) == 1


def test_nothing_gives_nothing() -> None:
    assert len(alert_photometry([], BANDS)) == len(forced_photometry([], BANDS)) == 0
    assert alert_photometry([], BANDS).by_program() == {}


def test_split_by_program() -> None:
    rows = [detection(jd=JD + at, programid=program) for at, program in enumerate([1, 2, None, 1, 3])]
    split = alert_photometry(rows, BANDS).by_program()
    assert {program: len(curve) for program, curve in split.items()} == {0: 1, 1: 2, 2: 1, 3: 1}


magnitudes = st.one_of(st.none(), st.floats(10.0, 25.0))


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([1, 2, 3, None]), magnitudes, magnitudes), max_size=30))
def test_what_comes_out_can_be_sent(rows: list[tuple[int, Any, float | None, float | None]]) -> None:
    given_rows = [detection(jd=JD + at, fid=fid, magpsf=mag, diffmaglim=depth) for at, fid, mag, depth in rows]
    curve = alert_photometry(given_rows, BANDS)
    assert np.isfinite(curve.fluxerr).all()
    assert not np.isinf(curve.flux).any()
    keys = {(JD + at, fid, mag) for at, fid, mag, depth in rows if fid in BANDS and depth is not None}
    assert len(curve) == len(keys)
    assert np.isfinite(curve.flux).sum() == sum(mag is not None for _, _, mag in keys)


@pytest.mark.sample_data
def test_counts_on_an_alert_without_forced_photometry(sample_data: Path) -> None:
    survey = surveys.get("ZTF")
    record = packet(sample_data, "20200202/1127561445515015011.avro")
    history = survey.shape(dict(record)).histories["prv_candidates"]
    assert len(alert_photometry([record["candidate"], *history], survey.bands)) == 32


@pytest.mark.sample_data
def test_counts_on_an_alert_with_forced_photometry(sample_data: Path) -> None:
    survey = surveys.get("ZTF")
    record = packet(sample_data, "20231012/2475433850015010009.avro")
    shaped = survey.shape(dict(record))
    alerts = alert_photometry([record["candidate"], *shaped.histories["prv_candidates"]], survey.bands)
    points = forced_photometry(shaped.histories["fp_hists"], survey.bands)
    assert (len(alerts), np.isfinite(alerts.flux).sum()) == (21, 5)
    assert (len(points), np.isfinite(points.flux).sum()) == (7, 6)
    assert np.isfinite(np.concatenate([alerts.fluxerr, points.fluxerr])).all()


@pytest.mark.sample_data
@pytest.mark.parametrize(
    ("name", "bands", "count"),
    [
        ("pgir_alerts/20210629/114297926.avro", {None: "cspjs"}, 71),
        ("wntr_alerts/20240311/3608694.avro", {1: "ps1::y", 2: "2massj", 3: "2massh"}, 1),
    ],
)
def test_counts_on_alerts_of_other_surveys(sample_data: Path, name: str, bands: dict[Any, str], count: int) -> None:
    record = packet(sample_data, f"../{name}")
    assert len(alert_photometry([record["candidate"], *record["prv_candidates"]], bands)) == count
