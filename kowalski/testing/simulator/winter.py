"""Simulated packets of WINTER."""

from __future__ import annotations

from pathlib import Path

from kowalski.surveys.winter import WINTER
from kowalski.testing.simulator.places import letters
from kowalski.testing.simulator.plain import PlainObject
from kowalski.testing.simulator.sources import G, R

SCHEMA = Path(__file__).with_name("winter_schema.json")


class Object(PlainObject):
    """One object of WINTER: Y and J stand for the two bands of the simulated sky."""

    survey = WINTER()
    schema = SCHEMA
    fids = {G: 1, R: 2}
    brighter = 2.5
    side = 81
    history = "detections"
    difference_bits = -64

    def named(self, index: int, seed: int, year: int) -> str:
        """See `PlainObject.named`."""
        return f"WNTR{year % 100:02d}{letters(index, seed, 5)}"
