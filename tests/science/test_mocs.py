"""Regions of HEALPix cells against mocpy, the library of the standard's authors."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st
from mocpy import MOC

from kowalski.science.coordinates import separation
from kowalski.science.mocs import Moc, cells_of_sky


@st.composite
def mixed_cells(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    orders = draw(st.lists(st.integers(0, 6), min_size=1, max_size=30))
    return orders, [draw(st.integers(0, cells_of_sky(order) - 1)) for order in orders]


def reference(orders: list[int], cells: list[int]) -> MOC:
    return MOC.from_healpix_cells(np.array(cells, np.uint64), np.array(orders, np.uint8), max_depth=max(orders))


def same(found: Moc, expected: MOC) -> bool:
    fine = found.ranges.astype(np.uint64) << np.uint64(2 * (29 - found.order))
    return bool(np.array_equal(fine, np.asarray(expected.to_depth29_ranges).reshape(-1, 2)))


@settings(max_examples=60, deadline=None)
@given(mixed_cells())
def test_joins_complements_and_degrades_like_mocpy(given: tuple[list[int], list[int]]) -> None:
    found, expected = Moc.of_cells(*given), reference(*given)
    assert same(found, expected)
    assert found.area == pytest.approx(expected.sky_fraction * 41252.96125, rel=1e-9)
    assert same(found.complement(), expected.complement())
    assert found.complement().complement().ranges.tolist() == found.ranges.tolist()
    assert np.array_equal(found.cells, np.sort(expected.flatten().astype(np.int64)))
    for order in range(found.order):
        assert same(found.at_order(order, covered=0.0), expected.degrade_to_order(order))
    assert Moc.from_document(found.document()).ranges.tolist() == found.ranges.tolist()


@settings(max_examples=30, deadline=None)
@given(mixed_cells(), st.integers(0, 2**32 - 1))
def test_contains_what_mocpy_says(given: tuple[list[int], list[int]], seed: int) -> None:
    random = np.random.default_rng(seed)
    ra = np.concatenate([random.uniform(0, 360, 200), [0.0, 360.0, 359.999999, 0.0, 123.0]])
    dec = np.concatenate([np.degrees(np.arcsin(random.uniform(-1, 1, 200))), [0.0, 0.0, 5.0, 90.0, -90.0]])
    expected = reference(*given).contains_lonlat(ra * u.deg, dec * u.deg)
    assert np.array_equal(Moc.of_cells(*given).contains(ra, dec), expected)


@settings(max_examples=40, deadline=None)
@given(mixed_cells(), st.integers(1, 200), st.integers(0, 2**32 - 1))
def test_circles_cover_the_region(given: tuple[list[int], list[int]], count: int, seed: int) -> None:
    region = Moc.of_cells(*given)
    caps = region.caps(count)
    random = np.random.default_rng(seed)
    ra, dec = random.uniform(0, 360, 3000), np.degrees(np.arcsin(random.uniform(-1, 1, 3000)))
    inside = region.contains(ra, dec)
    if caps is None:
        return
    assert len(caps) <= count
    nearest = np.min([separation(a, d, ra, dec) / 3600.0 - radius for a, d, radius in caps], axis=0)
    assert (nearest[inside] <= 0.0).all()


def test_coarser_cells_keep_the_area() -> None:
    random = np.random.default_rng(1)
    ragged = Moc.of_cells(8, np.flatnonzero(random.random(cells_of_sky(8)) < 0.5))
    assert len(ragged.ranges) > 100_000
    coarse = ragged.within(2_000)
    assert len(coarse.ranges) <= 2_000
    assert coarse.order < 8
    block = Moc.of_cells(4, np.arange(100, 700))
    assert block.at_order(2).area == pytest.approx(block.area, rel=0.05)


def test_nothing_and_everything() -> None:
    nothing = Moc.of_cells(3, [])
    assert (nothing.size, nothing.complement().area) == (0, pytest.approx(41252.96125))
    assert not nothing.contains(10.0, 20.0).any()
    assert nothing.complement().contains([0.0, 180.0], [90.0, -90.0]).all()
