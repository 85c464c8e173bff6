"""What there is in the simulated sky: sources that vary, move, explode, or are none at all.

A source knows its flux relative to the reference image at any time, in units in which a source of magnitude `ZERO` has
flux 1, and what the reference image shows at its place.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bands = NDArray[np.int64]

ZERO = 26.0
G, R = 1, 2
"""Numbers of the bands g and r."""


def flux_of(magnitude: Any) -> Any:
    """Turn magnitudes into flux."""
    return 10.0 ** (-0.4 * (np.asarray(magnitude) - ZERO))


@dataclass(frozen=True, slots=True)
class Counterpart:
    """What the reference image shows at or near the source.

    Attributes
    ----------
    separation
        Distance from the source, arcsec.
    angle
        Direction from the source, radians from north through east.
    magnitude
        In r; g is fainter by ``colour``.
    star
        How much it looks like a star: 1 a star, 0 a galaxy.
    radius
        Half-light radius of a galaxy, arcsec.
    """

    separation: float
    angle: float
    magnitude: float
    colour: float
    star: float
    radius: float = 0.0

    def magnitude_in(self, band: int) -> float:
        """Magnitude in ``band``."""
        return self.magnitude + (self.colour if band == G else 0.0)


class Source(ABC):
    """One source.

    Parameters
    ----------
    random
        Where its properties come from.
    night
        Julian date of the beginning of the night in which it is alerted on.
    """

    kind: ClassVar[str]
    """Its class, as written into the table of truth."""
    is_real: ClassVar[bool] = True
    stays: ClassVar[bool] = True
    """Whether it is seen at the same place again."""

    counterpart: Counterpart
    known_days: float = 0.0
    """For how long before the simulated weeks it has been known."""

    @abstractmethod
    def __init__(self, random: Generator, night: float) -> None: ...

    @abstractmethod
    def difference(self, jd: Array, band: Bands) -> Array:
        """Flux above (positive) or below that of the reference image, shape of ``jd``."""


class SupernovaIa(Source):
    """A type Ia supernova: the light curve of Bazin et al. (2009, A&A 499, 653) falling in 25 (g) or 32 (r) days."""

    kind = "SN Ia"

    def __init__(self, random: Generator, night: float) -> None:
        self._peak_jd = night + random.uniform(-25.0, 6.0)
        self._peak = random.uniform(15.8, 18.8)
        self._rise = random.uniform(3.0, 4.5)
        self.counterpart = Counterpart(
            separation=float(min(random.exponential(2.0), 12.0)),
            angle=random.uniform(0.0, math.tau),
            magnitude=random.uniform(15.5, 20.5),
            colour=random.uniform(0.4, 0.9),
            star=random.uniform(0.0, 0.15),
            radius=random.uniform(1.5, 4.0),
        )

    def difference(self, jd: Array, band: Bands) -> Array:
        """See `Source.difference`."""
        fall = np.where(band == G, 25.0, 32.0)
        peak = flux_of(self._peak + np.where(band == G, 0.0, 0.1))
        return np.asarray(peak * _bazin(jd - self._peak_jd, self._rise, fall) / _bazin_peak(self._rise, fall))


def _bazin(t: Array, rise: float, fall: Array) -> Array:
    clipped = np.clip(t, -60.0, 400.0)
    return np.asarray(np.exp(-clipped / fall) / (1.0 + np.exp(-clipped / rise)))


def _bazin_peak(rise: float, fall: Array) -> Array:
    return _bazin(rise * np.log(fall / rise - 1.0), rise, fall)


class RRLyrae(Source):
    """An RR Lyrae star: a fast rise and a slow fall, twice as strong in g as what is typical in the infrared."""

    kind = "RR Lyrae"
    RISE = 0.15
    """Part of the period in which it brightens."""

    def __init__(self, random: Generator, night: float) -> None:
        self._period = random.uniform(0.45, 0.70)
        self._epoch = night - random.uniform(0.0, self._period)
        self._amplitude = random.uniform(0.6, 1.2)
        self.known_days = random.uniform(300.0, 2000.0)
        self.counterpart = Counterpart(
            separation=random.uniform(0.03, 0.3),
            angle=random.uniform(0.0, math.tau),
            magnitude=random.uniform(14.5, 17.8),
            colour=random.uniform(0.1, 0.35),
            star=random.uniform(0.95, 1.0),
        )

    def difference(self, jd: Array, band: Bands) -> Array:
        """See `Source.difference`; the reference image shows the star at its mean magnitude."""
        phase = ((jd - self._epoch) / self._period) % 1.0
        shape = np.where(phase < self.RISE, 0.5 - phase / self.RISE, (phase - self.RISE) / (1.0 - self.RISE) - 0.5)
        amplitude = self._amplitude * np.where(band == G, 1.0, 0.7)
        mean = self.counterpart.magnitude + np.where(band == G, self.counterpart.colour, 0.0)
        return np.asarray(flux_of(mean + amplitude * shape) - flux_of(mean))


class ActiveNucleus(Source):
    """An active galactic nucleus: a damped random walk in magnitude (Kelly et al. 2009, ApJ 698, 895)."""

    kind = "AGN"
    DAYS = 120

    def __init__(self, random: Generator, night: float) -> None:
        memory = math.exp(-1.0 / random.uniform(60.0, 300.0))  # of one day
        spread = random.uniform(0.15, 0.35)
        walk = np.empty(self.DAYS + 3)
        walk[0] = random.choice((-1.0, 1.0)) * random.uniform(0.3, 0.8)  # since the reference image was made
        kicks = random.normal(0.0, spread * math.sqrt(1.0 - memory**2), walk.size)
        for day in range(1, walk.size):
            walk[day] = memory * walk[day - 1] + kicks[day]
        self._days = night - self.DAYS + np.arange(walk.size)
        self._walk = walk
        self.known_days = random.uniform(200.0, 2000.0)
        self.counterpart = Counterpart(
            separation=random.uniform(0.03, 0.25),
            angle=random.uniform(0.0, math.tau),
            magnitude=random.uniform(16.0, 18.5),
            colour=random.uniform(0.1, 0.6),
            star=random.uniform(0.2, 0.9),
            radius=random.uniform(1.0, 2.0),
        )

    def difference(self, jd: Array, band: Bands) -> Array:
        """See `Source.difference`."""
        offset = np.interp(jd, self._days, self._walk) * np.where(band == G, 1.0, 0.8)
        mean = self.counterpart.magnitude + np.where(band == G, self.counterpart.colour, 0.0)
        return np.asarray(flux_of(mean + offset) - flux_of(mean))


class Asteroid(Source):
    """A minor planet: seen once at a place where the reference image shows nothing."""

    kind = "asteroid"
    stays = False

    def __init__(self, random: Generator, night: float) -> None:
        self.predicted = random.uniform(16.5, 19.5)
        """Its magnitude in r by its ephemeris."""
        self.name = str(random.integers(1000, 600_000))
        self._night = night
        self.counterpart = _neighbour(random)

    def difference(self, jd: Array, band: Bands) -> Array:
        """See `Source.difference`; it is elsewhere on all other nights."""
        here = np.where(jd > self._night, 1.0, 0.0)
        return np.asarray(here * flux_of(self.predicted + np.where(band == G, 0.5, 0.0)))


class Bogus(Source):
    """No source at all: what subtraction leaves, a cosmic ray or a bad column; it comes and goes."""

    kind = "bogus"
    is_real = False

    def __init__(self, random: Generator, night: float) -> None:
        self._random = random.spawn(1)[0]
        self._magnitude = random.uniform(15.5, 19.0)
        self._sign = random.choice((-1.0, 1.0))
        self._night = night
        self.artefact = str(random.choice(("cosmic ray", "dipole", "column")))
        self.known_days = random.uniform(0.0, 800.0)
        self.counterpart = _neighbour(random)

    def difference(self, jd: Array, band: Bands) -> Array:
        """See `Source.difference`."""
        chance = np.where(jd > self._night, 0.7, 0.15)
        there = self._random.random(jd.shape) < chance
        wobble = self._random.normal(0.0, 0.4, jd.shape)
        return np.asarray(there * self._sign * flux_of(self._magnitude + wobble))


def _neighbour(random: Generator) -> Counterpart:
    """Something unrelated in the reference image."""
    return Counterpart(
        separation=random.uniform(4.0, 20.0),
        angle=random.uniform(0.0, math.tau),
        magnitude=random.uniform(17.0, 22.0),
        colour=random.uniform(0.2, 1.2),
        star=random.uniform(0.0, 1.0),
        radius=1.0,
    )


MIXTURE: tuple[tuple[type[Source], float], ...] = (
    (SupernovaIa, 0.15),
    (RRLyrae, 0.30),
    (ActiveNucleus, 0.20),
    (Asteroid, 0.20),
    (Bogus, 0.15),
)
"""Classes and how frequent they are."""
