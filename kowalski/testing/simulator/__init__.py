"""A simulator of alert packets, so that everything can be tried and tested without real ones.

Packets are true to the survey's schema. They come of objects of a few classes (`sources.MIXTURE`) that are observed for
two months and alerted on in one night: positions, magnitudes, images and histories of one object fit together, and a
later packet's history holds the earlier detections. Equal arguments give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.random import Generator

from kowalski import surveys
from kowalski.surveys.base import Alert
from kowalski.testing.simulator import lsst, ztf
from kowalski.testing.simulator.container import Container, Record
from kowalski.testing.simulator.observations import Measurements, Visits
from kowalski.testing.simulator.sources import MIXTURE, Source

__all__ = ["SURVEYS", "Simulated", "packets", "writer"]

SURVEYS = {"ZTF": ztf, "LSST": lsst}
"""Modules that make packets, by name of the survey."""
NIGHT = date(2023, 10, 12)
REPEATS = 0.3
ATTEMPTS = 200
"""Draws until a source is bright enough tonight; one in a few is, so this many never fail."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """One packet of a survey, and the truth about it."""

    packet: Record
    kind: str
    survey: str = "ZTF"

    @property
    def candid(self) -> int:
        """The alert's identifier."""
        return self._shaped().candid

    @property
    def object_id(self) -> str:
        """The object's name."""
        return self._shaped().object_id

    def _shaped(self) -> Alert:
        return surveys.get(self.survey).shape(self.packet)


def writer(survey: str = "ZTF") -> Container:
    """Give what writes packets of ``survey`` as files."""
    return Container(SURVEYS[survey].SCHEMA)


def packets(
    count: int, seed: int = 1, night: date = NIGHT, repeats: float = REPEATS, survey: str = "ZTF"
) -> Iterator[Simulated]:
    """Make ``count`` packets; those of one object follow each other in order of time.

    Parameters
    ----------
    seed
        Another seed gives other objects.
    night
        The night (UTC) of all alerts.
    repeats
        Part of the packets that are of an object already alerted on, from 0 to 0.9.
    survey
        Whose packets: a key of `SURVEYS`.
    """
    random = np.random.default_rng([seed, count])
    simulator = SURVEYS[survey]
    start = simulator.julian_date(night)
    taken: set[int] = set()
    for index, (kind, alerts) in enumerate(_plan(count, min(max(repeats, 0.0), 0.9), random)):
        own = np.random.default_rng([seed, count, index])
        source, measured = _observe(kind, start, alerts, own)
        seen = simulator.Object(index, seed, source, measured, own, taken)
        for packet in seen.alerts(start):
            yield Simulated(packet, kind.kind, survey)


def _plan(count: int, repeats: float, random: Generator) -> list[tuple[type[Source], int]]:
    """Decide of each object what it is and how many alerts it gives; what moves on is seen once."""
    if count < 1:
        return []
    objects = count - int(count * repeats)
    kinds = [MIXTURE[drawn][0] for drawn in random.choice(len(MIXTURE), objects, p=[part for _, part in MIXTURE])]
    staying = [index for index, kind in enumerate(kinds) if kind.stays]
    if not staying:
        kinds[0], staying = MIXTURE[0][0], [0]
    alerts = np.ones(objects, int)
    np.add.at(alerts, random.choice(staying, count - objects), 1)
    return list(zip(kinds, alerts.tolist(), strict=True))


def _observe(kind: type[Source], start: float, alerts: int, random: Generator) -> tuple[Source, Measurements]:
    """Draw sources until one is detected often enough in the night."""
    for _ in range(ATTEMPTS):
        source = kind(random, start)
        visits = Visits.plan(random, start, 8 + 4 * alerts)
        measured = Measurements.of(source, visits, random).until_tonight(start, alerts)
        if measured is not None:
            return source, measured
    raise RuntimeError(f"no {kind.kind} was bright enough in {ATTEMPTS} draws")
