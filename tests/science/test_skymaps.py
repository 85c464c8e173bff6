"""Localizations: credible regions against mocpy and geometry, at poles, across RA 0, beyond a hemisphere."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mocpy import MOC

from kowalski.science import contours, skymap_files, skymaps
from kowalski.science.coordinates import separation
from kowalski.science.mocs import SKY_DEG2, Moc, cells_of_sky
from kowalski.science.skymaps import Skymap, SkymapError

LEVELS = (50.0, 90.0, 95.0)
FILES = ("localization.fits", "bayestar.fits.gz", "GRB220617A_IPN_map_hpx.fits.gz")


POSITIONS = st.tuples(
    st.floats(0.0, 360.0) | st.sampled_from([0.0, 90.0, 180.0, 270.0, 360.0]),
    st.floats(-90.0, 90.0) | st.sampled_from([-90.0, -45.0, 0.0, 90.0]),
)


def mocpy_area(skymap: Skymap, level: float) -> float:
    """Area in square degrees of mocpy's credible region."""
    orders = np.broadcast_to(skymap.orders, skymap.cells.shape)
    probability = skymap.density * 4.0**-orders
    region = MOC.from_valued_healpix_cells(
        ((np.int64(4) << (2 * orders)) + skymap.cells).astype(np.uint64),
        (probability / probability.sum()).astype(np.float64),
        max_depth=int(orders.max()) + 3,
        cumul_to=level / 100.0,
        no_split=False,
    )
    return float(region.sky_fraction) * SKY_DEG2


def cap_area(radius: float) -> float:
    return SKY_DEG2 * (1.0 - math.cos(math.radians(radius))) / 2.0


def read(path: Path) -> Skymap:
    return skymap_files.read(path.read_bytes(), max_bytes=450 << 20, max_cells=12 << 20)


@pytest.mark.sample_data
@pytest.mark.parametrize("name", FILES)
def test_areas_of_real_maps_agree_with_mocpy(name: str, sample_data: Path) -> None:
    skymap = read(sample_data / "skymaps" / name)
    for level, region in skymap.regions(LEVELS).items():
        assert region.area == pytest.approx(mocpy_area(skymap, level), rel=0.01)


@pytest.mark.sample_data
@pytest.mark.parametrize("name", FILES)
def test_areas_of_real_maps_agree_with_ligo_skymap(name: str, sample_data: Path) -> None:
    io = pytest.importorskip("ligo.skymap.io", reason="ligo.skymap is not installed: compared with mocpy only")
    from ligo.skymap.postprocess import crossmatch

    path = sample_data / "skymaps" / name
    expected = crossmatch(io.read_sky_map(str(path), moc=True), contours=[level / 100.0 for level in LEVELS])
    for region, area in zip(read(path).regions(LEVELS).values(), expected.contour_areas, strict=True):
        assert region.area == pytest.approx(area, rel=0.01)
        drawn = drawn_area(contours.multipolygon(region, 90))
        assert drawn == pytest.approx(area, rel=0.01)


@pytest.mark.sample_data
@pytest.mark.parametrize(("name", "levels"), [("ls_footprint_moc.fits", (90.0,)), ("sample_area.fits", (50.0, 99.0))])
def test_a_plain_region_is_the_same_at_every_level(name: str, levels: tuple[float, ...], sample_data: Path) -> None:
    path = sample_data / "skymaps" / "moc" / name
    expected = MOC.from_fits(str(path))
    for region in read(path).regions(levels).values():
        assert region.area == pytest.approx(expected.sky_fraction * SKY_DEG2, rel=1e-6)
        fine = region.ranges.astype(np.uint64) << np.uint64(2 * (29 - region.order))
        assert np.array_equal(fine, np.asarray(expected.to_depth29_ranges).reshape(-1, 2))


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.floats(0.5, 4.0), st.integers(0, 2**32 - 1))
def test_areas_of_any_map_agree_with_mocpy(order: int, contrast: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    cells = np.sort(random.choice(cells_of_sky(order), cells_of_sky(order) // 2, replace=False))
    skymap = skymaps.from_uniq((4 << (2 * order)) + cells, random.random(cells.size) ** contrast + 1e-9)
    for level, region in skymap.regions((30.0, 90.0)).items():
        assert region.area == pytest.approx(mocpy_area(skymap, level), rel=0.01)


PLACES = [(90.0, 30.0), (0.0, 0.0), (359.9, -45.0), (10.0, 89.5), (123.0, -90.0)]


@pytest.mark.parametrize(("ra", "dec"), PLACES)
@pytest.mark.parametrize("sigma", [0.0003, 0.5, 10.0])
def test_cones_everywhere(ra: float, dec: float, sigma: float) -> None:
    held = 0.9 * (1.0 - math.exp(-(skymaps.CONE_SIGMAS**2) / 2.0))
    radius = sigma * math.sqrt(-2.0 * math.log(1.0 - held))
    region = skymaps.cone(ra, dec, sigma).regions([90.0])[90.0]
    assert region.area == pytest.approx(cap_area(radius), rel=0.01 if sigma < 10 else 0.03)  # the sky is no plane
    around = np.linspace(0, 2 * np.pi, 50)
    inner, outer = (circle(ra, dec, radius * factor, around) for factor in (0.93, 1.07))
    assert region.contains(*inner).all()
    assert not region.contains(*outer).any()


def circle(ra: float, dec: float, radius: float, angles: Any) -> tuple[Any, Any]:
    """Positions around another one."""
    d, r = math.radians(min(max(dec, -90.0 + 1e-6), 90.0 - 1e-6)), math.radians(radius)
    lat = np.arcsin(math.sin(d) * math.cos(r) + math.cos(d) * math.sin(r) * np.cos(angles))
    lon = math.radians(ra) + np.arctan2(
        np.sin(angles) * math.sin(r) * math.cos(d), math.cos(r) - math.sin(d) * np.sin(lat)
    )
    return np.degrees(lon) % 360.0, np.degrees(lat)


def test_a_cone_larger_than_the_sky_and_one_smaller_than_a_cell() -> None:
    wide = skymaps.cone(10.0, -20.0, 120.0).regions([90.0])[90.0]
    assert wide.area > SKY_DEG2 / 2
    assert wide.contains(10.0, -20.0).all()
    assert not wide.contains(190.0, 20.0).any()
    assert skymaps.cone(10.0, -20.0, 1e-9).regions([90.0])[90.0].contains(10.0, -20.0).all()


@pytest.mark.parametrize(("ra", "dec"), PLACES)
@pytest.mark.parametrize(("major", "minor", "angle"), [(20.0, 5.0, 30.0), (0.01, 0.01, 0.0), (3.0, 0.05, 120.0)])
def test_ellipses_everywhere(ra: float, dec: float, major: float, minor: float, angle: float) -> None:
    region = skymaps.ellipse(ra, dec, major, minor, angle).regions([90.0])[90.0]
    assert region.area == pytest.approx(math.pi * major * minor, rel=0.01 if major < 10 else 0.02)
    turn = np.radians([angle, angle + 180.0, angle + 90.0, angle + 270.0])
    for reach, inside in ((0.95, True), (1.05, False)):
        for axis, pair in ((major, turn[:2]), (minor, turn[2:])):
            assert (region.contains(*circle(ra, dec, axis * reach, pair)) == inside).all()


def test_polygons_across_ra_zero_around_poles_and_beyond_a_hemisphere() -> None:
    square = [(359.0, -1.0), (1.0, -1.0), (1.0, 1.0), (359.0, 1.0)]
    region = skymaps.polygon(square).regions([90.0])[90.0]
    assert region.area == pytest.approx(4.0, rel=0.01)
    assert region.contains([0.0, 359.5, 2.0, 180.0], [0.0, 0.9, 0.0, 0.0]).tolist() == [True, True, False, False]
    for pole in (90.0, -90.0):
        corners = [(ra, math.copysign(80.0, pole)) for ra in (0.0, 90.0, 180.0, 270.0)]
        for around in (corners, corners[::-1]):
            region = skymaps.polygon(around).regions([90.0])[90.0]
            assert region.contains([0.0, 45.0], [pole, pole * 0.93]).all()
            assert region.area == pytest.approx(201.0, rel=0.01)
    outside = skymaps.polygon(square, (180.0, 0.0)).regions([90.0])[90.0]
    assert outside.area == pytest.approx(SKY_DEG2 - 4.0, rel=1e-3)
    with pytest.raises(SkymapError, match="three different corners"):
        skymaps.polygon([(1.0, 2.0), (1.0, 2.0), (2.0, 2.0)])


@pytest.mark.parametrize(
    ("uniq", "density", "reason"),
    [
        ([3], [1.0], "number is 4"),
        ([2**62], [1.0], "number is 4"),
        ([4, 16], [1.0, 1.0], "overlap"),
        ([4, 4], [1.0, 1.0], "overlap"),
        ([4, 5], [1.0], "as many cells as densities"),
        ([4, 5], [1.0, -1.0], "from 0 on"),
        ([4, 5], [1.0, math.nan], "from 0 on"),
        ([4, 5], [0.0, 0.0], "zero everywhere"),
        ([], [], "zero everywhere"),
    ],
)
def test_wrong_cells_are_refused(uniq: list[int], density: list[float], reason: str) -> None:
    with pytest.raises(SkymapError, match=reason):
        skymaps.from_uniq(uniq, density)


@pytest.mark.parametrize("density", [1e308, 5e-324])
def test_densities_may_be_on_any_scale(density: float) -> None:
    regions = skymaps.from_uniq([16, 17, 18], [density, density, 0.0]).regions([50.0, 90.0])
    assert [region.cells.tolist() for region in regions.values()] == [[0, 1], [0, 1]]


@hypothesis_settings(max_examples=30, deadline=None)
@given(st.lists(POSITIONS, min_size=3, max_size=8), st.none() | POSITIONS)
def test_any_corners_make_a_polygon_or_none(corners: list[tuple[float, float]], centre: tuple[float, float]) -> None:
    try:
        region = skymaps.polygon(corners, centre).regions([90.0])[90.0]
    except SkymapError:
        return
    assert 0.0 < region.area <= SKY_DEG2 * (1 + 1e-9)


@hypothesis_settings(max_examples=12, deadline=None)
@given(POSITIONS, st.floats(1e-9, 90.0), st.floats(1e-9, 90.0), st.floats(-360.0, 360.0))
def test_any_ellipse_has_a_bounded_number_of_cells(
    place: tuple[float, float], one: float, other: float, angle: float
) -> None:
    try:
        found = skymaps.ellipse(*place, max(one, other), min(one, other), angle)
    except SkymapError:  # narrower than the cells that are worth while
        return
    assert found.cells.size < 500_000


def test_numbers_of_cells_hold_their_order_exactly() -> None:
    last = np.array([(16 << (2 * order)) - 1 for order in range(30)])
    for order, number in enumerate(last):
        skymap = skymaps.from_uniq([number], [1.0])
        assert (int(skymap.orders[0]), int(skymap.cells[0])) == (order, cells_of_sky(order) - 1)


def annulus() -> Moc:
    """A ring of 10 to 30 degrees around a point 10 degrees from the north pole."""
    outer, inner = cap(10.0, 80.0, 30.0), cap(10.0, 80.0, 10.0)
    return Moc.of_cells(6, np.setdiff1d(outer.cells, inner.cells))


def cap(ra: float, dec: float, radius: float, order: int = 6) -> Moc:
    cells = np.arange(cells_of_sky(order))
    return Moc.of_cells(order, cells[skymaps._distance(cells, order, ra, dec) <= radius])


def drawn_area(outline: dict[str, Any]) -> float:
    """Area of a MultiPolygon by spherical excess: the left side of each polygon's rings together."""
    total = 0.0
    for polygon in outline["coordinates"]:
        left = [contours._area_left(*np.array(ring).T) for ring in polygon]
        total += left[0] - sum(4.0 * math.pi - area for area in left[1:])
    return math.degrees(math.degrees(total))


@pytest.mark.parametrize(
    ("region", "rings"),
    [
        (cap(10.0, 80.0, 20.0), [1]),
        (cap(0.0, 0.0, 20.0), [1]),
        (cap(180.0, -10.0, 100.0), [1]),
        (cap(30.0, 45.0, 140.0), [1]),
        (annulus(), [2]),
        (annulus().complement(), [1, 1]),
        (Moc.of_cells(6, np.concatenate([cap(0.0, 0.0, 9.0).cells, cap(180.0, -50.0, 9.0).cells])), [1, 1]),
        (Moc.of_cells(1, [0, 3]), [1, 1]),  # two cells that only share a corner
        (Moc.of_cells(2, [0]).complement(), [1]),
    ],
)
def test_outlines_enclose_the_region(region: Moc, rings: list[int]) -> None:
    outline = contours.multipolygon(region, 90.0)
    assert (outline["type"], outline["properties"]) == ("MultiPolygon", {"credible_level": 90.0})
    assert sorted(len(polygon) for polygon in outline["coordinates"]) == rings
    assert drawn_area(outline) == pytest.approx(region.area, rel=0.01)
    for ring in (ring for polygon in outline["coordinates"] for ring in polygon):
        assert ring[0] == ring[-1]
        assert len({tuple(point) for point in ring}) == len(ring) - 1, "a ring passes a corner twice"
        lon, lat = np.array(ring[:-1]).T
        assert (lon >= -180.0).all()
        assert (lon <= 180.0).all()
        # Each corner has some of the region and something else next to it.
        around = [circle(x + 180.0, y, 0.05, np.linspace(0.1, 2 * np.pi, 12)) for x, y in zip(lon, lat, strict=True)]
        inside = np.array([region.contains(*near) for near in around])
        assert inside.any(axis=1).all()
        assert not inside.all(axis=1).any()


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.integers(0, 3), st.data())
def test_outlines_of_any_region(order: int, data: st.DataObject) -> None:
    cells = data.draw(st.sets(st.integers(0, cells_of_sky(order) - 1), min_size=1, max_size=60))
    region = Moc.of_cells(order, sorted(cells))
    outline = contours.multipolygon(region, 50.0)
    sides = [frozenset((tuple(a), tuple(b))) for p in outline["coordinates"] for r in p for a, b in pairwise(r)]
    assert len(sides) == len(set(sides))
    assert all(len({tuple(point) for point in ring}) == len(ring) - 1 for p in outline["coordinates"] for ring in p)
    assert (region.area == pytest.approx(SKY_DEG2)) == (outline["coordinates"] == [])


def test_corners_are_those_of_the_cells() -> None:
    from cdshealpix import nested

    for order in (0, 1, 4):
        cells = np.arange(cells_of_sky(order))
        lon, lat = nested.vertices(cells, order)
        for number, corners in enumerate(contours._corners(cells, order)):
            ra, dec = contours._positions(corners, order)
            assert separation(ra, dec, lon.deg[:, number], lat.deg[:, number]).max() < 1e-5
        assert np.unique(contours._corners(cells, order)).size == cells.size + 2  # Euler


def test_an_outline_has_a_limited_number_of_corners() -> None:
    random = np.random.default_rng(2)
    ragged = Moc.of_cells(9, random.choice(cells_of_sky(9), 200_000, replace=False))
    outline = contours.multipolygon(ragged, 90.0)
    assert sum(len(ring) - 1 for polygon in outline["coordinates"] for ring in polygon) <= contours.MAX_CORNERS


def test_what_the_earth_hid_is_taken_out() -> None:
    everywhere = skymaps.uniform(Moc.of_cells(5, np.arange(cells_of_sky(5))))
    left = skymaps.without_cap(
        skymaps.from_uniq((4 << 10) + np.arange(cells_of_sky(5)), np.ones(cells_of_sky(5))), 40.0, -89.0, 67.0
    )
    region = left.regions([100.0])[100.0]
    assert everywhere.regions([1.0])[1.0].area == pytest.approx(SKY_DEG2)
    assert region.area == pytest.approx(SKY_DEG2 - cap_area(67.0), rel=0.01)
    assert not region.contains(40.0, -89.0).any()
