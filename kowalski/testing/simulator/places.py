"""Dates, names, identifiers and places in the manner of the Zwicky Transient Facility."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date

from numpy.random import Generator

DAY_ZERO, ORDINAL_ZERO = 2457754.5, 1721424.5
"""Julian dates of ZTF's night 0 and of the day before 1 January of the year 1."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NAMES = len(LETTERS) ** 7


def julian_date(night: date) -> float:
    """Julian date of 0 h UTC of ``night``."""
    return night.toordinal() + ORDINAL_ZERO


def object_name(index: int, seed: int, year: int) -> str:
    """Name the ``index``-th object of a run; all names of a run differ."""
    number = (index * 7_919 + seed * 104_729) % NAMES  # 7919 and 26 have no common divisor
    letters = ""
    for _ in range(7):
        number, letter = divmod(number, len(LETTERS))
        letters = LETTERS[letter] + letters
    return f"ZTF{year % 100:02d}{letters}"


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


def unused_candid(pid: int, rest: int, taken: set[int]) -> int:
    """Make an identifier of an image's ``pid`` and the first free number from ``rest`` on; it is then taken."""
    candid = pid * 1_000_000 + rest
    while candid in taken:
        candid += 1
    taken.add(candid)
    return candid
