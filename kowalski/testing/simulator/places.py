"""Dates, names, identifiers and places of simulated alerts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

from numpy.random import Generator

ORDINAL_ZERO = 1721424.5
"""Julian date of the day before 1 January of the year 1."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def julian_date(night: date) -> float:
    """Julian date of 0 h UTC of ``night``."""
    return night.toordinal() + ORDINAL_ZERO


def letters(index: int, seed: int, count: int) -> str:
    """Name the ``index``-th object of a run by ``count`` letters; all names of a run differ."""
    number = index * 7_919 + seed * 104_729  # 7919 and 26 have no common divisor
    written = ""
    for _ in range(count):
        number, letter = divmod(number, len(LETTERS))
        written = LETTERS[letter] + written
    return written


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object lies: on the sky, and on the detector when its field is observed."""

    ra: float
    dec: float
    field: int
    rcid: int
    x: float
    y: float

    @classmethod
    def draw(cls, random: Generator) -> Place:
        """Draw a place of the northern sky, uniformly."""
        low, high = math.sin(math.radians(-28.0)), math.sin(math.radians(85.0))
        return cls(
            ra=round(random.uniform(0.0, 360.0), 7) % 360.0,
            dec=round(math.degrees(math.asin(random.uniform(low, high))), 7),
            field=int(random.integers(245, 880)),
            rcid=int(random.integers(0, 64)),
            x=round(random.uniform(20.0, 3050.0), 4),
            y=round(random.uniform(20.0, 3058.0), 4),
        )


def unused(candid: int, taken: set[int]) -> int:
    """Find the first free identifier from ``candid`` on; it is then taken."""
    while candid in taken:
        candid += 1
    taken.add(candid)
    return candid
