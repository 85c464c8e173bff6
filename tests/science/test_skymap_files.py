"""Localizations in FITS files: every form that is in use, and whatever strangers may send."""

from __future__ import annotations

import gzip
import io
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from cdshealpix import to_ring
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mocpy import MOC

from kowalski.science import skymap_files
from kowalski.science.fits_tables import FitsError, first_table
from kowalski.science.mocs import cells_of_sky
from kowalski.science.skymaps import Skymap, SkymapError

LIMITS = {"max_bytes": 1 << 20, "max_cells": 20_000}
HEADER = {"PIXTYPE": "HEALPIX", "COORDSYS": "C", "INDXSCHM": "IMPLICIT"}


def fits_file(columns: dict[str, Any], **header: Any) -> bytes:
    """Write a table as astropy does."""
    formats = {"i": "K", "f": "D"}
    made = []
    for name, values in columns.items():
        array = np.asarray(values)
        width = array.shape[1] if array.ndim > 1 else 1
        code = "E" if array.dtype == np.float32 else formats[array.dtype.kind]
        made.append(fits.Column(name=name, array=array, format=f"{width}{code}"))
    table = fits.BinTableHDU.from_columns(made)
    table.header.update({**HEADER, **header})
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(buffer)
    return buffer.getvalue()


def by_cell(skymap: Skymap) -> dict[int, float]:
    return dict(zip(skymap.cells.tolist(), skymap.density.tolist(), strict=True))


VALUES = np.random.default_rng(3).random(cells_of_sky(3))
NESTED = dict(enumerate(VALUES.tolist()))


@pytest.mark.parametrize("shape", [(768,), (12, 64), (1, 768)])
@pytest.mark.parametrize("packed", [False, True])
def test_maps_of_one_order(shape: tuple[int, ...], packed: bool) -> None:
    along_rings = np.empty_like(VALUES)
    along_rings[to_ring(np.arange(VALUES.size), 3).astype(int)] = VALUES
    for name, ordering, values in (("PROB", "NESTED", VALUES), ("PROBABILITY", "RING", along_rings)):
        data = fits_file({"OTHER": np.zeros(shape, np.int64), name: values.reshape(shape)}, ORDERING=ordering)
        found = skymap_files.read(gzip.compress(data) if packed else data, **LIMITS)
        assert (int(found.orders), by_cell(found)) == (3, NESTED)


def test_pixels_without_a_value_have_no_probability() -> None:
    values = VALUES.astype(np.float32)
    values[:4] = np.nan, -1.6375e30, 0.0, 1.0
    found = skymap_files.read(fits_file({"PROB": values}, ORDERING="NESTED"), **LIMITS)
    assert found.cells.tolist() == list(range(3, 768))


def test_multi_order_maps_and_regions() -> None:
    uniq, density = np.array([4 * 4 + 3, 4 * 16 + 100, 4 + 9]), np.array([0.5, 2.0, 0.0])
    found = skymap_files.read(fits_file({"UNIQ": uniq, "PROBDENSITY": density}, ORDERING="NUNIQ"), **LIMITS)
    assert (found.orders.tolist(), by_cell(found)) == ([1, 2], {3: 0.5, 100: 2.0})
    region = MOC.from_healpix_cells(np.array([5, 130], np.uint64), np.array([1, 3], np.uint8), max_depth=4)
    for compatible in (True, False):
        buffer = io.BytesIO()
        fits.HDUList(region.serialize("fits", v1_compatible=compatible)).writeto(buffer)
        area = skymap_files.read(buffer.getvalue(), **LIMITS).regions([90.0])[90.0].area
        assert area == pytest.approx(region.sky_fraction * 41252.96125)


def test_what_the_earth_hid_from_fermi() -> None:
    earth = {"GEO_RA": 40.0, "GEO_DEC": -89.0, "GEO_RAD": 67.0}
    flat = np.ones(cells_of_sky(5))
    found = skymap_files.read(fits_file({"PROBABILITY": flat}, ORDERING="NESTED", **earth), **LIMITS)
    region = found.regions([90.0])[90.0]
    assert region.contains([40.0, 40.0], [-89.0, 20.0]).tolist() == [False, True]


@pytest.mark.parametrize(
    ("columns", "header", "reason"),
    [
        ({"RATE": VALUES}, {"ORDERING": "RING"}, "none of the columns"),
        ({"PROB": VALUES[:-1]}, {"ORDERING": "RING"}, "767 pixels"),
        ({"PROB": np.ones(12 * 9)}, {"ORDERING": "RING"}, "108 pixels"),
        ({"PROB": VALUES}, {"ORDERING": "SPIRAL"}, "ORDERING"),
        ({"PROB": VALUES}, {}, "ORDERING"),
        ({"PROB": VALUES}, {"ORDERING": "RING", "COORDSYS": "G"}, "equatorial"),
        ({"PROB": -VALUES}, {"ORDERING": "RING"}, "from 0 on"),
        ({"PROB": VALUES * np.inf}, {"ORDERING": "RING"}, "from 0 on"),
        ({"PROB": VALUES * 0}, {"ORDERING": "RING"}, "zero everywhere"),
        ({"PROB": np.ones(cells_of_sky(6))}, {"ORDERING": "NESTED"}, "more than 20000 cells"),
        ({"UNIQ": np.array([4, 16]), "PROBDENSITY": np.ones(2)}, {"ORDERING": "NUNIQ"}, "overlap"),
        ({"RANGE": np.array([0, 5, 9])}, {"ORDERING": "RANGE"}, "half of one"),
        ({"RANGE": np.array([5, 0])}, {"ORDERING": "RANGE"}, "are none"),
        ({"RANGE": np.array([0, 2**62])}, {"ORDERING": "RANGE"}, "are none"),
        ({"RANGE": np.array([0, 5])}, {"ORDERING": "RANGE", "MOCDIM": "TIME"}, "sky alone"),
        ({"RANGE": np.array([0, 5])}, {"ORDERING": "RANGE", "MOCORD_S": 99}, "MOCORD_S"),
    ],
)
def test_what_is_no_localization_is_refused(columns: dict[str, Any], header: dict[str, Any], reason: str) -> None:
    with pytest.raises(SkymapError, match=reason):
        skymap_files.read(fits_file(columns, **header), **LIMITS)


GOOD = fits_file({"PROB": VALUES}, ORDERING="NESTED")


def changed(old: bytes, new: bytes) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new.ljust(len(old))[: max(len(old), len(new))])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no FITS file"),
        (b"PK\x03\x04 a zip archive", "no FITS file"),
        (b"BZh9 something", "no FITS file"),
        (gzip.compress(GOOD)[:-400], "cut off|damaged"),
        (gzip.compress(b""), "no FITS file"),
        (b"\x1f\x8b\x08" + b"x" * 50, "damaged|cut off"),
        (gzip.compress(bytes(8 << 20)), "larger than 1048576 bytes"),
        (gzip.compress(bytes(600_000)) * 2, "larger than 1048576 bytes"),
        (GOOD + bytes(1 << 20), "larger than 1048576 bytes"),
        (GOOD[:2880], "no binary table"),
        (GOOD[:4000], "within a header"),
        (GOOD[:6000], "ends within its table"),
        (GOOD[:2880].replace(b"END", b"XXX"), "within a header"),
        (b"SIMPLE  =".ljust(300 * 2880), "longer than"),
        (changed(b"NAXIS2  =                  768", b"NAXIS2  =            768000000"), "ends within its table"),
        (changed(b"NAXIS2  =                  768", b"NAXIS2  =                   -1"), "NAXIS2"),
        (changed(b"NAXIS1  =                    8", b"NAXIS1  =                    4"), "wider than its rows"),
        (changed(b"TFIELDS =                    1", b"TFIELDS =                    2"), "TFORM2"),
        (changed(b"TFIELDS =                    1", b"TFIELDS =              1000000"), "more than 999 columns"),
        (changed(b"'1D      '", b"'1Z      '"), "TFORM1"),
        (changed(b"'1D      '", b"'1PD(9)  '"), "none of the columns"),
        (changed(b"NAXIS1  =", b"NAXIS7  ="), "NAXIS1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",  # a gzip header holds the time
)
def test_damaged_and_malicious_files_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(SkymapError, match=reason):
        skymap_files.read(data, **LIMITS)


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8)), max_size=6))
def test_any_change_is_either_read_or_refused(changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(GOOD)
    for at, some in changes:
        data[at : at + len(some)] = some
    try:
        found = skymap_files.read(bytes(data), **LIMITS)
    except SkymapError:
        return
    assert np.isfinite(found.density).all()
    assert found.cells.size <= LIMITS["max_cells"]


@hypothesis_settings(max_examples=40, deadline=None)
@given(st.data())
def test_columns_are_those_that_astropy_reads(data: st.DataObject) -> None:
    rows = data.draw(st.integers(0, 5))
    kinds = data.draw(
        st.lists(
            st.sampled_from(["B", "I", "J", "K", "E", "D", "3D", "2I", "A", "7A", "L", "10X", "C"]),
            min_size=1,
            max_size=6,
        )
    )
    columns = [fits.Column(name=f"c{i}", format=kind) for i, kind in enumerate(kinds)]
    table = fits.BinTableHDU.from_columns(columns, nrows=rows)
    random = np.random.default_rng(0)
    raw = table.data.view(np.ndarray)
    for i, kind in enumerate(kinds):
        if kind[-1] in "BIJKED":
            raw[f"c{i}"] = random.integers(0, 100, raw[f"c{i}"].shape)
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(np.zeros((3, 4))), table]).writeto(buffer)
    with fits.open(io.BytesIO(buffer.getvalue())) as expected, first_table(buffer.getvalue(), 1 << 20) as found:
        assert set(found.columns) == {f"C{i}" for i, kind in enumerate(kinds) if kind[-1] in "BIJKED"}
        for name, values in found.columns.items():
            assert np.array_equal(values.reshape(-1), expected[1].data[name.lower()].reshape(-1))


def test_a_file_without_a_table_is_no_map() -> None:
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((5, 5)))]).writeto(buffer)
    with pytest.raises(FitsError, match="no binary table"), first_table(buffer.getvalue(), 1 << 20):
        pass
