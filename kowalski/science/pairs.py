"""Which of many positions are near which of many sources, in whole arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kowalski.science.coordinates import Cells, Floats, separation

Indices = NDArray[np.intp]


class Pairs(NamedTuple):
    """Position ``left[k]`` and source ``right[k]`` may belong together; both have shape (k,)."""

    left: Indices
    right: Indices


def every(n_left: int, n_right: int) -> Pairs:
    """Pair every position with every source."""
    return Pairs(np.repeat(np.arange(n_left), n_right), np.tile(np.arange(n_right), n_left))


def by_cell(around: Cells, cells: Cells) -> Pairs:
    """Pair positions and sources that share a HEALPix cell.

    Parameters
    ----------
    around
        The cells around each position, shape (n, 9).
    cells
        The cell of each source, shape (m,).
    """
    flat = around.ravel()
    order = np.argsort(flat, kind="stable")
    ordered = flat[order]
    begin, end = np.searchsorted(ordered, cells, "left"), np.searchsorted(ordered, cells, "right")
    counts = end - begin
    right = np.repeat(np.arange(cells.size), counts)
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    left = order[np.repeat(begin, counts) + within] // around.shape[1]
    return Pairs(left, right)


def within(
    pairs: Pairs, radius: float, left: tuple[Floats, Floats], right: tuple[Floats, Floats]
) -> tuple[Pairs, Floats]:
    """Keep the pairs that are at most ``radius`` arcsec apart, by position and then nearest first.

    Parameters
    ----------
    left, right
        RA and Dec of positions and of sources, in degrees.

    Returns
    -------
    tuple
        The pairs, and their separations in arcsec.
    """
    arcsec = separation(left[0][pairs.left], left[1][pairs.left], right[0][pairs.right], right[1][pairs.right])
    near = np.flatnonzero(arcsec <= radius)
    ordered = near[np.lexsort((pairs.right[near], arcsec[near], pairs.left[near]))]
    return Pairs(pairs.left[ordered], pairs.right[ordered]), arcsec[ordered]
