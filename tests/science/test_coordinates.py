"""Positions agree with astropy everywhere, and HEALPix neighbourhoods miss nobody."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Angle, BarycentricMeanEcliptic, SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from kowalski.science import coordinates


@pytest.fixture(scope="module")
def sky() -> SkyCoord:
    """10,000 positions, with the poles, RA 0 and 360 and the equator among them."""
    rng = np.random.default_rng(5)
    ra = rng.uniform(0.0, 360.0, 10_000)
    dec = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, ra.size)))
    ra[:6], dec[:6] = [0.0, 360.0, 0.0, 123.0, 180.0, 359.9999999999], [90.0, -90.0, 0.0, 90.0, -90.0, 0.0]
    return SkyCoord(ra, dec, unit="deg")


def arcsec_between(one: SkyCoord, lon: np.ndarray, lat: np.ndarray) -> float:
    other = SkyCoord(lon, lat, unit="deg", frame=one.frame.replicate_without_data())
    return float(one.separation(other).arcsec.max())


def test_galactic_equals_astropy(sky: SkyCoord) -> None:
    lon, lat = coordinates.galactic(sky.ra.deg, sky.dec.deg)
    assert arcsec_between(sky.galactic, lon, lat) < 1e-6
    assert lon.min() > -180.0
    assert lon.max() <= 180.0


def test_ecliptic_equals_astropy(sky: SkyCoord) -> None:
    lon, lat = coordinates.ecliptic(sky.ra.deg, sky.dec.deg)
    assert arcsec_between(sky.transform_to(BarycentricMeanEcliptic(equinox="J2000")), lon, lat) < 1e-6
    assert lon.min() >= 0.0
    assert lon.max() < 360.0


@given(st.floats(0, 360), st.floats(-90, 90), st.floats(0, 360), st.floats(-90, 90))
def test_separation_equals_astropy(ra1: float, dec1: float, ra2: float, dec2: float) -> None:
    expected = SkyCoord(ra1, dec1, unit="deg").separation(SkyCoord(ra2, dec2, unit="deg")).arcsec
    assert coordinates.separation(ra1, dec1, ra2, dec2) == pytest.approx(expected, abs=1e-6)


@given(st.floats(0, 360), st.floats(-90, 90))
def test_sexagesimal_reads_back(ra: float, dec: float) -> None:
    right, declination = coordinates.sexagesimal(ra, dec)
    assert Angle(right, "hourangle").deg % 360 == pytest.approx(ra % 360, abs=1e-6) or ra > 359.999999
    assert Angle(declination, "deg").deg == pytest.approx(dec, abs=2e-7)


@pytest.mark.parametrize(
    ("ra", "dec", "expected"),
    [
        (0.0, 0.0, ["00:00:00.0000", "00:00:00.000"]),
        (360.0, 90.0, ["00:00:00.0000", "90:00:00.000"]),
        (359.99999999, -0.5, ["00:00:00.0000", "-0:30:00.000"]),
        (14.99999999, -5.0, ["01:00:00.0000", "-5:00:00.000"]),
        (15.25, 59.99999999, ["01:01:00.0000", "60:00:00.000"]),
        (299.999999999, -89.99999999999, ["20:00:00.0000", "-90:00:00.000"]),
    ],
)
def test_sexagesimal_carries_seconds_that_round_to_60(ra: float, dec: float, expected: list[str]) -> None:
    assert coordinates.sexagesimal(ra, dec) == expected


@pytest.mark.parametrize(("ra", "dec"), [(-0.1, 0.0), (360.1, 0.0), (0.0, 90.1), (float("nan"), 0.0)])
def test_sexagesimal_refuses_what_is_no_position(ra: float, dec: float) -> None:
    with pytest.raises(ValueError, match="out of range"):
        coordinates.sexagesimal(ra, dec)


def test_documents_have_the_archives_shape() -> None:
    (document,) = coordinates.documents(np.array([200.0]), np.array([-10.0]))
    assert document["radec_geojson"] == {"type": "Point", "coordinates": [20.0, -10.0]}
    assert set(document) == {"radec_str", "radec_geojson", "l", "b", "geocentricmeanecliptic", "hpx_14"}
    assert document["hpx_14"] == coordinates.healpix_cells([200.0], [-10.0], 14)[0]
    assert set(document["geocentricmeanecliptic"]) == {"lambda", "beta"}


@pytest.mark.parametrize(("order", "radius"), [(16, 0.5), (16, 2.0), (14, 8.0), (8, 20.0), (8, 300.0), (8, 512.0)])
@pytest.mark.parametrize("region", ["pole", "corner", "seam", "belt", "anywhere"])
def test_cells_around_a_position_hold_every_neighbour(order: int, radius: float, region: str) -> None:
    """Also at the poles, at the eight points where only eight cells meet, and on the seams of the polar caps."""
    rng = np.random.default_rng(order)
    n = 50_000
    ra, dec = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    belt = np.degrees(np.arcsin(2 / 3)) * rng.choice([1, -1], n)
    if region == "pole":
        dec = np.clip(90.0 - rng.exponential(1.0, n) * rng.choice([1e-3, 0.1, 1.0, 10.0], n), -90, 90)
    elif region == "corner":
        ra, dec = (rng.choice([0, 90, 180, 270], n) + rng.normal(0, 1e-3, n)) % 360, belt + rng.normal(0, 1e-3, n)
    elif region == "belt":
        dec = belt + rng.normal(0, 1, n)
    elif region == "seam":
        ra, dec = (rng.choice([0, 90, 180, 270], n) + rng.normal(0, 0.01, n)) % 360, rng.uniform(42, 90, n)
    edge = SkyCoord(ra, dec, unit="deg").directional_offset_by(
        rng.uniform(0, 360, n) * u.deg, radius * 0.999999 * u.arcsec
    )
    cells = coordinates.healpix_cells(edge.ra.deg, edge.dec.deg, order)
    nine = coordinates.healpix_neighbourhood(ra, dec, order)
    assert (nine == cells[:, None]).any(axis=1).all()
    touched = coordinates.healpix_cones(ra, dec, radius, order)
    assert (touched == cells[:, None]).any(axis=1).all()
    assert ((touched == nine) | (touched == -1)).all()


def test_a_cone_touches_fewer_cells_than_there_are_around_it() -> None:
    rng = np.random.default_rng(1)
    ra, dec = rng.uniform(0, 360, 1000), rng.uniform(-60, 60, 1000)
    assert (coordinates.healpix_cones(ra, dec, 300.0, 8) >= 0).sum(axis=1).mean() < 3.5
    assert (coordinates.healpix_cones(ra, dec, 2.0, 16) >= 0).sum(axis=1).mean() < 5.5


def test_best_order_is_the_finest_that_serves_the_radius() -> None:
    assert coordinates.best_order(2.0, [8, 14, 16]) == 16
    assert coordinates.best_order(5.0, [8, 14, 16]) == 14
    assert coordinates.best_order(5.0, [16]) is None
    assert coordinates.best_order(300.0, [8, 16]) == 8
