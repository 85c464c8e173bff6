"""Regions of the sky as sets of HEALPix cells: multi-order coverage maps (MOC).

The standard is IVOA's MOC 2.0 (https://www.ivoa.net/documents/MOC/): nested cells, as sorted ranges of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from cdshealpix import nested
from numpy.typing import ArrayLike, NDArray

from kowalski.science.coordinates import healpix_cells, separation

Integers = NDArray[np.int64]

MAX_ORDER = 29
BULGE = 1.1
"""Sides of cells are no great circles: how much further than the corners a cell may reach."""
SKY_DEG2 = 4.0 * 180.0**2 / np.pi
"""Area of the whole sky."""


def cells_of_sky(order: int) -> int:
    """Number of cells of an order."""
    return 12 << (2 * order)


@dataclass(frozen=True, slots=True)
class Moc:
    """A region of the sky.

    Attributes
    ----------
    order
        HEALPix order of the cells.
    ranges
        (n, 2): the first cell of each run, and the one after its last; sorted, with gaps between the runs.
    """

    order: int
    ranges: Integers

    @classmethod
    def of_cells(cls, orders: ArrayLike, cells: ArrayLike) -> Moc:
        """Join nested cells, each of an order of its own (or all of one); they may overlap."""
        of_each, numbers = np.broadcast_arrays(np.asarray(orders, np.int64), np.asarray(cells, np.int64))
        finest = int(of_each.max(initial=0))
        shift = 2 * (finest - of_each)
        return cls.of_ranges(finest, numbers << shift, (numbers + 1) << shift)

    @classmethod
    def of_ranges(cls, order: int, starts: Integers, ends: Integers) -> Moc:
        """Join runs of cells in any order; they may overlap."""
        by_start = np.argsort(starts, kind="stable")
        starts, reached = starts[by_start], np.maximum.accumulate(ends[by_start])
        opens = np.ones(starts.size, dtype=bool)
        opens[1:] = starts[1:] > reached[:-1]
        closes = np.roll(opens, -1)  # a run ends where the next one opens
        return cls(order, np.stack([starts[opens], reached[closes]], axis=1))

    @property
    def size(self) -> int:
        """Number of cells."""
        return int((self.ranges[:, 1] - self.ranges[:, 0]).sum())

    @property
    def area(self) -> float:
        """Area in square degrees."""
        return self.size / cells_of_sky(self.order) * SKY_DEG2

    @property
    def cells(self) -> Integers:
        """Every cell of the region; they may be many."""
        starts, ends = self.ranges.T
        lengths = ends - starts
        before = np.cumsum(lengths) - lengths
        return np.repeat(starts - before, lengths) + np.arange(lengths.sum())

    def contains(self, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.bool_]:
        """Tell which positions (degrees) lie in the region."""
        cells = healpix_cells(ra, dec, self.order)
        return np.asarray(np.searchsorted(self.ranges.ravel(), cells, side="right") % 2 == 1)

    def complement(self) -> Moc:
        """Everything else."""
        edges = np.concatenate([[0], self.ranges.ravel(), [cells_of_sky(self.order)]]).reshape(-1, 2)
        return Moc(self.order, edges[edges[:, 1] > edges[:, 0]])

    def at_order(self, order: int, covered: float = 0.5) -> Moc:
        """Redraw the region in coarser cells.

        Parameters
        ----------
        order
            Their order; a finer one than the region's own changes nothing.
        covered
            A cell belongs to the new region if at least this part of it lies in this one: at 0.5 the area is kept
            as far as possible, and at 0 everything is that is touched.
        """
        if order >= self.order:
            return self
        shift = 2 * (self.order - order)
        starts, ends = self.ranges.T
        first, last = starts >> shift, (ends - 1) >> shift
        apart = first < last
        touched = np.concatenate([first, last[apart]])
        inside = np.concatenate(
            [np.minimum(ends, (first + 1) << shift) - starts, ends[apart] - (last[apart] << shift)],
        )
        cells, which = np.unique(touched, return_inverse=True)
        kept = cells[np.bincount(which, inside, minlength=cells.size) >= covered * 2.0**shift]
        # Between its first and its last cell a run covers every cell.
        return Moc.of_ranges(order, np.concatenate([kept, (first + 1)[apart]]), np.concatenate([kept + 1, last[apart]]))

    def within(self, ranges: int, covered: float = 0.5) -> Moc:
        """Redraw the region in the finest cells, its own or coarser ones, that make no more than ``ranges`` runs."""
        found = self
        while len(found.ranges) > ranges:
            found = self.at_order(found.order - 1, covered)
        return found

    def caps(self, count: int) -> list[tuple[float, float, float]] | None:
        """Cover the region with circles.

        Returns
        -------
        list of tuple, or None
            Right ascension, declination and radius in degrees of up to ``count`` circles, which overlap and reach
            beyond the region; None if they would cover about the whole sky.
        """
        cover = self
        while cover.order and cover.size > count:
            cover = cover.at_order(cover.order - 1, covered=0.0)
        cells = cover.cells
        if cover.area > SKY_DEG2 / 2.0 or cells.size > count:
            return None
        lon, lat = nested.healpix_to_lonlat(cells, cover.order)
        corners_lon, corners_lat = nested.vertices(cells, cover.order)
        reach = separation(lon.deg[:, None], lat.deg[:, None], corners_lon.deg, corners_lat.deg).max(axis=1) / 3600.0
        return list(zip(lon.deg.tolist(), lat.deg.tolist(), (BULGE * reach).tolist(), strict=True))

    def document(self) -> dict[str, Any]:
        """Write it for the archive: ``order``, and ``ranges`` as one list (start, end, start, …)."""
        return {"order": self.order, "ranges": self.ranges.ravel().tolist()}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Moc:
        """Read what `document` has written."""
        return cls(int(document["order"]), np.asarray(document["ranges"], np.int64).reshape(-1, 2))
