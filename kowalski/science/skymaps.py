"""Localizations of events: how probable each part of the sky is, and the smallest region of a given probability.

A map is a set of HEALPix cells (nested; Górski et al. 2005, ApJ 622, 759) with a probability density each, in one or in
several orders as gravitational-wave maps have them (Singer & Price 2016, PRD 93, 024013).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import astropy.units as u
import cdshealpix
import numpy as np
from astropy.coordinates import Angle, Latitude, Longitude
from cdshealpix import nested
from numpy.typing import ArrayLike, NDArray

from kowalski.science.coordinates import separation, unit_vectors
from kowalski.science.mocs import MAX_ORDER, SKY_DEG2, Integers, Moc, cells_of_sky

Floats = NDArray[np.floating]

CONE_SIGMAS = 4.0
"""Where the Gaussian of a cone is cut off."""
CELL_DEG = math.degrees(math.sqrt(math.pi / 3.0))
"""Size of a cell of order 0."""
LARGE_CELL = 0.005
"""Part of a region from which on its last cell is split."""
SPLIT_ORDERS = 3
COARSEST = 3
"""Order from which on ellipses are refined."""
CELL_RADIUS = 100.0
"""Distance from the centre of a cell to its corners in degrees, times 2**-order, as the zenithal equidistant projection
stretches it within 97 degrees of its centre."""
NEARLY_A_POLE = 90.0 - 1e-7
"""At a pole itself right ascension, and so the position angle, would mean nothing."""
UNSEEN = -1.6375e30
"""What HEALPix files have in pixels without a value."""


class SkymapError(ValueError):
    """A localization is not what it must be; the text says why."""


@dataclass(frozen=True, slots=True)
class Skymap:
    """A localization.

    Attributes
    ----------
    orders
        (n,) or (): HEALPix order of each cell, or of all.
    cells
        (n,) nested cells that do not overlap.
    density
        (n,) probability per area, above zero, on any scale.
    """

    orders: Integers
    cells: Integers
    density: Floats

    @property
    def peak(self) -> tuple[float, float]:
        """Right ascension and declination, in degrees, of the centre of the most probable cell."""
        best = int(np.argmax(self.density))
        order = int(np.broadcast_to(self.orders, self.cells.shape)[best])
        lon, lat = nested.healpix_to_lonlat(self.cells[best : best + 1], order)
        return float(lon.deg[0]), float(lat.deg[0])

    def regions(self, levels: Iterable[float]) -> dict[float, Moc]:
        """Find the smallest regions that hold given parts of the probability.

        Cells enter in the order of their density, and those of equal density together: of a map that is the same
        everywhere no part is better than another, so each of its regions is the whole of it.

        Parameters
        ----------
        levels
            Per cent.
        """
        descending = np.argsort(self.density, kind="stable")[::-1]
        scaled = self.density / self.density.max()  # so that no sum is beyond what numbers can be
        held = np.cumsum((scaled * 4.0**-self.orders)[descending], dtype=np.float64)
        return {level: self._region(descending, held, level) for level in levels}

    def _region(self, descending: Integers, held: Floats, level: float) -> Moc:
        # Sums of millions of parts are no exact ones: without the tolerance 100 per cent might not be reached.
        wanted = held[-1] * level / 100.0 * (1.0 - 1e-12)
        rank = int(np.searchsorted(held, wanted))
        last = descending[rank]
        orders = np.broadcast_to(self.orders, self.cells.shape)
        chosen = self.density >= self.density[last]
        region = Moc.of_cells(orders[chosen], self.cells[chosen])
        order = int(orders[last])
        alone = (self.density[descending[max(rank - 1, 0) : rank + 2]] == self.density[last]).sum() == 1
        if not alone or SKY_DEG2 / cells_of_sky(order) <= LARGE_CELL * region.area:
            return region
        # A few large cells: of the last one only as much enters as is needed.
        before = held[rank - 1] if rank else 0.0
        deeper = min(SPLIT_ORDERS, MAX_ORDER - order)
        pieces = math.ceil((wanted - before) / (held[rank] - before) * 4.0**deeper)
        chosen[last] = False
        return Moc.of_cells(
            np.concatenate([orders[chosen], np.full(pieces, order + deeper)]),
            np.concatenate([self.cells[chosen], (self.cells[last] << (2 * deeper)) + np.arange(pieces)]),
        )


def from_uniq(uniq: ArrayLike, density: ArrayLike) -> Skymap:
    """Read a multi-order map: cell numbers with their order in them (4 * 4**order + cell), and densities.

    Raises
    ------
    SkymapError
        If a number is no cell's, cells overlap, or the densities are no densities.
    """
    numbers, values = np.asarray(uniq, np.int64), np.asarray(density, np.float64)
    if numbers.ndim != 1 or numbers.shape != values.shape:
        raise SkymapError("there must be as many cells as densities")
    firsts = np.int64(4) << (2 * np.arange(MAX_ORDER + 2))
    orders = np.searchsorted(firsts, numbers, side="right") - 1
    if orders.min(initial=0) < 0 or orders.max(initial=0) > MAX_ORDER:
        raise SkymapError(f"a cell's number is 4 * 4**order + cell, with an order up to {MAX_ORDER}")
    cells = numbers - (np.int64(4) << (2 * orders))
    shift = 2 * (MAX_ORDER - orders)
    by_start = np.argsort(cells << shift)
    starts, ends = (cells << shift)[by_start], ((cells + 1) << shift)[by_start]
    if cells.size and (starts[1:] < ends[:-1]).any():
        raise SkymapError("cells overlap")
    return _positive(orders, cells, values)


def from_pixels(values: ArrayLike, first: int, order: int, *, ring: bool) -> Skymap | None:
    """Read consecutive pixels of a map of one order; None if there is nothing in them.

    Parameters
    ----------
    values
        Probability of each pixel, beginning with number ``first``.
    ring
        Whether pixels are numbered along rings instead of nested.

    Raises
    ------
    SkymapError
        If a value is negative or infinite.
    """
    probability = np.asarray(values, np.float64)
    probability = np.where(np.isnan(probability) | (probability < 0.99 * UNSEEN), 0.0, probability)
    if not np.isfinite(probability).all() or probability.min(initial=0.0) < 0.0:
        raise SkymapError("probabilities must be numbers from 0 on")
    found = np.flatnonzero(probability)
    if not found.size:
        return None
    cells = cdshealpix.from_ring(found + first, order) if ring else found + first
    return Skymap(np.asarray(order), cells.astype(np.int64), probability[found])


def joined(parts: Sequence[Skymap]) -> Skymap:
    """Put parts of a map of one order together.

    Raises
    ------
    SkymapError
        If there are none.
    """
    if not parts:
        raise SkymapError("its probability is zero everywhere")
    cells, density = (np.concatenate([getattr(part, name) for part in parts]) for name in ("cells", "density"))
    return Skymap(parts[0].orders, cells, density)


def uniform(region: Moc) -> Skymap:
    """Make a map of equal density everywhere in a region.

    Raises
    ------
    SkymapError
        If the region is empty.
    """
    orders, cells = _largest_cells(region)
    return _positive(orders, cells, np.ones(cells.size))


def cone(ra: float, dec: float, sigma: float) -> Skymap:
    """Make a Gaussian around a position, cut off at four sigmas; all in degrees."""
    order = _order_for(sigma / 16.0)
    radius = CONE_SIGMAS * sigma
    if radius >= 180.0:
        cells = np.arange(cells_of_sky(order))
    else:
        found, _, _ = nested.cone_search(*_centre(ra, dec), Angle(radius, u.deg), order, depth_delta=0, flat=True)
        cells = found.astype(np.int64)
    distance = _distance(cells, order, ra, dec)
    cells, distance = cells[distance <= radius], distance[distance <= radius]
    if not cells.size:  # narrower than the finest cells: the one that holds the centre
        cells, distance = nested.lonlat_to_healpix(*_centre(ra, dec), order).astype(np.int64), np.zeros(1)
    return Skymap(np.asarray(order), cells, np.exp(-0.5 * (distance / sigma) ** 2))


def ellipse(ra: float, dec: float, major: float, minor: float, angle: float) -> Skymap:
    """Make a uniform ellipse.

    Parameters
    ----------
    ra, dec
        Its centre, in degrees.
    major, minor
        Semi-axes in degrees, ``minor`` <= ``major`` <= 90.
    angle
        Position angle of the major axis in degrees, from north to east.
    """
    finest = max(min(_order_for(minor / 64.0), _order_for(major / 20_000.0)), COARSEST)
    centre, shape = (ra, min(max(dec, -NEARLY_A_POLE), NEARLY_A_POLE)), (major, minor, angle)
    cells, kept_orders, kept = np.arange(cells_of_sky(COARSEST)), [], []
    for order in range(COARSEST, finest + 1):
        place, distance = _place_in_ellipse(cells, order, centre, shape)
        reach = CELL_RADIUS / 2.0**order if order < finest else 0.0
        inside = place <= 1.0 - reach / minor
        kept.append(cells[inside])
        kept_orders.append(np.full(int(inside.sum()), order))
        rim = cells[~inside & (place <= 1.0 + reach / minor) & (distance <= major + reach)]
        cells = ((rim << 2)[:, None] + np.arange(4)).reshape(-1)
    found = np.concatenate(kept)
    return _positive(np.concatenate(kept_orders), found, np.ones(found.size))


def polygon(corners: Sequence[tuple[float, float]], centre: tuple[float, float] | None = None) -> Skymap:
    """Make a uniform polygon, whose sides are great circles.

    Parameters
    ----------
    corners
        (ra, dec) in degrees, three or more.
    centre
        A position inside, which tells on which side the polygon is if it is larger than a hemisphere; without one it
        is the smaller side.

    Raises
    ------
    SkymapError
        If the corners make no polygon.
    """
    ra, dec = np.asarray(corners, np.float64).T
    if len(set(corners)) < 3:
        raise SkymapError("a polygon has at least three different corners")
    vectors = unit_vectors(ra, dec)
    middle = vectors.mean(axis=1)
    extent = math.degrees(float(np.arccos(np.clip(middle @ vectors / np.linalg.norm(middle), -1.0, 1.0)).max()))
    cells, orders, _ = nested.polygon_search(
        Longitude(ra, u.deg), Latitude(dec, u.deg), _order_for(max(extent, 1e-6) / 1024.0)
    )
    region = Moc.of_cells(orders.astype(np.int64), cells.astype(np.int64))
    if centre is not None and not region.contains(*centre):
        region = region.complement()
    return uniform(region)


def without_cap(skymap: Skymap, ra: float, dec: float, radius: float) -> Skymap:
    """Take out what lies within ``radius`` degrees of a position, such as what the Earth hid from a satellite.

    Raises
    ------
    SkymapError
        If nothing is left.
    """
    orders = np.broadcast_to(skymap.orders, skymap.cells.shape)
    kept = np.empty(skymap.cells.size, dtype=bool)
    for order in np.unique(orders):
        chosen = orders == order
        kept[chosen] = _distance(skymap.cells[chosen], int(order), ra, dec) > radius
    return _positive(orders[kept], skymap.cells[kept], skymap.density[kept])


def _positive(orders: Integers, cells: Integers, density: Floats) -> Skymap:
    if not np.isfinite(density).all() or density.min(initial=0.0) < 0.0:
        raise SkymapError("probabilities must be numbers from 0 on")
    found = density > 0.0
    if not found.any():
        raise SkymapError("its probability is zero everywhere")
    return Skymap(orders[found], cells[found], density[found])


def _largest_cells(region: Moc) -> tuple[Integers, Integers]:
    """Cut a region into the fewest cells."""
    orders, cells = [], []
    rest = region
    for order in range(region.order + 1):
        whole = rest.at_order(order, covered=1.0)
        numbers = whole.cells
        orders.append(np.full(numbers.size, order))
        cells.append(numbers)
        shift = 2 * (region.order - order)
        rest = _minus(rest, Moc(region.order, whole.ranges << shift))
    return np.concatenate(orders), np.concatenate(cells)


def _minus(one: Moc, part: Moc) -> Moc:
    """Take a part out of a region; each of its runs lies in one of the region's."""
    edges = np.sort(np.concatenate([one.ranges.ravel(), part.ranges.ravel()])).reshape(-1, 2)
    return Moc(one.order, edges[edges[:, 1] > edges[:, 0]])


def _order_for(size: float) -> int:
    """Choose the coarsest order whose cells are no larger than ``size`` degrees, if there is one."""
    return min(max(math.ceil(math.log2(CELL_DEG / size)), 0), MAX_ORDER)


def _centre(ra: float, dec: float) -> tuple[Longitude, Latitude]:
    return Longitude(ra, u.deg), Latitude(dec, u.deg)


def _distance(cells: Integers, order: int, ra: float, dec: float) -> Floats:
    lon, lat = nested.healpix_to_lonlat(cells, order)
    return separation(ra, dec, lon.deg, lat.deg) / 3600.0


def _place_in_ellipse(
    cells: Integers, order: int, centre: tuple[float, float], shape: tuple[float, float, float]
) -> tuple[Floats, Floats]:
    """Tell where the centres of cells lie, in the zenithal equidistant projection around the centre of an ellipse.

    Returns
    -------
    place
        0 at the centre of the ellipse, 1 on it, above outside.
    distance
        From its centre, in degrees.
    """
    major, minor, angle = shape
    lon, lat = nested.healpix_to_lonlat(cells, order)
    distance = separation(*centre, lon.deg, lat.deg) / 3600.0
    across = np.radians(lon.deg - centre[0])
    d1, d2 = math.radians(centre[1]), np.radians(lat.deg)
    east = np.cos(d2) * np.sin(across)
    north = math.cos(d1) * np.sin(d2) - math.sin(d1) * np.cos(d2) * np.cos(across)
    turned = np.arctan2(east, north) - math.radians(angle)
    return np.hypot(distance * np.cos(turned) / major, distance * np.sin(turned) / minor), distance
