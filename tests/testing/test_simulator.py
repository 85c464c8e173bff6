from __future__ import annotations

import gzip
import io
import itertools
import json
from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import settings as profile
from hypothesis import strategies as st

from kowalski.broker.avro import Decoder
from kowalski.surveys.ztf import ZTF
from kowalski.testing import simulator
from kowalski.testing.simulator import Simulated, sources, stamps
from kowalski.testing.simulator.observations import Measurements, Visits
from kowalski.testing.simulator.places import julian_date, letters

Record = dict[str, Any]
COUNT = 250
ASTEROID_FIELDS = ("ssdistnr", "ssmagnr", "ssnamenr")
WRITER = simulator.writer("ZTF")


@pytest.fixture(scope="module")
def made() -> list[Simulated]:
    """A night of simulated alerts, as they come back from their files."""
    decoder = Decoder()
    return [
        Simulated(decoder.records(WRITER.encode(each.packet))[0], each.kind)
        for each in simulator.packets(COUNT, "ZTF", seed=7)
    ]


def by_object(made: list[Simulated]) -> dict[str, list[Record]]:
    objects: dict[str, list[Record]] = defaultdict(list)
    for each in made:
        objects[each.packet["objectId"]].append(each.packet)
    return objects


def image(stamp: bytes) -> np.ndarray:
    with fits.open(io.BytesIO(gzip.decompress(stamp))) as file:
        return file[0].data.astype(float)


def without_words(schema: Any) -> Any:
    """A schema without descriptions."""
    if isinstance(schema, list):
        return [without_words(each) for each in schema]
    if isinstance(schema, dict):
        return {key: without_words(value) for key, value in schema.items() if key != "doc"}
    return schema


# Form


def test_schema_is_that_of_real_packets(sample_data: Path) -> None:
    path = next((sample_data / "ztf_alerts" / "20240715").glob("*.avro"))
    with path.open("rb") as file:
        real = fastavro.reader(file).writer_schema
    assert without_words(WRITER.schema) == json.loads(json.dumps(without_words(real)))


def test_the_strict_writer_of_fastavro_gives_the_same_bytes() -> None:
    for each in simulator.packets(20, "ZTF", seed=3):
        file = io.BytesIO()
        fastavro.writer(file, WRITER.schema, [each.packet], sync_marker=WRITER._sync, strict=True)
        assert file.getvalue() == WRITER.encode(each.packet)


@pytest.mark.parametrize("change", [{"new": 1}, {"candid": None}])
def test_a_record_that_does_not_fit_is_refused(change: Record) -> None:
    packet = next(simulator.packets(1, "ZTF")).packet
    with pytest.raises(ValueError, match=r"new|candid"):
        WRITER.encode(packet | change)
    del packet["candid"]
    with pytest.raises(ValueError, match="candid"):
        WRITER.encode(packet)


def test_equal_arguments_give_equal_bytes() -> None:
    first, again, other = (
        [WRITER.encode(each.packet) for each in simulator.packets(15, "ZTF", seed=seed)] for seed in (5, 5, 6)
    )
    assert first == again
    assert not set(first) & set(other)


@profile(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 12),
    seed=st.integers(0, 2**32),
    repeats=st.floats(0.0, 0.9),
    night=st.dates(date(2018, 6, 1), date(2030, 1, 1)),
)
def test_any_arguments_give_whole_packets(count: int, seed: int, repeats: float, night: date) -> None:
    survey, decoder = ZTF(), Decoder()
    alerts = []
    for each in simulator.packets(count, "ZTF", seed, night, repeats):
        (packet,) = decoder.records(WRITER.encode(each.packet))
        alerts.append(survey.shape(packet))
    assert len(alerts) == count
    assert len({alert.candid for alert in alerts}) == count
    assert len({alert.object_id for alert in alerts}) == (count - int(count * repeats))
    start = julian_date(night)
    for alert in alerts:
        assert start < alert.jd < start + 1.0
        assert alert.document["candidate"]["nid"] == int(start - 2457754.5)
        assert None not in (alert.stamps.science, alert.stamps.template, alert.stamps.difference)


# Objects and their histories


def test_repeats_are_as_many_as_asked_for(made: list[Simulated]) -> None:
    assert len(made) == COUNT
    assert len(by_object(made)) == COUNT - int(COUNT * simulator.REPEATS)


def test_later_packets_remember_earlier_alerts(made: list[Simulated]) -> None:
    repeated = [packets for packets in by_object(made).values() if len(packets) > 1]
    assert len(repeated) > 20
    for packets in repeated:
        for earlier, later in itertools.pairwise(packets):
            (row,) = (row for row in later["prv_candidates"] if row["candid"] == earlier["candid"])
            expected = {name: earlier["candidate"][name] for name in row} | dict.fromkeys(ASTEROID_FIELDS)
            assert row == expected
            assert later["candidate"]["ndethist"] == earlier["candidate"]["ndethist"] + 1
            assert later["candidate"]["ncovhist"] > earlier["candidate"]["ncovhist"]
            assert later["candidate"]["jdstarthist"] == earlier["candidate"]["jdstarthist"]
            positions = [(packet["candidate"]["ra"], packet["candidate"]["dec"]) for packet in (earlier, later)]
            assert positions[0] == positions[1]


def test_rows_of_histories_agree_between_packets(made: list[Simulated]) -> None:
    for packets in by_object(made).values():
        for name, key in (("prv_candidates", ("jd", "fid", "pid", "candid")), ("fp_hists", ("jd",))):
            known: dict[tuple[Any, ...], Record] = {}
            for packet in packets:
                for row in packet[name] or ():
                    assert known.setdefault(tuple(row[part] for part in key), row) == row


def test_histories_hold_the_last_thirty_days_in_order(made: list[Simulated]) -> None:
    for each in made:
        jd = each.packet["candidate"]["jd"]
        past = [row["jd"] for row in each.packet["prv_candidates"] or ()]
        forced = [row["jd"] for row in each.packet["fp_hists"] or ()]
        assert past == sorted(past)
        assert forced == sorted(forced, reverse=True)
        assert all(jd - 30.0 < moment < jd for moment in past + forced)


def test_histories_hold_limits_detections_and_twins(made: list[Simulated]) -> None:
    rows = [row for each in made for row in each.packet["prv_candidates"] or ()]
    limits = [row for row in rows if row["candid"] is None]
    assert 0.1 < len(limits) / len(rows) < 0.9
    assert all(row["magpsf"] is None and row["diffmaglim"] is not None for row in limits)
    twins = 0
    for each in made:
        seen = Counter((row["jd"], row["fid"]) for row in each.packet["prv_candidates"] or () if row["candid"])
        twins += max(seen.values(), default=0) > 1
    assert twins > 5


def test_detections_are_above_their_limit(made: list[Simulated]) -> None:
    for each in made:
        candidate = each.packet["candidate"]
        assert candidate["sigmapsf"] < 1.0857 / 5.0 + 1e-6
        assert candidate["scorr"] > 5.0
        assert (candidate["isdiffpos"], candidate["candid"] // 1000 % 1000) in {("t", 15), ("f", 10)}


def test_detections_agree_with_forced_photometry(made: list[Simulated]) -> None:
    compared = 0
    for each in made:
        found = {row["jd"]: row for row in each.packet["prv_candidates"] or () if row["candid"]}
        for row in each.packet["fp_hists"] or ():
            if row["jd"] in found and row["procstatus"] == "0":
                magnitude = row["magzpsci"] - 2.5 * np.log10(abs(row["forcediffimflux"]))
                assert magnitude == pytest.approx(found[row["jd"]]["magpsf"], abs=0.011)
                assert (row["forcediffimflux"] > 0) == (found[row["jd"]]["isdiffpos"] == "t")
                compared += 1
    assert compared > 100


def test_names_of_a_run_differ() -> None:
    assert len({letters(index, 1, 5) for index in range(20_000)}) == 20_000
    assert letters(0, 0, 7) == "aaaaaaa"


# Classes


def test_all_classes_are_there_and_look_like_themselves(made: list[Simulated]) -> None:
    kinds = Counter(each.kind for each in made)
    assert set(kinds) == {"SN Ia", "RR Lyrae", "AGN", "asteroid", "bogus"}
    for each in made:
        candidate = each.packet["candidate"]
        assert (candidate["drb"] > 0.5) == (each.kind != "bogus")
        assert (candidate["ssdistnr"] >= 0.0) == (each.kind == "asteroid")
        if each.kind == "asteroid":
            assert candidate["ndethist"] == 1
            assert not any(row["candid"] for row in each.packet["prv_candidates"] or ())
        if each.kind == "SN Ia":
            assert candidate["isdiffpos"] == "t"
            assert candidate["jd"] - candidate["jdstarthist"] < 60.0
        if each.kind == "RR Lyrae":
            assert candidate["sgscore1"] > 0.9
            assert candidate["distpsnr1"] < 0.5


def test_supernova_rises_to_its_peak_and_fades() -> None:
    random = np.random.default_rng(1)
    supernova = sources.SupernovaIa(random, 2460000.5)
    jd = 2460000.5 + np.arange(-60.0, 60.0, 0.25)
    flux = supernova.difference(jd, np.full(jd.size, sources.R))
    top = int(np.argmax(flux))
    assert np.all(np.diff(flux[: top + 1]) >= 0.0)
    assert np.all(np.diff(flux[top:]) <= 0.0)
    assert flux[top] == pytest.approx(sources.flux_of(supernova._peak + 0.1), rel=1e-3)


def test_rr_lyrae_repeats_with_its_period() -> None:
    star = sources.RRLyrae(np.random.default_rng(2), 2460000.5)
    jd = 2460000.5 + np.linspace(0.0, 1.0, 50)
    band = np.full(50, sources.G)
    assert star.difference(jd, band) == pytest.approx(star.difference(jd + 5 * star._period, band), rel=1e-4, abs=1e-3)
    assert np.ptp(star.difference(jd, band)) > 0.0


def test_measurements_scatter_as_their_errors_say() -> None:
    random = np.random.default_rng(3)
    supernova = sources.SupernovaIa(random, 2460000.5)
    pulls = []
    for _ in range(40):
        visits = Visits.plan(random, 2460000.5, 20)
        measured = Measurements.of(supernova, visits, random)
        pulls.append((measured.flux - supernova.difference(visits.jd, visits.band)) / measured.error)
    assert np.std(np.concatenate(pulls)) == pytest.approx(1.0, abs=0.05)


# Images


def test_stamps_are_images_of_the_usual_size(made: list[Simulated]) -> None:
    shapes, missing = Counter(), 0
    for each in made:
        for field in ZTF.stamp_fields:
            pixels = image(each.packet[field]["stampData"])
            shapes[pixels.shape] += 1
            missing += bool(np.isnan(pixels).any())
    assert shapes[63, 63] > 0.95 * 3 * COUNT
    assert set(shapes) <= {(63, 63), (63, 53)}
    assert missing < 0.05 * 3 * COUNT


def test_difference_shows_the_source_in_the_centre_with_its_flux(made: list[Simulated]) -> None:
    ratios = []
    for each in made:
        candidate = each.packet["candidate"]
        difference = image(each.packet["cutoutDifference"]["stampData"])
        if each.kind == "bogus" or candidate["sigmapsf"] > 0.05 or difference.shape != (63, 63):
            continue
        core = difference[24:39, 24:39]
        sign = 1.0 if candidate["isdiffpos"] == "t" else -1.0
        row, column = np.unravel_index(np.argmax(sign * core), core.shape)
        assert abs(row - 7) <= 2
        assert abs(column - 7) <= 2
        expected = 10.0 ** (-0.4 * (candidate["magpsf"] - candidate["magzpsci"]))
        ratios.append(sign * core.sum() / expected)
    assert len(ratios) > 30
    assert np.median(ratios) == pytest.approx(0.95, abs=0.1)  # the wings reach further than this box


def test_template_of_an_object_stays_the_same(made: list[Simulated]) -> None:
    for packets in by_object(made).values():
        whole = [image(packet["cutoutTemplate"]["stampData"]) for packet in packets]
        full = [each for each in whole if each.shape == (63, 63)]
        assert all(np.array_equal(full[0], each) for each in full)


def test_fits_files_are_whole_blocks() -> None:
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    written = stamps.fits(pixels)
    assert len(gzip.decompress(written)) % 2880 == 0
    assert np.array_equal(image(written), pixels)
    assert stamps.fits(pixels) == written
