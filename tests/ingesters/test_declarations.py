"""Catalogs that are known by name, from small files in the layout in which they are published, through the command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from click.testing import Result
from pymongo import GEOSPHERE
from pymongo.database import Database
from typer.testing import CliRunner

from kowalski.archive import client, indexes
from kowalski.cli.main import build
from kowalski.ingesters import enrichment
from kowalski.ingesters.lightcurves import PERIODS, STATISTICS
from kowalski.science.coordinates import documents
from kowalski.testing import services

Document = dict[str, Any]
Run = Callable[..., Result]

GAIA_SOURCE = """
    solution_id designation source_id random_index ref_epoch ra ra_error dec dec_error parallax parallax_error
    parallax_over_error pm pmra pmra_error pmdec pmdec_error ra_dec_corr ra_parallax_corr ra_pmra_corr ra_pmdec_corr
    dec_parallax_corr dec_pmra_corr dec_pmdec_corr parallax_pmra_corr parallax_pmdec_corr pmra_pmdec_corr
    astrometric_n_obs_al astrometric_n_obs_ac astrometric_n_good_obs_al astrometric_n_bad_obs_al astrometric_gof_al
    astrometric_chi2_al astrometric_excess_noise astrometric_excess_noise_sig astrometric_params_solved
    astrometric_primary_flag nu_eff_used_in_astrometry pseudocolour pseudocolour_error ra_pseudocolour_corr
    dec_pseudocolour_corr parallax_pseudocolour_corr pmra_pseudocolour_corr pmdec_pseudocolour_corr
    astrometric_matched_transits visibility_periods_used astrometric_sigma5d_max matched_transits new_matched_transits
    matched_transits_removed ipd_gof_harmonic_amplitude ipd_gof_harmonic_phase ipd_frac_multi_peak ipd_frac_odd_win ruwe
    scan_direction_strength_k1 scan_direction_strength_k2 scan_direction_strength_k3 scan_direction_strength_k4
    scan_direction_mean_k1 scan_direction_mean_k2 scan_direction_mean_k3 scan_direction_mean_k4 duplicated_source
    phot_g_n_obs phot_g_mean_flux phot_g_mean_flux_error phot_g_mean_flux_over_error phot_g_mean_mag phot_bp_n_obs
    phot_bp_mean_flux phot_bp_mean_flux_error phot_bp_mean_flux_over_error phot_bp_mean_mag phot_rp_n_obs
    phot_rp_mean_flux phot_rp_mean_flux_error phot_rp_mean_flux_over_error phot_rp_mean_mag
    phot_bp_n_contaminated_transits phot_bp_n_blended_transits phot_rp_n_contaminated_transits
    phot_rp_n_blended_transits phot_proc_mode phot_bp_rp_excess_factor bp_rp bp_g g_rp dr2_radial_velocity
    dr2_radial_velocity_error dr2_rv_nb_transits dr2_rv_template_teff dr2_rv_template_logg dr2_rv_template_fe_h l b
    ecl_lon ecl_lat
"""
"""Columns of ``gaia_source`` in EDR3 (https://gea.esac.esa.int/archive/documentation/GEDR3/Gaia_archive)."""
GAIA = GAIA_SOURCE.split()


@pytest.fixture(scope="module")
def archive(new_archive: Callable[[], Any]) -> Any:
    return new_archive()


@pytest.fixture(scope="module")
def data(archive: Any) -> Database[Document]:
    return client.data_database(archive.mongo, archive.settings)


@pytest.fixture(scope="module")
def run(archive: Any) -> Run:
    environment = services.environment(archive.settings) | {"COLUMNS": "200"}

    def invoke(*arguments: str) -> Result:
        done = CliRunner().invoke(build(), ["ingest", *arguments], env=environment)
        assert done.exit_code == 0, done.output + repr(done.exception)
        return done

    return invoke


def fields_of(index: list[tuple[str, int]]) -> list[str]:
    return [name for name, _ in index]


def test_gaia(run: Run, data: Database[Document], tmp_path: Path) -> None:
    star: dict[str, object] = dict.fromkeys(GAIA, 1.5) | {
        "solution_id": 1636042515805110273, "designation": "Gaia EDR3 4295806720", "source_id": 4295806720,
        "random_index": 545300884, "ra": 44.99615537864534, "dec": 0.005615226341865997, "duplicated_source": "false",
        "astrometric_primary_flag": "true", "phot_g_n_obs": 175,
    }  # fmt: skip
    faint = star | {"source_id": 38655544960, "ra": 45.00432028915398} | {"dr2_radial_velocity": "null", "bp_rp": ""}
    faint["phot_bp_mean_mag"] = "NOT_AVAILABLE"
    rows = [",".join(GAIA), *(",".join(str(row[name]) for name in GAIA) for row in (star, faint))]
    (tmp_path / "GaiaSource_000000-003111.csv").write_text("\n".join(rows) + "\n")
    assert "Gaia_EDR3: 2 stored, 0 rejected" in run("Gaia_EDR3", str(tmp_path)).output
    first, second = data["Gaia_EDR3"].find().sort("ra", 1)
    assert (first["_id"], first["source_id"], first["phot_g_n_obs"]) == ("4295806720", 4295806720, 175)
    assert first["duplicated_source"] is False
    assert first.keys() == {*GAIA, "_id", "coordinates"}
    assert first.keys() - second.keys() == {"dr2_radial_velocity", "bp_rp", "phot_bp_mean_mag"}
    assert second["coordinates"]["radec_geojson"]["coordinates"] == [45.00432028915398 - 180.0, 0.005615226341865997]
    built = [fields_of(index["key"]) for index in data["Gaia_EDR3"].index_information().values()]
    assert ["parallax", "phot_g_mean_mag", "dr2_radial_velocity", "dr2_radial_velocity_error"] in built


def test_ps1_strm(run: Run, data: Database[Document], tmp_path: Path) -> None:
    """No header; -999 where there is no photometric redshift."""
    galaxy = (
        "1080012000123456,3000000001,120.0012,0.0123,221,15,GALAXY,0.98,0.01,0.01,0,0.5,1234,0.31,0.04,0.3,0,0.6,77"
    )
    star = (
        "1080012000123457,3000000002,120.0019,0.0129,221,15,STAR,0.01,0.98,0.01,0,0.5,1235,-999,-999.0,-999,0,-999,-999"
    )
    (tmp_path / "hlsp_ps1-strm_ps1_gpc1_m02-p01_multi_v1_cat.csv").write_text(f"{galaxy}\n{star}\n")
    run("PS1_STRM", str(tmp_path))
    first, second = data["PS1_STRM"].find().sort("_id", 1)
    assert (first["_id"], first["objID"], first["class"], first["z_phot"]) == (
        "3000000001", 1080012000123456, "GALAXY", 0.31,
    )  # fmt: skip
    assert first.keys() - second.keys() == {"z_phot", "z_photErr", "z_phot0", "cellDistance_Photoz", "cellID_Photoz"}
    assert second["coordinates"]["radec_geojson"]["coordinates"] == [120.0019 - 180.0, 0.0129]


def test_ps1_psc(run: Run, data: Database[Document], tmp_path: Path) -> None:
    """Scores by object: positions are those of PS1_DR1, or of the file if it is said where they are."""
    (tmp_path / "dr1.csv").write_text("objID,raMean,decMean\n105800010001,10.5,-2.25\n")
    run("PS1_DR1", str(tmp_path / "dr1.csv"), "--id", "objID")
    path = tmp_path / "hlsp_ps1-psc_ps1_gpc1_-2_multi_v1_cat.fits"
    table = Table({"objid": np.array([105800010001, 105800010002]), "ps_score": [0.875, 0.25]})
    table.write(path)
    assert "PS1_PSC: 1 stored, 1 rejected" in run("PS1_PSC", str(tmp_path)).output
    (found,) = data["PS1_PSC"].find()
    assert (found["_id"], found["ps_score"]) == (105800010001, 0.875)
    assert found["coordinates"]["radec_geojson"]["coordinates"] == [-169.5, -2.25]
    table["raStack"], table["decStack"] = [10.5, 11.5], [-2.25, -2.5]
    table.write(path, overwrite=True)
    data["PS1_PSC"].drop()
    assert "PS1_PSC: 2 stored" in run("PS1_PSC", str(tmp_path), "--ra", "raStack", "--dec", "decStack").output


def test_turbo(run: Run, data: Database[Document], tmp_path: Path) -> None:
    table = pa.table(
        {
            "objectid": [2021, 2022], "filterid": pa.array([1, 1], pa.int8()),
            "fieldid": pa.array([202] * 2, pa.int16()),
            "rcid": pa.array([3, 3], pa.int8()), "objra": pa.array([30.5, 30.6], pa.float32()),
            "objdec": pa.array([-5.25, -5.5], pa.float32()), "nepochs": [2, 0], "hmjd": [[60000.123456, 60001.5], []],
            "mag": pa.array([[17.12345, 17.5], []], pa.list_(pa.float32())),
            "magerr": pa.array([[0.0123, 0.02], []], pa.list_(pa.float32())),
            "clrcoeff": pa.array([[0.1, 0.1], []], pa.list_(pa.float32())), "catflags": [[0, 32768], []],
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "turbo_000202.parquet")
    run("TURBO", str(tmp_path), "--tag", "DR1")
    first, second = data["TURBO_sources_DR1"].find().sort("_id", 1)
    assert {name: first[name] for name in ("_id", "filter", "field", "rc", "nobs")} == {
        "_id": 2021, "filter": 1, "field": 202, "rc": 3, "nobs": 2,
    }  # fmt: skip
    assert first["data"][0] == {"hjd": 60000.12346, "mag": 17.123, "magerr": 0.012, "clrcoeff": 0.1, "catflags": 0}
    assert second["data"] == []


ID = 10**13 + 331 * 10**9 + 7 * 10**7 + 2 * 10**6
"""First id of a source of field 331, readout channel 7 and filter 2."""


@pytest.fixture
def features(tmp_path: Path) -> str:
    """Three sources: one with alerts, matches and a light curve, one with a light curve, one with nothing."""
    with h5py.File(tmp_path / "331_2_2_4.h5", "w") as file:
        statistics = np.ones((3, len(STATISTICS)))
        statistics[:, 0], statistics[:, 1], statistics[:, 2] = ID + np.arange(3), [20.0, 20.01, 20.02], [30.0] * 3
        file["stats"], file["stats_EAOV"] = statistics, np.ones((3, len(PERIODS)))
        file["stats_EAOV"][:, 0] = statistics[:, 0]
    return str(tmp_path)


def test_features_have_what_the_archive_knows_of_their_sources(
    run: Run, data: Database[Document], features: str
) -> None:
    arcsec = 1.0 / 3600.0
    scores = [("ZTFa", 0.5, 0.75), ("ZTFa", 1.0, 0.25), ("ZTFb", 1.5, 0.1), ("ZTFb", 0.1, None), ("ZTFc", 2.5, 1.0)]
    places = documents(np.full(5, 20.0), 30.0 + np.array([each[1] for each in scores]) * arcsec)
    for i, ((name, _, score), place) in enumerate(zip(scores, places, strict=True)):
        classified = {} if score is None else {"braai": score}
        data["ZTF_alerts"].insert_one({"_id": i, "objectId": name, "classifications": classified, "coordinates": place})
    data["ZTF_alerts"].create_index([("coordinates.radec_geojson", GEOSPHERE)])
    for _id, distance, value in (("near", 0.3, 12.5), ("far", 0.9, 9.0)):
        (place,) = documents(np.array([20.0]), np.array([30.0 + distance * arcsec]))
        data["AllWISE"].insert_one({"_id": _id, "w1mpro": value, "ph_qual": "AAAU", "unused": 1, "coordinates": place})
    data["AllWISE"].create_index([("coordinates.radec_geojson", GEOSPHERE)])
    points = [(2.0, 17.2, 0), (1.0, 17.0, 0), (3.0, 10.0, 1), (102.0, 17.0, 0)]
    curve = [{"hjd": hjd, "mag": mag, "catflags": flags} for hjd, mag, flags in points]
    data["ZTF_sources_t"].insert_many([{"_id": ID, "data": curve}, {"_id": ID + 1, "data": []}])

    run("ZTF_source_features", features, "--tag", "t")
    first, second, third = data["ZTF_source_features_t"].find().sort("_id", 1)
    assert (first["field"], first["ccd"], first["quad"], first["filter"]) == (331, 2, 4, 2)
    assert [each["n_ztf_alerts"] for each in (first, second, third)] == [4, 0, 0]
    assert first["mean_ztf_alert_braai"] == pytest.approx((0.5 + 0.1) / 2.0)  # the mean over objects of their means
    assert {name: first[name] for name in first if name.startswith("AllWISE")} == {
        "AllWISE___id": "near", "AllWISE__w1mpro": 12.5, "AllWISE__ph_qual": "AAAU",
    }  # fmt: skip
    assert np.shape(first["dmdt"]) == (26, 26)
    assert np.allclose(first["dmdt"], enrichment.dmdt(np.array([1.0, 2.0, 102.0]), np.array([17.0, 17.2, 17.0])))
    assert np.array_equal(second["dmdt"], np.zeros((26, 26)))
    assert third.keys() & {"dmdt", "mean_ztf_alert_braai", "AllWISE___id"} == set()
    assert indexes.has_sphere(data, "ZTF_source_features_t")


def test_pairs_of_points_are_counted_by_their_differences() -> None:
    found = enrichment.dmdt(np.array([0.0, 0.6, 30.5]), np.array([17.0, 17.6, 16.9]))
    expected = np.zeros((26, 26))
    for dt, dm in ((0.6, 0.6), (30.5, -0.1 - 1e-9), (29.9, -0.7)):
        rows = [i for i in range(26) if enrichment.DM[i] <= dm < enrichment.DM[i + 1]]
        columns = [i for i in range(26) if enrichment.DT[i] <= dt < enrichment.DT[i + 1]]
        expected[rows[0], columns[0]] += 1.0
    assert np.allclose(found, expected / np.linalg.norm(expected))
    assert np.array_equal(enrichment.dmdt(np.array([1.0]), np.array([17.0])), np.zeros((26, 26)))


def test_what_cannot_be_searched_by_position_is_told(archive: Any, data: Database[Document], features: str) -> None:
    data["PS1_DR1"].drop()
    data["PS1_DR1"].insert_one({"_id": 1})
    environment = services.environment(archive.settings)
    done = CliRunner().invoke(build(), ["ingest", "ZTF_source_features", features, "--tag", "u"], env=environment)
    assert done.exit_code == 1
    assert "PS1_DR1 can't be searched: its positions have no index" in str(done.exception)
