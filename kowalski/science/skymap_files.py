"""Localizations in FITS files: maps in one order, multi-order maps, and plain regions (MOC).

Formats: HEALPix in FITS (https://healpix.sourceforge.io/data/examples/healpix_fits_specs.pdf), multi-order maps of
gravitational-wave events (https://emfollow.docs.ligo.org/userguide/tutorial/multiorder_skymaps.html), MOC 2.0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from astropy.io.fits import Header
from numpy.typing import NDArray

from kowalski.science import skymaps
from kowalski.science.fits_tables import FitsError, Table, first_table
from kowalski.science.mocs import MAX_ORDER, Moc
from kowalski.science.skymaps import Skymap, SkymapError

PROBABILITY = ("PROB", "PROBABILITY", "PROBDENSITY", "SIGNAL", "T", "TEMPERATURE", "I_STOKES")
"""Names of columns that hold a map of one order, by preference: HEALPix software calls it by the last ones."""
PIECE = 1 << 20
"""Pixels that are read at a time."""
MAX_FLAT_ORDER = 13


def read(data: bytes, *, max_bytes: int, max_cells: int) -> Skymap:
    """Read a localization.

    Parameters
    ----------
    data
        A FITS file, plain or in gzip.
    max_bytes
        Size that it may have when unpacked.
    max_cells
        Cells that may have a probability above zero.

    Raises
    ------
    SkymapError
        If it is damaged, too large, or holds no localization.
    """
    try:
        with first_table(data, max_bytes) as table:
            skymap = _read(table, max_cells)
            return _without_earth(skymap, table.header)
    except FitsError as error:
        raise SkymapError(f"the map can't be read: {error}") from error


def _read(table: Table, max_cells: int) -> Skymap:
    _check_frame(table.header)
    columns = table.columns
    if "UNIQ" in columns and "PROBDENSITY" in columns:
        uniq, density = columns["UNIQ"].reshape(-1), columns["PROBDENSITY"].reshape(-1)
        _check_count(uniq.size, max_cells)
        return skymaps.from_uniq(uniq.astype(np.int64), density.astype(np.float64))
    if "UNIQ" in columns:
        uniq = columns["UNIQ"].reshape(-1)
        _check_count(uniq.size, max_cells)
        return skymaps.from_uniq(uniq.astype(np.int64), np.ones(uniq.size))
    if "RANGE" in columns:
        return skymaps.uniform(_region(columns["RANGE"].reshape(-1), table.header, max_cells))
    name = next((name for name in PROBABILITY if name in columns), None)
    if name is None:
        raise SkymapError(f"the map has none of the columns UNIQ, RANGE, {', '.join(PROBABILITY)}")
    return _flat(columns[name], table.header, max_cells)


def _flat(pixels: NDArray[Any], header: Header, max_cells: int) -> Skymap:
    if str(header.get("INDXSCHM", "IMPLICIT")).strip().upper() == "EXPLICIT" and "PIXEL" in str(header.get("TTYPE1")):
        raise SkymapError("maps of a part of the sky, with numbers of pixels, are not supported")
    ordering = str(header.get("ORDERING", "")).strip().upper()
    if ordering not in ("RING", "NESTED", "NEST"):
        raise SkymapError(f"ORDERING of the map is {ordering!r}; known are RING, NESTED, NUNIQ and RANGE")
    nside = math.isqrt(pixels.size // 12)
    order = nside.bit_length() - 1
    if pixels.size != 12 * nside**2 or nside != 1 << order or order > MAX_FLAT_ORDER:
        raise SkymapError(f"the map has {pixels.size} pixels, which is no number of HEALPix pixels")
    rows = max(1, PIECE // pixels.shape[1])
    parts, count = [], 0
    for row in range(0, len(pixels), rows):
        values = pixels[row : row + rows].reshape(-1)
        part = skymaps.from_pixels(values, row * pixels.shape[1], order, ring=ordering == "RING")
        if part is not None:
            count += part.cells.size
            _check_count(count, max_cells)
            parts.append(part)
    return skymaps.joined(parts)


def _region(edges: NDArray[Any], header: Header, max_cells: int) -> Moc:
    """Read ranges of cells of the finest order, as MOC 2.0 has them."""
    if str(header.get("MOCDIM", "SPACE")).strip() != "SPACE":
        raise SkymapError("the region is not one of the sky alone")
    order = header.get("MOCORD_S", MAX_ORDER)
    if not isinstance(order, int) or not 0 <= order <= MAX_ORDER:
        raise SkymapError("MOCORD_S of the region is no order")
    _check_count(edges.size, max_cells)
    if edges.size % 2 or not edges.size:
        raise SkymapError("the region has no ranges, or half of one")
    pairs = edges.astype(np.int64).reshape(-1, 2)
    if (pairs[:, 0] >= pairs[:, 1]).any() or pairs.min() < 0 or pairs.max() > 12 << (2 * MAX_ORDER):
        raise SkymapError("the ranges of the region are none")
    return Moc.of_ranges(MAX_ORDER, pairs[:, 0], pairs[:, 1]).at_order(order, covered=0.0)


def _without_earth(skymap: Skymap, header: Header) -> Skymap:
    """Take out what the Earth hid from Fermi, whose maps say where it was."""
    place = [header.get(name) for name in ("GEO_RA", "GEO_DEC", "GEO_RAD")]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in place):
        return skymap
    ra, dec, radius = (float(value) for value in place if value is not None)
    if not -90.0 <= dec <= 90.0:
        return skymap
    return skymaps.without_cap(skymap, ra % 360.0, dec, radius)


def _check_frame(header: Header) -> None:
    frame = str(header.get("COORDSYS", "C")).strip().upper()
    if frame[:1] not in ("C", "Q", "I", ""):
        raise SkymapError(f"the map is not in equatorial coordinates: COORDSYS is {frame!r}")


def _check_count(count: int, max_cells: int) -> None:
    if count > max_cells:
        raise SkymapError(f"the map has more than {max_cells} cells")
