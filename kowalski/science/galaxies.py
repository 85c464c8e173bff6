"""Whether an alert lies in a galaxy: a radius that follows from the galaxy's distance, and ellipses for M31 and M33.

Angles are in degrees unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kowalski.science.coordinates import sexagesimal

Galaxy = Mapping[str, Any]

NEAR_REDSHIFT = 0.01
"""Galaxies below it get a fixed radius: their redshift tells little of their distance."""
NEAR_MPC = 40.0
"""The same for galaxies with a distance."""
REFERENCE_REDSHIFT = 0.05
"""At this redshift one kpc is taken for one arcsec."""
MIN_REDSHIFT, MIN_MPC = 0.005, 0.005
"""Below these a projected distance in kpc means nothing."""


@dataclass(frozen=True, slots=True)
class Ellipse:
    """A galaxy so near that no cone holds it: centre, semi-major axis, axis ratio and position angle."""

    ra: float
    dec: float
    a: float
    ratio: float
    angle: float

    def holds(self, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.bool_]:
        """Whether positions lie inside.

        In the orthographic projection around the centre of the galaxy, as in q3c (Koposov & Bartunov 2006); the
        existing system projects around the alert, which turns M31 by up to a degree.
        """
        da, delta = np.radians(np.asarray(dec, float)), np.radians(np.asarray(ra, float) - self.ra)
        dg, turn = math.radians(self.dec), math.radians(self.angle)
        towards = np.sin(da) * math.sin(dg) + np.cos(da) * math.cos(dg) * np.cos(delta) > 0.0
        x = np.cos(da) * np.sin(delta)
        y = np.sin(da) * math.cos(dg) - np.cos(da) * math.sin(dg) * np.cos(delta)
        u = x * math.sin(turn) + y * math.cos(turn)
        v = x * math.cos(turn) - y * math.sin(turn)
        flattening = 1.0 - self.ratio * self.ratio
        major = math.sin(math.radians(self.a)) ** 2
        minor = major * (1.0 - flattening) / (1.0 - flattening * major)
        return np.asarray(towards & (u * u / major + v * v / minor < 1.0))


ELLIPSES: Mapping[int, Ellipse] = {
    596900: Ellipse(10.6847, 41.26901, 1.624875, 0.331283, 35.0),
    597543: Ellipse(23.46204, 30.66022, 0.603694, 0.602964, 23.0),
}
"""M31 and M33 by their ``_id`` in CLU; they are candidates for every alert."""


def _nearby(identifier: int, name: str, redshift: float, mpc: float) -> dict[str, Any]:
    ellipse = ELLIPSES[identifier]
    shape = {"ra": ellipse.ra, "dec": ellipse.dec, "a": ellipse.a, "b2a": ellipse.ratio, "pa": ellipse.angle}
    place = {"radec_str": sexagesimal(ellipse.ra, ellipse.dec)}
    return {"_id": identifier, "name": name, **shape, "z": redshift, "DistMpc": mpc, "coordinates": place}


NEARBY: tuple[dict[str, Any], ...] = (
    _nearby(596900, "PGC2557", -0.00100100006, 0.778),
    _nearby(597543, "PGC5818", -0.000597000006, 0.869),
)
"""What stands for M31 and M33 in every catalog of galaxies."""


@dataclass(frozen=True, slots=True)
class DistanceRule:
    """How the radius of a galaxy follows from its distance.

    Attributes
    ----------
    field
        The document's field that holds the distance.
    method
        Whether it is a redshift or a distance in Mpc.
    kpc
        Projected radius.
    near_arcsec
        Radius of near galaxies, in arcsec.
    """

    field: str
    method: Literal["redshift", "mpc"]
    kpc: float
    near_arcsec: float

    def radius(self, distance: float) -> float:
        """Radius in arcsec of a galaxy at ``distance`` (redshift or Mpc)."""
        if self.method == "redshift":
            return self.near_arcsec if distance < NEAR_REDSHIFT else self.kpc * (REFERENCE_REDSHIFT / distance)
        if distance < NEAR_MPC:
            return self.near_arcsec
        return math.degrees(math.atan(self.kpc / (distance * 1000.0))) * 3600.0

    def projected_kpc(self, distance: float, arcsec: float) -> float:
        """Projected distance in kpc of a point ``arcsec`` away; -1 where it can't be told."""
        if self.method == "redshift":
            return arcsec * (distance / REFERENCE_REDSHIFT) if distance > MIN_REDSHIFT else -1.0
        return math.radians(arcsec / 3600.0) * distance * 1000.0 if distance > MIN_MPC else -1.0

    def distance_of(self, galaxy: Galaxy) -> float | None:
        """The galaxy's distance, if it has one."""
        distance = galaxy.get(self.field)
        return distance if isinstance(distance, int | float) and math.isfinite(distance) else None

    def measured(self, galaxy: Galaxy, arcsec: float) -> dict[str, Any]:
        """Copy a galaxy with ``coordinates.distance_arcsec`` and ``coordinates.distance_kpc`` of a point."""
        kpc = self.projected_kpc(self.distance_of(galaxy) or -1.0, arcsec)
        place = {**galaxy.get("coordinates", {}), "distance_arcsec": round(arcsec, 2), "distance_kpc": round(kpc, 2)}
        return {**galaxy, "coordinates": place}

    def match(self, galaxy: Galaxy, arcsec: float) -> dict[str, Any] | None:
        """Give the `measured` galaxy if a point ``arcsec`` away lies in it; galaxies without a distance never match."""
        distance = self.distance_of(galaxy)
        if distance is None or galaxy.get("_id") in ELLIPSES or not arcsec < self.radius(distance):
            return None
        return self.measured(galaxy, arcsec)
