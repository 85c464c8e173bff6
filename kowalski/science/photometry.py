"""Light curves as SkyPortal takes them: fluxes made of alert magnitudes, of forced photometry, and of fluxes as such.

Alert magnitudes are AB; their fluxes are in microjansky (zero point 23.9, Oke & Gunn 1983, ApJ 266, 713). Forced fluxes
stay in the units of their images and carry each image's zero point; calibrated ones are in nanojansky. Columns are
float64 with NaN for "no value".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kowalski.science.times import MJD_ZERO

Floats = NDArray[np.float64]
Row = Mapping[str, Any]
Bands = Mapping[Any, str]

MICROJANSKY = 23.9
"""AB magnitude of one microjansky."""
NANOJANSKY = 31.4
"""AB magnitude of one nanojansky."""
LIMIT_SIGMA = 5.0
"""Limiting magnitudes are five-sigma depths."""
FORCED_SIGMA = 3.0
"""Forced fluxes less significant than this are given as limits."""
POGSON = 2.5 / math.log(10.0)
NUMBERS = (float, int)
"""Made once: this is asked of every row of a history."""

POSITIVE = frozenset({"1", "t", "T", "y", "Y", "true", "True"})
"""How surveys write ``isdiffpos``: these, the number 1 and true mean that the science image is the brighter one."""


@dataclass(frozen=True, slots=True, eq=False)
class LightCurve:
    """Measurements in order of time; every column has one value per measurement.

    Attributes
    ----------
    mjd
        Modified Julian Date, float64, days.
    flux, fluxerr
        Difference flux and its error, float64, in units given by ``zp``; NaN flux: an upper limit of five times
        ``fluxerr``.
    zp
        AB zero point of the flux, float64, mag.
    band
        sncosmo's name of the filter, str.
    ra, dec
        Where it was measured, float64, degrees ICRS; NaN where the measurement has no position.
    program
        Program id, int64; 0 where there is none. Decides who may see the measurement.
    """

    mjd: Floats
    flux: Floats
    fluxerr: Floats
    zp: Floats
    band: NDArray[np.str_]
    ra: Floats
    dec: Floats
    program: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.mjd)

    def take(self, chosen: NDArray[Any]) -> LightCurve:
        """Choose measurements by a mask or by their indices."""
        return LightCurve(*(getattr(self, column.name)[chosen] for column in fields(self)))

    def by_program(self) -> dict[int, LightCurve]:
        """Split the measurements by program id."""
        return {int(program): self.take(self.program == program) for program in np.unique(self.program)}


def alert_photometry(rows: Sequence[Row], bands: Bands) -> LightCurve:
    """Make fluxes of alert candidates and of the earlier detections and limits that came with them.

    Parameters
    ----------
    rows
        Candidates with jd, fid, diffmaglim (mag) and, if detected, magpsf, sigmapsf (mag) and isdiffpos; optionally
        ra, dec (degrees) and programid. Of equal rows the first is kept.
    bands
        ``fid`` -> name of the filter; ``{None: name}`` for a survey of one band. Rows in other bands are dropped, and
        so are rows without a limiting magnitude above 0.
    """
    rows = [row for row in rows if row.get("fid") in bands]
    jd, magnitude, error, limit = (_column(rows, name) for name in ("jd", "magpsf", "sigmapsf", "diffmaglim"))
    sign = np.where([_is_positive(row.get("isdiffpos")) for row in rows], 1.0, -1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        flux = sign * 10.0 ** (-0.4 * (magnitude - MICROJANSKY))
        depth = 10.0 ** (-0.4 * (limit - MICROJANSKY)) / LIMIT_SIGMA
        fluxerr = np.where(np.isnan(magnitude), depth, np.abs(error * flux) / POGSON)
        usable = (limit > 0.0) & np.isfinite(fluxerr)
    band = np.array([bands[row.get("fid")] for row in rows], dtype=np.str_)
    ra, dec = _column(rows, "ra"), _column(rows, "dec")
    zero = np.full(len(rows), MICROJANSKY)
    curve = LightCurve(jd - MJD_ZERO, flux, fluxerr, zero, band, ra, dec, _programs(rows))
    return _sorted(curve.take(_first(usable, curve.mjd, band, magnitude)))


def forced_photometry(rows: Sequence[Row], bands: Bands) -> LightCurve:
    """Make a light curve of forced photometry at the position of an object.

    Parameters
    ----------
    rows
        Measurements with jd, fid, procstatus, diffmaglim (mag), magzpsci (mag) and, if there is a value,
        forcediffimflux and forcediffimfluxunc; the carrying alert's position is alert_ra, alert_dec (degrees).
        Kept are those processed without trouble (procstatus 0), with a limiting magnitude and a zero point.
    bands
        ``fid`` -> name of the filter.
    """
    rows = [row for row in rows if str(row.get("procstatus")) == "0" and row.get("fid") in bands]
    names = ("jd", "forcediffimflux", "forcediffimfluxunc", "diffmaglim", "magzpsci")
    jd, flux, fluxerr, limit, zero = (_column(rows, name) for name in names)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        depth = 10.0 ** (-0.4 * (limit - zero)) / LIMIT_SIGMA
        fluxerr = np.where(np.isnan(flux) | np.isnan(fluxerr), depth, fluxerr)
        flux = np.where(np.abs(flux / fluxerr) > FORCED_SIGMA, flux, np.nan)
        usable = (limit > 0.0) & np.isfinite(zero) & np.isfinite(fluxerr)
    band = np.array([bands[row.get("fid")] for row in rows], dtype=np.str_)
    ra, dec = _column(rows, "alert_ra"), _column(rows, "alert_dec")
    curve = LightCurve(jd - MJD_ZERO, flux, fluxerr, zero, band, ra, dec, _programs(rows))
    return _sorted(curve.take(_first(usable, curve.mjd, band, flux)))


def calibrated_photometry(rows: Sequence[Row], bands: Bands, significance: float = 0.0) -> LightCurve:
    """Make a light curve of measurements whose flux is in nanojansky.

    Parameters
    ----------
    rows
        Measurements with jd, fid, psfFlux and psfFluxErr (nJy), ra and dec (degrees). Those without a flux error are
        left out.
    bands
        ``fid`` -> name of the filter. Rows in other bands are dropped.
    significance
        Fluxes less significant than this are given as limits.
    """
    rows = [row for row in rows if row.get("fid") in bands]
    jd, flux, fluxerr = (_column(rows, name) for name in ("jd", "psfFlux", "psfFluxErr"))
    with np.errstate(divide="ignore", invalid="ignore"):
        flux = np.where(np.abs(flux / fluxerr) >= significance, flux, np.nan)
        usable = np.isfinite(fluxerr) & (fluxerr > 0.0)
    band = np.array([bands[row.get("fid")] for row in rows], dtype=np.str_)
    zero = np.full(len(rows), NANOJANSKY)
    curve = LightCurve(
        jd - MJD_ZERO, flux, fluxerr, zero, band, _column(rows, "ra"), _column(rows, "dec"), _programs(rows)
    )
    return _sorted(curve.take(_first(usable, curve.mjd, band, flux)))


def magnitudes(flux: Any, error: Any) -> dict[str, float]:
    """Derive AB magnitudes of a flux in nanojansky, under the names that alerts of other surveys have for them.

    Flux and error are what a packet holds: numbers, or anything else if its schema has changed.

    Returns
    -------
    dict
        ``diffmaglim``, the limiting magnitude at five sigma; for a flux other than 0 also ``magpsf`` and ``sigmapsf``
        of its absolute value, and ``isdiffpos``, whether it is positive. What can't be computed is left out.
    """
    # Plain floats first: this is asked of each of the hundreds of rows that a packet brings.
    derived: dict[str, float] = {}
    known = (type(error) is float or isinstance(error, NUMBERS)) and 0.0 < error < math.inf
    if known:
        derived["diffmaglim"] = NANOJANSKY - 2.5 * math.log10(LIMIT_SIGMA * error)
    if type(flux) is float or isinstance(flux, NUMBERS):
        size = abs(flux)
        if 0.0 < size < math.inf:
            derived["magpsf"] = NANOJANSKY - 2.5 * math.log10(size)
            derived["isdiffpos"] = flux > 0.0
            if known:
                derived["sigmapsf"] = POGSON * error / size
    return derived


def _column(rows: Iterable[Row], name: str) -> Floats:
    return np.array([row.get(name) for row in rows], dtype=np.float64)  # None becomes NaN


def _programs(rows: Iterable[Row]) -> NDArray[np.int64]:
    return np.array([row.get("programid") or 0 for row in rows], dtype=np.int64)


def _is_positive(value: Any) -> bool:
    return value in POSITIVE if isinstance(value, str) else value is not None and value == 1


def _first(usable: NDArray[np.bool_], mjd: Floats, band: NDArray[np.str_], value: Floats) -> NDArray[np.int64]:
    """Find the first of the usable rows that agree in time, band and value; missing values agree with each other."""
    seen: dict[tuple[float, str, float | None], int] = {}
    values = [None if value != value else value for value in value.tolist()]
    for at, key in enumerate(zip(mjd.tolist(), band.tolist(), values, strict=True)):
        if usable[at]:
            seen.setdefault(key, at)
    return np.fromiter(seen.values(), dtype=np.int64, count=len(seen))


def _sorted(curve: LightCurve) -> LightCurve:
    return curve.take(np.argsort(curve.mjd, kind="stable"))
