"""A simulator of alert packets, so that everything can be tried and tested without real ones.

Packets are true to the survey's schema. They come of objects of a few classes (`sources.MIXTURE`) that are observed for
two months and alerted on in one night: positions, magnitudes, images and histories of one object fit together, and a
later packet's history holds the earlier detections. Equal arguments give equal bytes.

A survey names the module that makes its packets (`Survey.simulator`). Such a module has

- ``SCHEMA``: the file with the Avro schema as JSON;
- ``Object(index, seed, source, measured, random, taken)``: one object with all that was ever measured of it. ``index``
  and ``seed``, which object of which run, determine its name; ``random`` is where everything else comes from; ``taken``
  are identifiers in use, to which its own are added. Its ``alerts(night)`` makes a packet of each detection since the
  Julian date ``night``, in order of time. `plain.PlainObject` does it for surveys whose packets are plain.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.random import Generator

from kowalski import surveys
from kowalski.testing.simulator.container import Container, Record
from kowalski.testing.simulator.observations import Measurements, Visits
from kowalski.testing.simulator.places import julian_date
from kowalski.testing.simulator.sources import MIXTURE, Source

__all__ = ["Simulated", "can_simulate", "packets", "writer"]

NIGHT = date(2023, 10, 12)
REPEATS = 0.3
ATTEMPTS = 200
"""Draws until a source is bright enough tonight; one in a few is, so this many never fail."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """One packet, and the truth about it."""

    packet: Record
    kind: str


def can_simulate(survey: str) -> bool:
    """Whether there is a simulator of a survey's packets."""
    return surveys.get(survey).simulator is not None


def writer(survey: str) -> Container:
    """Give what writes packets of ``survey`` as files."""
    return Container(_module(survey).SCHEMA)


def packets(
    count: int, survey: str, seed: int = 1, night: date = NIGHT, repeats: float = REPEATS
) -> Iterator[Simulated]:
    """Make ``count`` packets; those of one object follow each other in order of time.

    Parameters
    ----------
    survey
        Whose packets.
    seed
        Another seed gives other objects.
    night
        The night (UTC) of all alerts.
    repeats
        Part of the packets that are of an object already alerted on, from 0 to 0.9.

    Raises
    ------
    KeyError
        If there is no such survey.
    ValueError
        If its packets can't be simulated.
    """
    random = np.random.default_rng([seed, count])
    make = _module(survey).Object
    start = julian_date(night)
    taken: set[int] = set()
    for index, (kind, alerts) in enumerate(_plan(count, min(max(repeats, 0.0), 0.9), random)):
        own = np.random.default_rng([seed, count, index])
        source, measured = _observe(kind, start, alerts, own)
        seen = make(index, seed, source, measured, own, taken)
        for packet in seen.alerts(start):
            yield Simulated(packet, kind.kind)


def _module(survey: str) -> Any:
    name = surveys.get(survey).simulator
    if name is None:
        raise ValueError(f"alerts of {survey} can't be simulated")
    return importlib.import_module(name)


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
