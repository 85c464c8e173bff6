"""When the simulated telescope looks, how well it sees, and what it measures of a source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from kowalski.testing.simulator.sources import ZERO, Array, G, R, Source

WEEKS_DAYS = 60
"""Days before the night of which visits are simulated one by one."""
CLEAR = 0.45
"""Part of the nights with visits."""
DUSK, DAWN = 0.12, 0.52
"""When the night lasts, in days since 0 h UTC."""
THRESHOLD = 5.0
"""Signal-to-noise ratio from which a measurement is a detection."""
POGSON = 2.5 / math.log(10.0)
FLOOR = 0.015
"""Relative error that no measurement is better than."""


@dataclass(frozen=True, slots=True)
class Visits:
    """Exposures of one field in order of time; all arrays have one entry per exposure.

    Attributes
    ----------
    jd
        Julian date, with seven decimals as ZTF writes it.
    band
        1 for g, 2 for r.
    limit
        Magnitude at five times the noise.
    seeing
        Full width at half maximum, pixels.
    zero
        Photometric zero point, mag.
    """

    jd: Array
    band: NDArray[np.int64]
    limit: Array
    seeing: Array
    zero: Array

    @classmethod
    def plan(cls, random: Generator, night: float, tonight: int) -> Self:
        """Plan weeks of g and r pairs before ``night`` (JD of its 0 h UTC) and ``tonight`` exposures in it."""
        nights = np.flatnonzero(random.random(WEEKS_DAYS) < CLEAR) - float(WEEKS_DAYS)
        first = night + nights + random.uniform(DUSK, DAWN - 0.05, nights.size)
        second = first + random.uniform(0.015, 0.05, nights.size)
        slots = (np.arange(tonight) + random.uniform(0.1, 0.9, tonight)) / tonight
        jd = np.concatenate([first, second, night + DUSK + slots * (DAWN - DUSK)])
        band = np.concatenate([np.full(nights.size, G), np.full(nights.size, R), random.integers(G, R + 1, tonight)])
        order = np.argsort(jd)
        count = jd.size
        return cls(
            jd=np.round(jd[order], 7),
            band=band[order],
            limit=np.clip(random.normal(20.3, 0.4, count), 18.5, 21.2),
            seeing=np.clip(random.normal(2.2, 0.4, count), 1.4, 4.5),
            zero=np.round(random.normal(26.2, 0.1, count), 5),
        )

    def until(self, count: int) -> Self:
        """The first ``count`` exposures."""
        return type(self)(
            self.jd[:count], self.band[:count], self.limit[:count], self.seeing[:count], self.zero[:count]
        )


@dataclass(frozen=True, slots=True)
class Measurements:
    """What `Visits` yield of one source; fluxes are in the unit of `sources`, whose zero point is `ZERO`.

    Attributes
    ----------
    flux, error
        Measured difference flux and its standard deviation.
    detected
        Whether it is a detection.
    """

    visits: Visits
    flux: Array
    error: Array
    detected: NDArray[np.bool_]

    @classmethod
    def of(cls, source: Source, visits: Visits, random: Generator) -> Self:
        """Measure ``source``."""
        true = source.difference(visits.jd, visits.band)
        noise = 10.0 ** (-0.4 * (visits.limit - ZERO)) / THRESHOLD
        error = np.hypot(noise, FLOOR * true)
        flux = true + error * random.normal(0.0, 1.0, true.size)
        # noise alone makes no alert here: its five-sigma peaks would be a class of their own
        return cls(visits, flux, error, (np.abs(flux) > THRESHOLD * error) & (true != 0.0))

    def until_tonight(self, night: float, count: int) -> Self | None:
        """Cut after the ``count``-th detection of the night; None if there are fewer."""
        tonight = np.flatnonzero(self.detected & (self.visits.jd > night))
        if tonight.size < count:
            return None
        end = int(tonight[count - 1]) + 1
        return type(self)(self.visits.until(end), self.flux[:end], self.error[:end], self.detected[:end])

    def magnitude(self, index: int) -> float:
        """Magnitude of the difference, whatever its sign."""
        return ZERO - 2.5 * math.log10(abs(float(self.flux[index])))

    def magnitude_error(self, index: int) -> float:
        """Standard deviation of `magnitude`."""
        return POGSON * self.signal_error(index)

    def signal_error(self, index: int) -> float:
        """Noise-to-signal ratio."""
        return float(self.error[index] / abs(self.flux[index]))
