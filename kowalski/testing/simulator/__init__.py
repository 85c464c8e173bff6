"""Simulated alerts: packets that a survey could have sent, for tests and for trying things out.

Sources of a few classes are observed for some weeks; each detection of the night becomes a packet with its history,
stamps and forced photometry. Equal arguments give equal packets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.random import Generator

from kowalski.testing.simulator import ztf
from kowalski.testing.simulator.observations import Measurements, Visits
from kowalski.testing.simulator.sources import MIXTURE, Source

__all__ = ["SIMULATED", "Simulated", "simulate"]

SIMULATED = ("ZTF",)
"""Surveys whose packets can be simulated."""
NIGHT = date(2023, 10, 12)
MOST_VISITS = 6


@dataclass(frozen=True, slots=True)
class Simulated:
    """One packet and the truth about it."""

    candid: int
    object_id: str
    kind: str
    value: bytes


def simulate(n: int, seed: int = 1, night: date = NIGHT, repeat_frac: float = 0.2) -> Iterator[Simulated]:
    """Make ``n`` ZTF packets of one night.

    Parameters
    ----------
    seed
        Another seed makes another sky.
    night
        The UTC date on which the packets' exposures were taken.
    repeat_frac
        Part of the packets that visit an object again that has been alerted on before in the night.
    """
    random = np.random.default_rng(seed)
    container = ztf.container()
    start = night.toordinal() + 1721424.5
    made = number = 0
    while made < n:
        source, measured, visits = _object(random, start, repeat_frac)
        name = ztf.object_name(seed % 10_000 * 100_000 + number, night.year)
        target = ztf.ZtfObject(source, measured, number, name, random)
        number += 1
        tonight = np.flatnonzero(measured.detected & (measured.visits.jd > start))
        for index in tonight[: min(visits, n - made)]:
            packet = target.packet(int(index))
            made += 1
            yield Simulated(packet["candid"], name, source.kind, container.encode(packet))


def _object(random: Generator, start: float, repeat_frac: float) -> tuple[Source, Measurements, int]:
    """Draw sources until one is detected in the night; with it comes how many packets it gets."""
    kinds, weights = zip(*MIXTURE, strict=True)
    while True:
        kind = kinds[int(random.choice(len(kinds), p=weights))]
        wanted = 1 if not kind.stays or not repeat_frac else min(int(random.geometric(1.0 - repeat_frac)), MOST_VISITS)
        source = kind(random, start)
        visits = Visits.plan(random, start, MOST_VISITS)
        measured = Measurements.of(source, visits, random).until_tonight(start, wanted)
        if measured is not None:
            return source, measured, wanted
