"""Positions on the sky: the forms in which the archive keeps them, separations, and HEALPix cells.

Angles are in degrees, ICRS, unless said otherwise; arrays have shape (n,).
"""

from __future__ import annotations

import math
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import Latitude, Longitude
from cdshealpix import nested
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Cells = NDArray[np.int64]
Bools = NDArray[np.bool_]

ICRS_TO_GALACTIC = np.array(
    [
        [-0.05487565771259168, -0.8734370519556163, -0.4838350736167155],
        [0.4941094371927275, -0.44482972122329517, 0.7469821839866676],
        [-0.8676661375596587, -0.19807633727300059, 0.4559838136873017],
    ]
)
"""Rotation to Galactic coordinates through FK5 J2000, as the IAU defined them (Blaauw et al. 1960; Murray 1989)."""

ICRS_TO_ECLIPTIC = np.array(
    [
        [9.9999999999999423e-01, -7.0783689580792218e-08, 8.0562139747333773e-08],
        [3.2897004077419646e-08, 9.1748212991495849e-01, 3.9777699944404782e-01],
        [-1.0207044725484357e-07, -3.9777699944404304e-01, 9.1748212991495559e-01],
    ]
)
"""Rotation to the mean ecliptic and equinox of J2000 (IAU 2006 obliquity, frame bias included)."""

ALERT_ORDER = 14
"""HEALPix order of the cell that alerts and objects carry; nine of them hold whatever is within 8 arcsec."""
WIDEST_RADIUS = 2.0 * 2.0**16
"""Radius in arcsec, times 2**-order, up to which the nine cells around a position hold every neighbour."""
_CENTRE = 4
"""Which of the nine cells holds the position itself."""
CURVED = 20.0
"""Within so many cells of a pole their edges are too curved to be taken for great circles."""
BENT = 0.05
"""By how much of its width an edge elsewhere may lie beside the great circle through its ends."""


def unit_vectors(ra: ArrayLike, dec: ArrayLike) -> Floats:
    """Turn positions into unit vectors, shape (3, n)."""
    a, d = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def _rotated(rotation: Floats, ra: ArrayLike, dec: ArrayLike) -> tuple[Floats, Floats]:
    """Longitude and latitude after a rotation.

    Written out because the last digit of a matrix product depends on how many positions are in it: the same alert must
    get the same coordinates in every batch.
    """
    vectors = unit_vectors(ra, dec)
    x, y, z = (row[0] * vectors[0] + row[1] * vectors[1] + row[2] * vectors[2] for row in rotation)
    return np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))


def galactic(ra: ArrayLike, dec: ArrayLike) -> tuple[Floats, Floats]:
    """Galactic longitude in (-180, 180] and latitude."""
    return _rotated(ICRS_TO_GALACTIC, ra, dec)


def ecliptic(ra: ArrayLike, dec: ArrayLike) -> tuple[Floats, Floats]:
    """Longitude in [0, 360) and latitude on the mean ecliptic of J2000."""
    longitude, latitude = _rotated(ICRS_TO_ECLIPTIC, ra, dec)
    wrapped = longitude % 360.0
    return np.where(wrapped >= 360.0, 0.0, wrapped), latitude


def separation(ra1: ArrayLike, dec1: ArrayLike, ra2: ArrayLike, dec2: ArrayLike) -> Floats:
    """Great-circle distance in arcsec, exact for small and large angles (Vincenty's formula)."""
    a = np.radians(np.asarray(ra2, float) - np.asarray(ra1, float))
    d1, d2 = np.radians(np.asarray(dec1, float)), np.radians(np.asarray(dec2, float))
    across = np.hypot(np.cos(d2) * np.sin(a), np.cos(d1) * np.sin(d2) - np.sin(d1) * np.cos(d2) * np.cos(a))
    along = np.sin(d1) * np.sin(d2) + np.cos(d1) * np.cos(d2) * np.cos(a)
    return np.asarray(np.degrees(np.arctan2(across, along)) * 3600.0)


def sexagesimal(ra: float, dec: float) -> list[str]:
    """Write a position as ``[HH:MM:SS.ssss, DD:MM:SS.sss]``; seconds that round to 60 are carried over.

    Raises
    ------
    ValueError
        If ``ra`` is outside [0, 360] or ``dec`` outside [-90, 90].
    """
    if not (0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        raise ValueError(f"ra {ra} or dec {dec} is out of range")
    ticks = round(ra / 15.0 * 3600.0 * 10_000) % (24 * 3600 * 10_000)
    hours, rest = divmod(ticks, 3600 * 10_000)
    minutes, seconds = divmod(rest, 60 * 10_000)
    right = f"{hours:02d}:{minutes:02d}:{seconds // 10_000:02d}.{seconds % 10_000:04d}"
    degrees, rest = divmod(round(abs(dec) * 3600.0 * 1000), 3600 * 1000)
    minutes, seconds = divmod(rest, 60 * 1000)
    # Two characters with the sign, as archived documents have them: -5 and -0, but 05.
    whole = f"-{degrees}" if dec < 0.0 else f"{degrees:02d}"
    return [right, f"{whole}:{minutes:02d}:{seconds // 1000:02d}.{seconds % 1000:03d}"]


def documents(ra: Floats, dec: Floats) -> list[dict[str, Any]]:
    """Build the ``coordinates`` of stored alerts, one per position.

    ``radec_geojson`` is a GeoJSON point with longitude RA - 180, so that MongoDB's 2dsphere index takes it; by the
    HEALPix cell many positions are searched at once.
    """
    cells = healpix_cells(ra, dec, ALERT_ORDER).tolist()
    galactic_lon, galactic_lat = (values.tolist() for values in galactic(ra, dec))
    ecliptic_lon, ecliptic_lat = (values.tolist() for values in ecliptic(ra, dec))
    return [
        {
            "radec_str": sexagesimal(a, d),
            "radec_geojson": {"type": "Point", "coordinates": [a - 180.0, d]},
            "l": galactic_lon[i],
            "b": galactic_lat[i],
            "geocentricmeanecliptic": {"lambda": ecliptic_lon[i], "beta": ecliptic_lat[i]},
            f"hpx_{ALERT_ORDER}": cells[i],
        }
        for i, (a, d) in enumerate(zip(ra.tolist(), dec.tolist(), strict=True))
    ]


def healpix_field(order: int) -> str:
    """Name of the catalog field that holds the nested HEALPix cell of ``order``."""
    return f"coordinates.hpx_{order}"


def healpix_cells(ra: ArrayLike, dec: ArrayLike, order: int) -> Cells:
    """Nested HEALPix cell of each position."""
    lon, lat = Longitude(np.asarray(ra, float), u.deg), Latitude(dec, u.deg)
    return np.asarray(nested.lonlat_to_healpix(lon, lat, order, num_threads=1), np.int64)


def healpix_neighbourhood(ra: ArrayLike, dec: ArrayLike, order: int) -> Cells:
    """The nine cells around each position, shape (n, 9); -1 where a corner of the grid has only eight."""
    neighbours = nested.neighbours(healpix_cells(ra, dec, order), order, num_threads=1)
    return np.asarray(neighbours, np.int64).reshape(-1, 9)


def healpix_cones(ra: ArrayLike, dec: ArrayLike, radius: float, order: int) -> Cells:
    """Cells that hold everything within a radius of each position: those of the nine around it that the cone touches.

    Away from the poles that is a sixth to six tenths of the nine; the smaller the radius is for the cells, the fewer.

    Parameters
    ----------
    radius
        In arcsec; the nine cells must be wider (see `best_order`).

    Returns
    -------
    ndarray
        Shape (n, 9); -1 in place of cells that are not needed.
    """
    right, up = np.asarray(ra, float), np.asarray(dec, float)
    around = healpix_neighbourhood(right, up, order)
    # The edges of cells are taken for great circles, which they are not quite; least of all around the poles.
    width = np.degrees(math.sqrt(math.pi / 3.0) * 2.0**-order)
    straight = np.abs(up) < 90.0 - CURVED * width
    apart = _edge_distance(right[straight], up[straight], around[straight], order)
    apart[:, _CENTRE] = 0.0
    touched = apart <= radius + BENT * width * 3600.0
    around[straight] = np.where(touched, around[straight], -1)
    return around


def _edge_distance(ra: Floats, dec: Floats, cells: Cells, order: int) -> Floats:
    """Distance in arcsec from positions (n,) to the edges of cells (n, k) near them, in the gnomonic projection."""
    lon, lat = nested.vertices(np.where(cells < 0, 0, cells).ravel().astype(np.uint64), order, num_threads=1)
    shape = (*cells.shape, 4)
    a = np.asarray(lon.rad).reshape(shape) - np.radians(ra)[:, None, None]
    d, d0 = np.asarray(lat.rad).reshape(shape), np.radians(dec)[:, None, None]
    depth = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(a)
    x = np.cos(d) * np.sin(a) / depth
    y = (np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a)) / depth
    dx, dy = np.roll(x, -1, axis=-1) - x, np.roll(y, -1, axis=-1) - y
    along = np.clip(-(x * dx + y * dy) / (dx * dx + dy * dy), 0.0, 1.0)
    nearest = np.hypot(x + along * dx, y + along * dy).min(axis=-1)
    return np.asarray(np.where(cells < 0, np.inf, np.degrees(nearest) * 3600.0))


def best_order(radius: float, orders: list[int]) -> int | None:
    """Choose the finest of ``orders`` whose nine cells hold every neighbour within ``radius`` arcsec, if any."""
    return max((order for order in orders if radius <= WIDEST_RADIUS * 2.0**-order), default=None)
