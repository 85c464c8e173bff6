"""Whether alerts lie in galaxies, against the published formulas written out once more in plain Python."""

from __future__ import annotations

import math
from typing import Any

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kowalski.science import coordinates, galaxies
from kowalski.science.galaxies import ELLIPSES, NEARBY, DistanceRule, Ellipse

Galaxy = dict[str, Any]

M31, M33 = 596900, 597543
REDSHIFT = DistanceRule("z", "redshift", 30.0, 300.0)
MPC = DistanceRule("DistMpc", "mpc", 30.0, 300.0)

redshifts = st.one_of(st.floats(-0.01, 0.02), st.floats(0.0, 8.0), st.sampled_from([0.005, 0.01, 0.05]))
megaparsecs = st.one_of(st.floats(0.0, 100.0), st.floats(0.0, 1e4), st.sampled_from([0.005, 40.0]))


def in_ellipse(ra: float, dec: float, ra_0: float, dec_0: float, a: float, ratio: float, angle: float) -> bool:
    """Orthographic projection around the ellipse's centre: rotate, then compare with the projected axes."""
    d, d_0, shift, turn = (math.radians(x) for x in (dec, dec_0, ra - ra_0, angle))
    if math.sin(d) * math.sin(d_0) + math.cos(d) * math.cos(d_0) * math.cos(shift) < 0.0:
        return False
    x = math.cos(d) * math.sin(shift)
    y = math.sin(d) * math.cos(d_0) - math.cos(d) * math.sin(d_0) * math.cos(shift)
    along, across = x * math.sin(turn) + y * math.cos(turn), x * math.cos(turn) - y * math.sin(turn)
    eccentricity_2, sine_2 = 1.0 - ratio**2, math.sin(math.radians(a)) ** 2
    return along**2 / sine_2 + across**2 / (sine_2 * (1.0 - eccentricity_2) / (1.0 - eccentricity_2 * sine_2)) < 1.0


def radius_by_redshift(z: float, kpc: float, near: float) -> float:
    return near if z < 0.01 else kpc * 0.05 / z


def radius_by_distance(mpc: float, kpc: float, near: float) -> float:
    return near if mpc < 40.0 else math.degrees(math.atan(kpc / (mpc * 1000.0))) * 3600.0


@given(redshifts)
def test_radius_by_redshift(z: float) -> None:
    assert REDSHIFT.radius(z) == pytest.approx(radius_by_redshift(z, 30.0, 300.0), rel=1e-12)


@given(megaparsecs)
def test_radius_by_distance(mpc: float) -> None:
    assert MPC.radius(mpc) == pytest.approx(radius_by_distance(mpc, 30.0, 300.0), rel=1e-12)


def test_radii_of_known_galaxies() -> None:
    assert REDSHIFT.radius(0.05) == pytest.approx(30.0)
    assert REDSHIFT.radius(0.01) == pytest.approx(150.0)
    assert REDSHIFT.radius(-0.001) == REDSHIFT.radius(0.00999) == 300.0
    assert MPC.radius(39.9) == 300.0
    assert MPC.radius(100.0) == pytest.approx(61.88, abs=0.01)  # 30 kpc at 100 Mpc


@given(redshifts, st.floats(0.0, 400.0))
@example(0.05, 30.0)
@example(0.05, math.nextafter(30.0, 0.0))
def test_a_match_is_a_separation_below_the_radius(z: float, arcsec: float) -> None:
    found = REDSHIFT.match({"_id": 1, "z": z}, arcsec)
    assert (found is not None) == (arcsec < REDSHIFT.radius(z))
    if found is not None:
        kpc = arcsec * (z / 0.05) if z > 0.005 else -1.0
        assert found["coordinates"] == {"distance_arcsec": round(arcsec, 2), "distance_kpc": round(kpc, 2)}


@given(megaparsecs, st.floats(0.0, 400.0))
def test_distances_of_a_match_by_distance(mpc: float, arcsec: float) -> None:
    found = MPC.match({"_id": 1, "DistMpc": mpc}, arcsec)
    assert (found is not None) == (arcsec < MPC.radius(mpc))
    if found is not None:
        kpc = math.radians(arcsec / 3600.0) * mpc * 1000.0 if mpc > 0.005 else -1.0
        assert found["coordinates"]["distance_arcsec"] == pytest.approx(arcsec, abs=0.005001)
        assert found["coordinates"]["distance_kpc"] == pytest.approx(kpc, abs=0.005001)


@given(st.floats(0.0, 360.0), st.floats(-89.0, 89.0), st.floats(0.0, 1.0), st.floats(0.0, 360.0), st.floats(0.01, 2.0))
def test_a_circle_is_a_separation(ra: float, dec: float, radius: float, angle: float, apart: float) -> None:
    """The ellipse of axis ratio 1 and the cut on separation are the same test."""
    assume(radius > 1e-4 and abs(apart - 1.0) > 1e-6)
    centre = SkyCoord(ra, dec, unit="deg")
    point = centre.directional_offset_by(angle * u.deg, apart * radius * u.deg)
    circle = Ellipse(ra, dec, radius, 1.0, 0.0)
    separation = coordinates.separation(ra, dec, point.ra.deg, point.dec.deg)
    assert bool(circle.holds(point.ra.deg, point.dec.deg)) == (separation < radius * 3600.0) == (apart < 1.0)


@pytest.mark.parametrize("galaxy", [M31, M33])
def test_ellipses_equal_the_formulas(galaxy: int) -> None:
    ellipse = ELLIPSES[galaxy]
    random = np.random.default_rng(galaxy)
    ra, dec = ellipse.ra + random.uniform(-3.0, 3.0, 5000), ellipse.dec + random.uniform(-2.0, 2.0, 5000)
    shape = (ellipse.ra, ellipse.dec, ellipse.a, ellipse.ratio, ellipse.angle)
    expected = [in_ellipse(a, d, *shape) for a, d in zip(ra.tolist(), dec.tolist(), strict=True)]
    assert ellipse.holds(ra, dec).tolist() == expected
    assert 0 < sum(expected) < 5000


@pytest.mark.parametrize("galaxy", [M31, M33])
@pytest.mark.parametrize("end", [0.0, 180.0])
def test_ellipses_end_where_their_axes_end(galaxy: int, end: float) -> None:
    """Along the position angle, east of north at the galaxy's centre, and across it; a degree of rotation shows."""
    ellipse = ELLIPSES[galaxy]
    centre = SkyCoord(ellipse.ra, ellipse.dec, unit="deg")
    a = math.radians(ellipse.a)
    e2 = 1.0 - ellipse.ratio**2
    b = math.degrees(math.asin(math.sin(a) * math.sqrt((1.0 - e2) / (1.0 - e2 * math.sin(a) ** 2))))
    assert b == pytest.approx(ellipse.a * ellipse.ratio, rel=1e-3)
    for angle, axis in ((ellipse.angle + end, ellipse.a), (ellipse.angle + 90.0 + end, b)):
        for factor, inside in ((0.99999, True), (1.00001, False)):
            point = centre.directional_offset_by(angle * u.deg, factor * axis * u.deg)
            assert bool(ellipse.holds(point.ra.deg, point.dec.deg)) is inside
    for turned in (1.0, -1.0):
        point = centre.directional_offset_by((ellipse.angle + end + turned) * u.deg, 0.99999 * ellipse.a * u.deg)
        assert not ellipse.holds(point.ra.deg, point.dec.deg)


@pytest.mark.parametrize("galaxy", [M31, M33])
def test_ellipses_do_not_show_on_the_other_side_of_the_sky(galaxy: int) -> None:
    ellipse = ELLIPSES[galaxy]
    assert ellipse.holds(ellipse.ra, ellipse.dec)
    assert ellipse.holds(ellipse.ra + 360.0, ellipse.dec)
    assert not ellipse.holds((ellipse.ra + 180.0) % 360.0, -ellipse.dec)
    assert not ellipse.holds(np.nan, np.nan)


@pytest.mark.parametrize("value", [{}, {"z": None}, {"z": math.nan}, {"z": math.inf}, {"z": "0.05"}, {"DistMpc": 3.0}])
def test_galaxies_without_a_distance_never_match(value: Galaxy) -> None:
    assert REDSHIFT.match({"_id": 1, **value}, 0.0) is None


@pytest.mark.parametrize("galaxy", [M31, M33])
def test_a_catalogs_own_entry_of_a_near_giant_does_not_match(galaxy: int) -> None:
    assert REDSHIFT.match({"_id": galaxy, "z": -0.001}, 1.0) is None
    assert MPC.match({"_id": galaxy, "DistMpc": 0.778}, 1.0) is None


def test_a_match_is_a_copy_that_keeps_the_galaxys_fields() -> None:
    galaxy = {"_id": 1, "z": 0.1, "name": "x", "coordinates": {"radec_str": ["00:00:00.0000", "00:00:00.000"]}}
    first, second = REDSHIFT.match(galaxy, 1.0), REDSHIFT.match(galaxy, 2.0)
    assert first is not None
    assert second is not None
    assert galaxy["coordinates"] == {"radec_str": ["00:00:00.0000", "00:00:00.000"]}
    assert first == galaxy | {"coordinates": galaxy["coordinates"] | {"distance_arcsec": 1.0, "distance_kpc": 2.0}}
    assert second["coordinates"]["distance_arcsec"] == 2.0


def test_the_near_giants_carry_what_catalogs_of_galaxies_carry() -> None:
    andromeda, triangulum = NEARBY
    assert (andromeda["_id"], andromeda["name"]) == (M31, "PGC2557")
    assert (triangulum["_id"], triangulum["name"]) == (M33, "PGC5818")
    assert (andromeda["z"], andromeda["DistMpc"]) == (-0.00100100006, 0.778)
    assert (triangulum["z"], triangulum["DistMpc"]) == (-0.000597000006, 0.869)
    assert (andromeda["a"], andromeda["b2a"], andromeda["pa"]) == (1.624875, 0.331283, 35.0)
    assert (triangulum["a"], triangulum["b2a"], triangulum["pa"]) == (0.603694, 0.602964, 23.0)
    assert andromeda["coordinates"]["radec_str"] == ["00:42:44.3280", "41:16:08.436"]
    assert MPC.measured(andromeda, 3600.0)["coordinates"]["distance_kpc"] == pytest.approx(13.58, abs=0.005)
    assert REDSHIFT.measured(andromeda, 3600.0)["coordinates"]["distance_kpc"] == -1.0
    assert galaxies.ELLIPSES.keys() == {M31, M33}
