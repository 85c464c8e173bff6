"""Outlines of regions, as GeoJSON (RFC 7946), for drawing.

An outline follows the borders of HEALPix cells. Corners of cells are known by whole numbers: the ring of the grid on
which they lie, counted from the north pole, and the place on it (Górski et al. 2005, ApJ 622, 759, section 5). So
neighbours share corners exactly, across the borders of base cells and around the poles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kowalski.science.coordinates import unit_vectors
from kowalski.science.mocs import Integers, Moc

Floats = NDArray[np.float64]
Ring = list[int]

MAX_CORNERS = 20_000
"""An outline with more corners is redrawn in coarser cells."""
MAX_CELLS = 1 << 18
MAX_ORDER = 13
"""Cells of 26 arcsec: corners of finer ones are no longer told apart by the numbers used here."""

RING_OF_BASE = np.array([2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4])
PLACE_OF_BASE = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7])
"""Southern corner of each base cell: its ring, and its longitude in units of 45 degrees."""


def multipolygon(region: Moc, level: float) -> dict[str, Any]:
    """Draw the outline of a region.

    Returns
    -------
    dict
        A GeoJSON ``MultiPolygon`` with ``properties.credible_level``. Longitudes are right ascension minus 180 degrees,
        as in the archive's positions. The sides of a polygon are short great circles; its inside is on the left
        of each ring, also where it is larger than a hemisphere, holds a pole, or crosses longitude 180.
    """
    polygons = [
        [[[round(lon, 7), round(lat, 7)] for lon, lat in ring] for ring in polygon] for polygon in _polygons(region)
    ]
    return {"type": "MultiPolygon", "properties": {"credible_level": level}, "coordinates": polygons}


def _polygons(region: Moc) -> Iterator[list[list[tuple[float, float]]]]:
    drawn = region.at_order(MAX_ORDER)
    while drawn.size > MAX_CELLS:
        drawn = drawn.at_order(drawn.order - 1)
    sides = _sides(drawn)
    while (sides.beyond < 0).sum() > MAX_CORNERS:
        drawn = drawn.at_order(drawn.order - 1)
        sides = _sides(drawn)
    part_of = _parts(sides)
    rings: dict[int, list[tuple[float, Floats]]] = {}
    for ring, cell in _rings(sides):
        lon, lat = _positions(np.array([*ring, ring[0]]), drawn.order)
        outline = np.stack([lon - 180.0, lat], axis=1)
        rings.setdefault(int(part_of[cell]), []).append((_area_left(lon, lat), outline))
    for found in rings.values():
        # What is right of a ring is not in the region; the ring with most of it is the outer one, the others are holes.
        found.sort(key=lambda ring: ring[0])
        yield [[(float(x), float(y)) for x, y in outline] for _, outline in found]


class Sides(NamedTuple):
    """The four sides of each cell of a region, counter-clockwise around it.

    Attributes
    ----------
    begins, ends
        Numbers of their corners.
    owners
        Which cell of the region, counted from 0, a side belongs to.
    beyond
        The cell of the region on its other side, -1 if there is none.
    """

    begins: Integers
    ends: Integers
    owners: Integers
    beyond: Integers


def _sides(region: Moc) -> Sides:
    cells = region.cells
    south, east, north, west = _corners(cells, region.order)
    begins, ends = np.concatenate([south, east, north, west]), np.concatenate([east, north, west, south])
    owners = np.tile(np.arange(cells.size), 4)
    # Each side belongs to one cell of the region or to two: those come together when sides are sorted by their corners.
    names = _pair(np.minimum(begins, ends), np.maximum(begins, ends))
    ascending = np.argsort(names)
    shared = np.flatnonzero(np.diff(names[ascending]) == 0)
    one, other = ascending[shared], ascending[shared + 1]
    beyond = np.full(begins.size, -1)
    beyond[one], beyond[other] = owners[other], owners[one]
    return Sides(begins, ends, owners, beyond)


def _pair(one: Integers, other: Integers) -> Integers:
    """Make one number of two corners: enough for corners up to order 13, of which there are 2**31."""
    return (one << 32) | other


def _corners(cells: Integers, order: int) -> tuple[Integers, Integers, Integers, Integers]:
    """Numbers of the southern, eastern, northern and western corner of each cell."""
    nside = 1 << order
    base, within = cells >> (2 * order), cells & (nside * nside - 1)
    x, y = _even_bits(within), _even_bits(within >> 1)
    return (
        _corner(base, x, y, nside),
        _corner(base, x + 1, y, nside),
        _corner(base, x + 1, y + 1, nside),
        _corner(base, x, y + 1, nside),
    )


def _corner(base: Integers, x: Integers, y: Integers, nside: int) -> Integers:
    ring = RING_OF_BASE[base] * nside - x - y
    quarter = np.minimum(np.minimum(ring, 4 * nside - ring), nside)  # corners in an eighth of the ring
    place = (PLACE_OF_BASE[base] * quarter + x - y) % np.maximum(8 * quarter, 1)
    return np.asarray(ring * (8 * nside) + place)


def _positions(corners: Integers, order: int) -> tuple[Floats, Floats]:
    """Right ascension and declination of corners, in degrees."""
    nside = 1 << order
    ring, place = corners // (8 * nside), corners % (8 * nside)
    quarter = np.minimum(np.minimum(ring, 4 * nside - ring), nside)
    height = np.where(
        quarter < nside,
        np.copysign(1.0 - (quarter / nside) ** 2 / 3.0, 2.0 * nside - ring),
        (2.0 - ring / nside) * 2.0 / 3.0,
    )
    return 45.0 * place / np.maximum(quarter, 1), np.degrees(np.arcsin(height))


def _even_bits(numbers: Integers) -> Integers:
    """Gather every second bit."""
    found = numbers & 0x5555555555555555
    for shift, mask in (
        (1, 0x3333333333333333),
        (2, 0x0F0F0F0F0F0F0F0F),
        (4, 0x00FF00FF00FF00FF),
        (8, 0x0000FFFF0000FFFF),
        (16, 0x00000000FFFFFFFF),
    ):
        found = (found | (found >> shift)) & mask
    return found


def _rings(sides: Sides) -> Iterator[tuple[Ring, int]]:
    """Join the outer sides to rings that pass no corner twice; each comes with one of the cells on its left."""
    outer = sides.beyond < 0
    starts, targets, owned = (values[outer].tolist() for values in (sides.begins, sides.ends, sides.owners))
    leaving: dict[int, list[int]] = {}
    for side, corner in enumerate(starts):
        leaving.setdefault(corner, []).append(side)
    left = set(range(len(targets)))
    while left:
        side = next(iter(left))
        path: list[int] = []  # sides
        place: dict[int, int] = {}  # corner -> its place in the path
        while side in left or path:
            left.discard(side)
            place[starts[side]] = len(path)
            path.append(side)
            corner = targets[side]
            if corner in place:  # a ring is closed; what led to it goes on from here
                cut = place[corner]
                ring, path = path[cut:], path[:cut]
                for closed in ring:
                    del place[starts[closed]]
                yield [starts[closed] for closed in ring], owned[ring[0]]
                if not path:
                    break
            side = next(follower for follower in leaving[corner] if follower in left)


def _parts(sides: Sides) -> Integers:
    """Number the connected parts of a region: cells are connected that share a side."""
    inner = sides.beyond >= 0
    one, other = sides.owners[inner], sides.beyond[inner]
    label = np.arange(sides.owners.size // 4)
    while one.size:
        lower, higher = np.minimum(label[one], label[other]), np.maximum(label[one], label[other])
        np.minimum.at(label, higher, lower)
        while (label != label[label]).any():
            label = label[label]
        apart = label[one] != label[other]
        one, other = one[apart], other[apart]
    return label


def _area_left(lon: Floats, lat: Floats) -> float:
    """Area left of a closed ring, in steradian, from 0 to that of the sky (Gauss-Bonnet: by the turns at corners)."""
    points = unit_vectors(lon[:-1], lat[:-1])
    before, after = np.roll(points, 1, axis=1), np.roll(points, -1, axis=1)
    come, go = np.cross(before, points, axis=0), np.cross(points, after, axis=0)
    turn = np.arctan2((np.cross(come, go, axis=0) * points).sum(axis=0), (come * go).sum(axis=0))
    return float((2.0 * np.pi - turn.sum()) % (4.0 * np.pi))
